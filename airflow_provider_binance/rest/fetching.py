"""Planned pages of klines → checked rows, with what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_binance.errors import RequestRejectedError
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import KlineRows, page_rows
from airflow_provider_binance.records import Series
from airflow_provider_binance.rest.pages import Page, next_page

#: Invalid symbol, and futures' symbol that is listed but not tradable.
_NOT_SERVED = (-1121, -1122)


class PageSource(Protocol):
    """What asks for a page."""

    def kline_page(
        self, market: Market, symbol: str, interval: str, start_us: int, end_us: int, limit: int
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Pages:
    """The rows of some pages, and what they cost; `refusal`: REST does not serve the series."""

    rows: KlineRows
    requests: int
    weight: int
    size: int
    refusal: RequestRejectedError | None = None


def fetch_pages(rest: PageSource, series: Series, pages: Sequence[Page]) -> Pages:
    """The rows of `pages` in order; a page that comes back short is followed by the rest of it."""
    interval, market = INTERVALS[series.interval], Market(series.market)
    parts: list[KlineRows] = []
    requests = weight = size = 0
    for planned in pages:
        page: Page | None = planned
        while page is not None:
            requests += 1
            weight += page.weight
            try:
                body = rest.kline_page(market, series.symbol, series.interval, page.start_us, page.end_us, page.limit)
            except RequestRejectedError as error:
                if error.code not in _NOT_SERVED:
                    raise
                return Pages(page_rows(b"[]", market, interval), requests, weight, size, error)
            size += len(body)
            rows = page_rows(body, market, interval).between(page.start_us, page.end_us)
            parts.append(rows)
            page = next_page(market, interval, page, len(rows), rows.first_us, rows.last_us) if len(rows) else None
    return Pages(KlineRows.joined(parts, market, interval), requests, weight, size)
