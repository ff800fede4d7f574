"""`Filler`: what a stream did not bring, by REST and as records, without a store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import RequestRejectedError
from airflow_provider_binance.market import INTERVALS, MINUTE_US, Market, to_us
from airflow_provider_binance.market_data import MarketData, arrived
from airflow_provider_binance.normalize_ticks import page_ticks
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.rest.fetching import fetch_pages
from airflow_provider_binance.rest.pages import plan_pages
from airflow_provider_binance.symbols import Symbols

P = ParamSpec("P")
T = TypeVar("T")

#: Binance: what is asked for is older than what is served.
TOO_OLD = -4166
#: Requests side by side.
HANDS = 4
#: A request that is under way is waited for so long when all ends.
CLOSE_SECONDS = 3.0
#: How long a wait for the budget lasts at most until it is seen that nobody waits for it any more.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Filled:
    """What REST has of a series: rows by key, ascending, and before which key it has no others."""

    rows: Sequence[tuple[int, MarketData]]
    upto: int


class Filler:
    """Asks REST within the weight budget: `live` what is due now, `repair` what was missed.

    What it does waits: call it by `in_thread`.
    """

    def __init__(self, config: BinanceConfig) -> None:
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(HANDS, thread_name_prefix="fill")
        self._rests = {
            name: BinanceRest(config, priority=name, sleep=self._sleep, wait=self._wait) for name in ("live", "repair")
        }

    async def in_thread(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `ask` says, which may take its time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(ask, *args, **kwargs))

    async def close(self) -> None:
        """Nobody waits any more: whoever waits for the budget, or for another try, ends with a CancelledError, and a
        request that is under way by its time-out at the latest."""
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        ending = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.wait([ending], timeout=CLOSE_SECONDS)

    def _close(self) -> None:
        self._threads.shutdown()
        for rest in self._rests.values():
            rest.close()

    def resolve(self, symbols: Sequence[str], market: Market, dataset: str) -> list[str]:
        """The symbols that names and patterns mean; raises UnknownSymbolError."""
        return Symbols(self._rests["live"], None).resolve(symbols, market, dataset)

    def admit(self, market: Market) -> None:
        """Wait until another attempt to connect may be made."""
        self._rests["live"].admit_connection(market)

    def ask_time(self, market: Market) -> int:
        """The server's clock."""
        return self._rests["live"].server_now_us(market)

    def now_us(self, market: Market) -> int:
        """The server's clock as it was when it was asked for; this does not wait."""
        return self._rests["live"].server_now_us(market, ask=False)

    def between(self, series: Series, start: int, end: int, *, is_late: bool, now_us: int) -> Filled:
        """A page of the rows whose keys are in `[start, end)`, from `start` on, or from the first that is served."""
        rest = self._rests["live" if is_late else "repair"]
        if series.interval:
            return self._klines(rest, series, start, end)
        try:
            rows = self._ticks(rest, series, fromId=start)
        except RequestRejectedError as error:
            if error.code != TOO_OLD:
                raise
            rows = self._ticks(rest, series, startTime=_oldest_us(series, now_us) // 1000)
        # What comes behind a page is in the next one; behind a short one there is nothing yet.
        upto = max(start, min(end, rows[-1][0] + 1)) if rows else start
        return Filled([row for row in rows if start <= row[0] < end], upto)

    def since(self, series: Series, start: int | None, since_us: int) -> Sequence[tuple[int, MarketData]]:
        """A page of the ticks from id `start` on; without one the newest tick, if it happened after `since_us`."""
        rest, market = self._rests["repair"], Market(series.market)
        if start is not None:
            return self._ticks(rest, series, fromId=start)
        rows = self._ticks(rest, series, registered(series.dataset).by_id[market].newest, limit=1)
        return [row for row in rows if to_us(row[1].trade_time) > since_us]  # type: ignore[union-attr]

    def _klines(self, rest: BinanceRest, series: Series, start: int, end: int) -> Filled:
        page = next(plan_pages(Market(series.market), INTERVALS[series.interval], start, end, few=True))
        found = fetch_pages(rest, series, [page], self._stopped)
        if found.refusal is not None:
            raise found.refusal
        make = partial(arrived, series.dataset, event_time=None, received_at=_now(), source=Source.REST)
        return Filled([(to_us(row.open_time), make(row)) for row in found.rows.klines(series)], page.end_us)

    def _ticks(
        self, rest: BinanceRest, series: Series, path: str | None = None, **parameters: int
    ) -> list[tuple[int, MarketData]]:
        market = Market(series.market)
        paging = registered(series.dataset).by_id[market]
        body = rest.tick_page(market, path or paging.path, series.symbol, {"limit": paging.limit, **parameters})
        page = page_ticks(body, series.dataset, market)
        make = partial(arrived, series.dataset, event_time=None, received_at=_now(), source=Source.REST)
        return list(zip(page.ids.tolist(), map(make, page.records(series)), strict=True))

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise CancelledError

    def _wait(self, told: threading.Condition, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self._stopped.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return False
            if told.wait(min(left, _LOOK_SECONDS)):
                return True
        raise CancelledError


def _now() -> datetime:
    return datetime.now(UTC)


def _oldest_us(series: Series, now_us: int) -> int:
    """Where REST's history of a futures' series begins, on the safe side."""
    return now_us - (registered(series.dataset).by_id[Market(series.market)].reach_us or 0) + MINUTE_US
