"""Binance market data for plain Python: `BinanceDataProvider`, which works without a store and without Airflow."""

from __future__ import annotations

import asyncio
import gc
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Interval, Market, from_us, parse_interval, to_us
from airflow_provider_binance.market_data import Gap, MarketData
from airflow_provider_binance.records import Kline, Series
from airflow_provider_binance.registry import KLINES, Kind
from airflow_provider_binance.windows import NOW, check_window, parse_instant

__all__ = ["BinanceDataProvider", "DataProviderInterface", "Gap", "MarketData"]

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: Rows converted at a time: 1 ms or so in which numpy lets no other thread run.
_BLOCK_ROWS: Final = 2_000
#: Rows fetched at a time, to bound what lives as Klines: they are four times as big as their columns.
_WINDOW_ROWS: Final = 20_000
#: Records handed on before others of the event loop get a turn.
_TURN_RECORDS: Final = 64
#: Binance opened on 2017-07-14; nothing is older.
_FIRST_DAY_US: Final = to_us(datetime(2017, 7, 1, tzinfo=UTC))


class DataProviderInterface(ABC):
    """A source of market data: the past as DataFrames, the present as a stream of records."""

    @abstractmethod
    async def get_historical_data(
        self,
        symbol: str,
        timeframe: str,
        start: datetime | str,
        end: datetime | str,
        *,
        market: str = "spot",
        exact: bool = True,
    ) -> pd.DataFrame:
        """The closed klines that open in `[start, end)`, ascending, one row each, without blocking the event loop."""

    @abstractmethod
    def get_real_time_data(
        self,
        symbols: Sequence[str],
        *,
        market: str = "spot",
        datasets: Sequence[str] | None = None,
        intervals: Sequence[str] | None = None,
        fill_gaps: bool = True,
        buffer: int = 10_000,
        on_full: str = "wait",
    ) -> AsyncGenerator[MarketData, None]:
        """The records of `symbols` as they happen, continuous over reconnects, until the caller stops."""


class BinanceDataProvider(DataProviderInterface):
    """Binance as a source of market data. Public data needs no key; constructing reads and opens nothing.

    Args:
        api_key: takes the place of the settings' key.
        api_secret: takes the place of the settings' secret.
        config: settings; default: environment `BINANCE_<FIELD>`, read at the first call.
    """

    def __init__(
        self, api_key: str | None = None, api_secret: str | None = None, *, config: BinanceConfig | None = None
    ) -> None:
        given = {"api_key": api_key, "api_secret": api_secret}
        self._secrets: dict[str, Any] = {
            name: SecretStr(text.strip()) for name, text in given.items() if text is not None
        }
        self._config = config

    async def get_historical_data(
        self,
        symbol: str,
        timeframe: str,
        start: datetime | str,
        end: datetime | str,
        *,
        market: str = "spot",
        exact: bool = True,
    ) -> pd.DataFrame:
        """The closed klines that open in `[start, end)`, ascending, fetched now, without a store.

        Args:
            symbol: as Binance spells it (`BTCUSDT`); `btc/usdt` is taken too.
            timeframe: `1s` (spot only), `1m` … `1M`.
            start: aware datetime, or a window text such as `2024-01-01`, `30d`, `listing`.
            end: the first instant that is no longer wanted; likewise, or `now`.
            market: `spot`, `um` (USDⓈ-M futures) or `cm` (COIN-M futures).
            exact: prices and quantities as `Decimal`; False gives float64, which is smaller and rounds.

        Returns:
            The columns of the table `klines` in its order; times are datetime64[us, UTC]; the index counts from 0.
            Columns that the market does not have are None (NaN with `exact=False`).

        Raises:
            NaiveTimeError: `start` or `end` has no UTC offset.
            InputError: unknown market, symbol or timeframe, or an empty window.
            BinanceError: Binance is unreachable, refuses or bans.
        """
        # Before the thread starts, so that the caller's mistakes cost nothing.
        of_market = Market.parse(market)
        interval = parse_interval(timeframe, of_market)
        for name, value in (("start", start), ("end", end)):
            if parse_instant(value, now_us=lambda: 0, name=name) is None:
                raise InputError(f"{name} is missing: give an aware datetime or, say, '2024-01-01'", argument=name)
        return await asyncio.to_thread(self._frame, of_market, symbol, interval, start, end, exact)

    async def get_real_time_data(
        self,
        symbols: Sequence[str],
        *,
        market: str = "spot",
        datasets: Sequence[str] | None = None,
        intervals: Sequence[str] | None = None,
        fill_gaps: bool = True,
        buffer: int = 10_000,
        on_full: str = "wait",
    ) -> AsyncGenerator[MarketData, None]:
        """The records of `symbols` as they happen, until the caller stops: by `aclose`, or by cancelling its task.

        The records of a series (a symbol's dataset, and interval) come in the order of their keys, each once, over any
        number of reconnects. What a stream did not bring is asked of REST and comes in its place, or a `Gap` does.

        Args:
            symbols: names as Binance spells them, or patterns (`*USDT`) over what trades now.
            market: `spot`, `um` (USDⓈ-M futures) or `cm` (COIN-M futures).
            datasets: of `klines`, `trades` (spot), `agg_trades`, `book_tickers`, `mark_prices` and `liquidations`
                (futures); default: `trades` on spot, `agg_trades` on futures.
            intervals: those of the klines, which are handed on when they have closed.
            fill_gaps: False asks REST for nothing: what is lacking is told by a `Gap` at once.
            buffer: how many records may wait to be taken.
            on_full: what to do then. `wait`: stop reading until half of them are taken. `drop_oldest`: drop those that
                wait the longest, and say so by a `Gap`. `raise`: end with BufferFullError, after all that waits.

        Raises (when the first record is asked for):
            InputError: unknown market, symbol, dataset or interval, or words that do not fit.
            ConfigError: the extra `[stream]` is not installed.
            BinanceError: Binance is unreachable, refuses or bans.
        """
        with _COLLECTOR.without_full_collections():
            await asyncio.to_thread(_load_streams)
            from airflow_provider_binance.stream.asking import Asked
            from airflow_provider_binance.stream.live import LiveStream

            asked = Asked.parse(
                symbols, market, datasets, intervals, fill_gaps=fill_gaps, buffer=buffer, on_full=on_full
            )
            stream = await LiveStream.open(await asyncio.to_thread(self._settings), asked)
        try:
            taken = 0
            while True:
                yield await stream.take()
                taken += 1
                if not taken % _TURN_RECORDS:
                    await asyncio.sleep(0)
        finally:
            await stream.close()

    def _settings(self) -> BinanceConfig:
        """The settings as they are now."""
        if self._config is None:
            return BinanceConfig.load(**self._secrets)
        config = self._config.model_copy(update=self._secrets)
        return config.reread_by(None) if self._secrets else config

    def _frame(
        self, market: Market, symbol: str, interval: Interval, start: datetime | str, end: datetime | str, exact: bool
    ) -> pd.DataFrame:
        with _COLLECTOR.without_full_collections():
            from airflow_provider_binance.ingest import fetch_klines

            config = self._settings()
            frame = _Frame(exact=exact)
            for first, stop in _windows(config, market, symbol, interval, start, end):
                frame.take(
                    fetch_klines(
                        market=market.value, symbol=symbol, interval=interval.name, start=first, end=stop, config=config
                    )
                )
            return frame.build()


class _Collector:
    """Keeps the garbage collector from walking the whole heap while calls are at work: that holds up every thread.

    Measured: 20 ms to 120 ms each, with pandas imported, and a dozen of them for a year of minutes. Klines hold no
    cycles, and the young generations are collected as always, so nothing piles up.
    """

    _NEVER = 1_000_000_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._before = gc.get_threshold()

    @contextmanager
    def without_full_collections(self) -> Iterator[None]:
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._before = gc.get_threshold()
                gc.set_threshold(*self._before[:2], self._NEVER)
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0 and gc.get_threshold()[2] == self._NEVER:
                    gc.set_threshold(*self._before)


_COLLECTOR: Final = _Collector()


def _load_streams() -> None:
    """Import what streams need, which takes long; raises ConfigError where the extra is not installed."""
    from airflow_provider_binance.stream import require_extra

    require_extra()
    import airflow_provider_binance.stream.live  # noqa: F401


def _windows(
    config: BinanceConfig, market: Market, symbol: str, interval: Interval, start: datetime | str, end: datetime | str
) -> Iterator[tuple[datetime | str, datetime | str]]:
    """The window in pieces of bounded size; pieces before the listing and after now are left out."""
    bounds = [parse_instant(value, now_us=lambda: 0, name=name) for name, value in (("start", start), ("end", end))]
    relative = any(isinstance(value, str) and value.strip()[-1:] in "mhdw" for value in (start, end))
    if not relative and all(isinstance(bound, int) for bound in bounds):
        first_us, end_us = (bound for bound in bounds if isinstance(bound, int))
        if interval.count(first_us, end_us) <= _WINDOW_ROWS:
            yield start, end
            return
    from airflow_provider_binance.runtime import Runtime

    with Runtime(config, priority="live", archive=False) as runtime:
        now_us = runtime.now_us(market)
        first = parse_instant(start, now_us=lambda: now_us, name="start")
        stop = parse_instant(end, now_us=lambda: now_us, name="end")
        first_us = now_us if first is NOW else first if isinstance(first, int) else _FIRST_DAY_US
        end_us = stop if isinstance(stop, int) else now_us
        check_window(first_us, end_us)
        [name] = runtime.symbols.resolve([symbol], market, KLINES.name)
        series = Series(market, KLINES.name, name, interval.name)
        bound = runtime.symbols.listed_from(series, first_us, now_us)
    first_us, end_us = max(first_us, bound.at_us if bound else _FIRST_DAY_US), min(end_us, now_us)
    while first_us < end_us:
        stop_us = min(interval.advance(interval.ceil(first_us), _WINDOW_ROWS), end_us)
        yield from_us(first_us), from_us(stop_us)
        first_us = stop_us


class _Frame:
    """A DataFrame in the making: takes Klines apart block by block, so that other threads get their turn between."""

    def __init__(self, *, exact: bool) -> None:
        kinds = {column.name: column.kind for column in KLINES.columns}
        self._kinds = [kinds.get(name, Kind.TEXT) for name in Kline._fields]
        self._exact = exact
        self._blocks: list[list[np.ndarray[Any, Any]]] = [[] for _ in self._kinds]

    def take(self, klines: list[Kline]) -> None:
        """Add the rows of `klines`, and empty it."""
        klines.reverse()
        while klines:
            rows = klines[: -_BLOCK_ROWS - 1 : -1]
            del klines[-_BLOCK_ROWS:]
            for blocks, kind, values in zip(self._blocks, self._kinds, zip(*rows, strict=True), strict=True):
                blocks.append(self._converted(kind, values))

    def build(self) -> pd.DataFrame:
        """The DataFrame of all rows taken."""
        import numpy as np
        import pandas as pd

        columns = {}
        for name, kind, blocks in zip(Kline._fields, self._kinds, self._blocks, strict=True):
            values = np.concatenate([self._converted(kind, ()), *blocks])
            series = pd.Series(values, dtype=values.dtype)  # the type is said, or pandas guesses one for texts
            columns[name] = series.dt.tz_localize("UTC") if kind is Kind.TIME else series
        # Without the copy, columns stay apart: joining them would hold up every other thread.
        return pd.DataFrame(columns, copy=False)

    def _converted(self, kind: Kind, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        if kind is Kind.TIME:
            return np.array([to_us(value) for value in values], dtype=np.int64).view("datetime64[us]")
        if kind in (Kind.INTEGER, Kind.SMALL_INTEGER):
            return np.array(values, dtype=np.int64)
        if kind is Kind.DECIMAL and not self._exact:
            return np.array([float("nan") if value is None else float(value) for value in values], dtype=np.float64)
        return np.array(values, dtype=object)
