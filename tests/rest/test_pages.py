"""Pages cover a window exactly, at least weight."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.market import DAY_US, INTERVALS, MINUTE_US, Market, to_us
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rest.pages import Page, bounds, next_page, page_cost, plan_pages

T0 = 1_704_067_200_000_000  # 2024-01-01


@settings(max_examples=200, deadline=None)
@given(
    market=st.sampled_from(list(Market)),
    interval=st.sampled_from(list(INTERVALS.values())),
    offset=st.integers(-(10**12), 10**12),
    rows=st.integers(0, 4000),
)
def test_pages_cover_exactly_and_never_hold_more_than_their_limit(market, interval, offset, rows):
    if market not in interval.markets:
        return
    start = T0 + offset
    end = min(interval.advance(interval.ceil(start), rows), to_us(pages_end())) - 1 if rows else start
    planned = list(plan_pages(market, interval, start, end))
    assert sum(interval.count(p.start_us, p.end_us) for p in planned) == interval.count(start, end)
    for a, b in pairwise(planned):
        assert a.end_us == b.start_us
    for page in planned:
        assert 1 <= interval.count(page.start_us, page.end_us) <= page.limit
        assert page.weight == page_cost(market, page.limit)
        if market is Market.CM:
            assert page.end_us - page.start_us <= 200 * DAY_US
    if planned:
        assert (planned[0].start_us, planned[-1].end_us) == interval.align(start, end)


def plan_cost(market, interval, start, end):
    """Requests and weight of a window."""
    planned = list(plan_pages(market, interval, start, end))
    return len(planned), sum(page.weight for page in planned)


def pages_end():
    from datetime import UTC, datetime

    return datetime(2400, 1, 1, tzinfo=UTC)


@cache
def least(rows: int) -> tuple[int, int]:
    """Weight and requests of the best plan, by trying all."""
    if rows <= 0:
        return (0, 0)
    costs = {99: 1, 499: 2, 1000: 5, 1500: 10}
    options = [(weight + least(rows - limit)[0], 1 + least(rows - limit)[1]) for limit, weight in costs.items()]
    return min(options)


@pytest.mark.parametrize("rows", [1, 99, 100, 499, 500, 598, 999, 1000, 1001, 1097, 1499, 1500, 2000, 2495, 2996, 3000])
def test_futures_plans_weigh_the_least(rows):
    requests, weight = plan_cost(Market.UM, INTERVALS["1m"], T0, T0 + rows * MINUTE_US)
    assert (weight, requests) == least(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6000))
def test_futures_plans_weigh_the_least_for_any_window(rows):
    requests, weight = plan_cost(Market.CM, INTERVALS["1m"], T0, T0 + rows * MINUTE_US)
    assert (weight, requests) == least(rows)


@pytest.mark.parametrize(("rows", "requests"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (2001, 3)])
def test_spot_asks_pages_of_a_thousand(rows, requests):
    assert plan_cost(Market.SPOT, INTERVALS["1m"], T0, T0 + rows * MINUTE_US) == (requests, 2 * requests)


def test_cm_days_are_bounded_by_the_window_not_by_the_limit():
    planned = list(plan_pages(Market.CM, INTERVALS["1d"], T0, T0 + 450 * DAY_US))
    assert [(p.end_us - p.start_us) // DAY_US for p in planned] == [200, 200, 50]


def test_both_times_are_inclusive_so_the_end_is_one_millisecond_less():
    assert bounds(T0, T0 + MINUTE_US) == {"startTime": 1_704_067_200_000, "endTime": 1_704_067_259_999}
    assert bounds(T0 + 1, T0 + MINUTE_US + 1)["startTime"] == 1_704_067_200_001


def test_a_silently_capped_page_is_asked_on_from_its_last_row():
    minute = INTERVALS["1m"]
    page = Page(T0, T0 + 1000 * MINUTE_US, 1000, 2)
    last = T0 + 499 * MINUTE_US
    assert next_page(Market.SPOT, minute, page, 500, T0, last) == Page(last + MINUTE_US, page.end_us, 1000, 2)
    assert next_page(Market.SPOT, minute, page, 1000, T0, T0 + 999 * MINUTE_US) is None
    assert next_page(Market.SPOT, minute, page, 493, T0, last) is None, "a hole, not a cap"
    assert next_page(Market.SPOT, minute, page, 0, T0, T0) is None
    # A hole of 100 rows inside, but the window's last row is there.
    assert next_page(Market.SPOT, minute, page, 900, T0, T0 + 999 * MINUTE_US) is None


def test_a_capped_page_of_cm_lacks_its_older_part():
    minute = INTERVALS["1m"]
    page = Page(T0, T0 + 499 * MINUTE_US, 499, 2)
    first = T0 + 399 * MINUTE_US
    assert next_page(Market.CM, minute, page, 100, first, page.end_us - MINUTE_US) == Page(T0, first, 499, 2)


def test_limits_are_the_best_of_their_weight():
    assert [page_cost(Market.UM, limit) for limit in KLINES.rest[Market.UM].limits] == [1, 2, 5, 10]


@pytest.mark.parametrize("market", list(Market))
@pytest.mark.parametrize("rows", [1, 99, 100, 499, 500, 1000, 1001, 1500, 1501, 9000])
def test_few_pages_are_asked_for_where_few_do(market: Market, rows: int) -> None:
    start, end = T0, T0 + rows * MINUTE_US
    planned = list(plan_pages(market, INTERVALS["1m"], start, end, few=True))
    most = 1000 if market is Market.SPOT else 1500
    if rows <= most:
        assert [(page.start_us, page.end_us) for page in planned] == [(start, end)]
        assert planned[0].limit >= rows
    else:
        assert planned == list(plan_pages(market, INTERVALS["1m"], start, end))
