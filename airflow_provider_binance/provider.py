"""Binance market data for plain Python: `BinanceDataProvider`, which works without a store and without Airflow."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import SecretStr

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import EPOCH, Market, parse_interval
from airflow_provider_binance.records import Kline
from airflow_provider_binance.registry import KLINES, Kind
from airflow_provider_binance.windows import parse_instant

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_MICROSECOND: Final = timedelta(microseconds=1)
#: Rows converted at a time: numpy holds the interpreter for about a microsecond per value.
_BLOCK_ROWS: Final = 2_000


class MarketData(Protocol):
    """What every record of real-time data has, whatever its dataset."""

    @property
    def dataset(self) -> str:
        """Name of the dataset, which is the name of its table."""

    @property
    def market(self) -> str:
        """`spot`, `um` or `cm`."""

    @property
    def symbol(self) -> str:
        """Binance's name of the symbol."""

    @property
    def event_time(self) -> datetime | None:
        """When Binance sent it, aware UTC; None where Binance does not say."""

    @property
    def received_at(self) -> datetime:
        """When it arrived here, aware UTC."""


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
        self, symbols: Sequence[str], *, market: str = "spot", datasets: Sequence[str] | None = None
    ) -> AsyncIterator[MarketData]:
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
        self._secrets = {name: SecretStr(text.strip()) for name, text in given.items() if text is not None}
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
            if value is None:
                raise InputError(
                    f"{name} is missing: give an aware datetime or a text such as 2024-01-01", argument=name
                )
            parse_instant(value, now_us=lambda: 0, name=name)
        return await asyncio.to_thread(self._frame, of_market.value, symbol, interval.name, start, end, exact)

    async def get_real_time_data(
        self,
        symbols: Sequence[str],  # noqa: ARG002
        *,
        market: str = "spot",  # noqa: ARG002
        datasets: Sequence[str] | None = None,  # noqa: ARG002
    ) -> AsyncIterator[MarketData]:
        """Not in this version: raises InputError when the first record is asked for.

        Real-time data comes with the streaming sidecar.
        """
        raise InputError(
            "this version has no real-time data: it comes with the streaming sidecar. "
            "Until then, ask get_historical_data for the klines up to now (end='now')"
        )
        yield  # makes this an async generator, as the interface promises

    def _frame(
        self, market: str, symbol: str, interval: str, start: datetime | str, end: datetime | str, exact: bool
    ) -> pd.DataFrame:
        from airflow_provider_binance.ingest import fetch_klines

        config = BinanceConfig.load() if self._config is None else self._config
        if self._secrets:
            config = config.model_copy(update=self._secrets)
        klines = fetch_klines(market=market, symbol=symbol, interval=interval, start=start, end=end, config=config)
        return _data_frame(klines, exact=exact)


def _data_frame(klines: Sequence[Kline], *, exact: bool) -> pd.DataFrame:
    import pandas as pd

    kinds = {column.name: column.kind for column in KLINES.columns}
    columns: dict[str, Any] = {}
    for place, name in enumerate(Kline._fields):
        values = _column(klines, place, kinds.get(name, Kind.TEXT), exact)
        # A time column is taken as it is; the others as what they are made of, so that no text type is guessed.
        zoned = kinds.get(name) is Kind.TIME
        columns[name] = pd.Series(values).dt.tz_localize("UTC") if zoned else pd.Series(values, dtype=values.dtype)
    # Without the copy, the columns stay apart: joining millions of objects would hold up every other thread.
    return pd.DataFrame(columns, index=pd.RangeIndex(len(klines)), copy=False)


def _column(klines: Sequence[Kline], place: int, kind: Kind, exact: bool) -> np.ndarray[Any, Any]:
    import numpy as np

    if kind is Kind.TIME:
        whole = np.empty(len(klines), dtype=np.int64)
    elif kind in (Kind.INTEGER, Kind.SMALL_INTEGER):
        whole = np.empty(len(klines), dtype=np.int64)
    elif kind is Kind.DECIMAL and not exact:
        whole = np.empty(len(klines), dtype=np.float64)
    else:
        whole = np.empty(len(klines), dtype=object)
    for at, block in _blocks([kline[place] for kline in klines]):
        if kind is Kind.TIME:
            block = [(value - EPOCH) // _MICROSECOND for value in block]
        elif whole.dtype == np.float64:
            block = [float("nan") if value is None else float(value) for value in block]
        whole[at : at + len(block)] = block
    return whole.view("datetime64[us]") if kind is Kind.TIME else whole


def _blocks(values: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
    iterator, at = iter(values), 0
    while block := list(islice(iterator, _BLOCK_ROWS)):
        yield at, block
        at += len(block)
