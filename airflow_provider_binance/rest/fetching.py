"""Planned pages of klines → checked rows, with what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from airflow_provider_binance.errors import RequestRejectedError
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.records import Series
from airflow_provider_binance.rest.meter import Meter
from airflow_provider_binance.rest.pages import Page, next_page

#: Invalid symbol, and futures' symbol that is listed but not tradable.
NOT_SERVED = (-1121, -1122)


class PageSource(Protocol):
    """What asks for a page, and counts what that costs in truth, retries included."""

    def measure(self) -> AbstractContextManager[Meter]: ...

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


def fetch_pages(rest: PageSource, series: Series, pages: Sequence[Page], stopped: Event) -> Pages:
    """The rows of `pages` in order; a page that comes back short is followed by the rest of it.

    Raises CancelledError between two pages once `stopped` is set: nobody waits for the rows any more.
    """
    interval, market = INTERVALS[series.interval], Market(series.market)
    parts: list[KlineRows] = []
    size = 0
    with rest.measure() as meter:
        for planned in pages:
            page: Page | None = planned
            while page is not None:
                if stopped.is_set():
                    raise CancelledError
                try:
                    body = rest.kline_page(
                        market, series.symbol, series.interval, page.start_us, page.end_us, page.limit
                    )  # fmt: skip
                except RequestRejectedError as error:
                    if error.code not in NOT_SERVED:
                        raise
                    return Pages(page_rows(b"[]", market, interval), meter.requests, meter.weight, size, error)
                size += len(body)
                rows = page_rows(body, market, interval).between(page.start_us, page.end_us)
                parts.append(rows)
                page = next_page(market, interval, page, len(rows), rows.first_us, rows.last_us) if len(rows) else None
        return Pages(KlineRows.joined(parts, market, interval), meter.requests, meter.weight, size)
