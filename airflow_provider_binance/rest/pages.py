"""Paging klines: `[start, end)` → the fewest, cheapest requests that miss nothing. Pure.

A page's window never holds more klines than its `limit`. So it does not matter that cm answers with the *newest* rows
of a window and the others with the oldest, and all pages are known before the first is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from airflow_provider_binance.market import DAY_US, Interval, Market
from airflow_provider_binance.registry import KLINES, IdPaging
from airflow_provider_binance.rest.costs import charge

# Caps of Binance are round numbers: 100, 500, 1000. Holes of the exchange seldom leave one.
ROUND = 100


@dataclass(frozen=True, slots=True)
class Page:
    """One request: the klines that open in `[start_us, end_us)`, of which there are at most `limit`."""

    start_us: int
    end_us: int
    limit: int
    weight: int


def bounds(start_us: int, end_us: int) -> dict[str, int]:
    """`startTime` and `endTime` of a half-open window. Binance includes both: the −1 is here and nowhere else."""
    return {"startTime": -(-start_us // 1000), "endTime": -(-end_us // 1000) - 1}


def page_cost(market: Market, limit: int) -> int:
    """The weight of one page."""
    return charge(KLINES.rest[market].path, {"limit": str(limit)}).weight


def page_weight(paging: IdPaging) -> int:
    """The weight of one page by id."""
    return charge(paging.path, {"limit": str(paging.limit)}).weight


def row_cost(market: Market) -> float:
    """The weight of one row in the pages of a long window."""
    limit = _cheapest(market)
    return page_cost(market, limit) / limit


def plan_pages(market: Market, interval: Interval, start_us: int, end_us: int, *, few: bool = False) -> Iterator[Page]:
    """The pages of a window, ascending, without overlap.

    The rule: least weight; of equal weight, fewest requests. On futures that makes up to 99 rows one page of weight 1,
    and a long window pages of 499 (weight 2) whose last one is as cheap as is enough. With `few`, a window that one
    page can hold is one page, up to 1,500 rows on futures: for who waits for one answer, and not for the budget.
    """
    at, stop = interval.align(start_us, end_us)
    rows = interval.count(at, stop) if few else 0
    limits = KLINES.rest[market].limits
    if few and 0 < rows <= limits[-1] and stop - at <= (_window_us(market) or stop):
        limit = next(limit for limit in limits if rows <= limit)
        yield Page(at, stop, limit, page_cost(market, limit))
        return
    most_us = _window_us(market)
    while at < stop:
        within = interval.floor(min(stop, at + most_us)) if most_us else stop
        # A window of 200 days always holds at least one kline: the longest interval is a month.
        limit = _best_limit(market, interval.count(at, within))
        upto = min(interval.advance(at, limit), within)
        yield Page(at, upto, limit, page_cost(market, limit))
        at = upto


def next_page(
    market: Market, interval: Interval, page: Page, rows: int, first_open_us: int, last_open_us: int
) -> Page | None:
    """What to ask after `page` was answered with `rows` klines from `first_open_us` to `last_open_us`; usually nothing.

    Binance may one day cap `limit` lower than today and not say so. An answer that is shorter than its window, ends (on
    cm: begins) inside it, and has a round number of rows is taken for capped, and the part that it lacks is asked for.
    An answer that is short in another way has a hole of the exchange's, which asking again would not fill.
    """
    if not rows or rows % ROUND or rows >= interval.count(page.start_us, page.end_us):
        return None
    if KLINES.rest[market].newest_first:
        return replace(page, end_us=first_open_us) if first_open_us > page.start_us else None
    at = interval.next_open(last_open_us)
    return replace(page, start_us=at) if at < page.end_us else None


def _window_us(market: Market) -> int:
    """How wide a window the market takes; 0: any."""
    return (KLINES.rest[market].max_window_days or 0) * DAY_US


def _best_limit(market: Market, rows: int) -> int:
    """The limit of the first page of the best plan for so many rows."""
    limits = KLINES.rest[market].limits
    if rows > 3 * limits[-1]:
        return _cheapest(market)
    return -_best_plan(market, rows)[2]


@cache
def _cheapest(market: Market) -> int:
    """The limit whose rows weigh the least."""
    return min(KLINES.rest[market].limits, key=lambda limit: page_cost(market, limit) / limit)


@cache
def _best_plan(market: Market, rows: int) -> tuple[int, int, int]:
    """Weight, requests and −(limit of the first page) of the best plan; the smallest such tuple is the best."""
    if rows <= 0:
        return (0, 0, 0)
    plans = []
    for limit in KLINES.rest[market].limits:
        weight, requests, _ = _best_plan(market, rows - limit)
        plans.append((weight + page_cost(market, limit), requests + 1, -limit))
    return min(plans)
