"""Columns of candles in scaled integers: exact sums on the way up, Binance's text on the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import Times, close_times

Ints = npt.NDArray[np.int64]

# open time, open, high, low, close, volume, close time, quote volume, count, taker volume, taker quote volume, unused
Row = tuple[int, str, str, str, str, str, int, str, int, str, str, str]

SPOT_DECIMALS = 8
BASE_VOLUME_DECIMALS = 8

_SMALLEST = np.iinfo(np.int64).min
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Candles:
    """Candles of one series, a column per slot; ``amount`` is quote volume, or base volume on cm."""

    open_time: Times
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    amount: Ints
    count: Ints
    taker_volume: Ints
    taker_amount: Ints

    def __len__(self) -> int:
        return len(self.open_time)

    def columns(self) -> tuple[Ints, ...]:
        """All columns in the order of the fields."""
        return (
            self.open_time,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.amount,
            self.count,
            self.taker_volume,
            self.taker_amount,
        )

    def keep(self, mask: npt.NDArray[np.bool_]) -> Candles:
        """The candles where ``mask`` is true."""
        return self if mask.all() else Candles(*(column[mask] for column in self.columns()))

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """The candles that open in ``[start_ms, end_ms]``."""
        first = int(np.searchsorted(self.open_time, start_ms, "left"))
        last = int(np.searchsorted(self.open_time, end_ms, "right"))
        return Candles(*(column[first:last] for column in self.columns()))


def join(parts: Sequence[Candles]) -> Candles:
    """The parts behind one another; no parts give no candles."""
    if not parts:
        empty = np.empty(0, dtype=np.int64)
        return Candles(*repeat(empty, 10))
    if len(parts) == 1:
        return parts[0]
    return Candles(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))


def aggregate(candles: Candles, opens: Times) -> Candles:
    """Candles of a longer interval; ``opens`` gives, for each short candle, the open time of the long one around it.

    Open, high and low come from the short candles with trades, as Binance takes them; where none has any, the long one
    is flat.
    """
    if not len(candles):
        return candles
    starts = np.concatenate(([0], np.flatnonzero(np.diff(opens)) + 1))
    ends = np.concatenate((starts[1:], [len(opens)])) - 1
    traded = candles.count > 0
    index = np.arange(len(opens))
    first = np.minimum.reduceat(np.where(traded, index, len(opens)), starts)
    any_trade = first < len(opens)
    first = np.where(any_trade, first, starts)
    high = np.maximum.reduceat(np.where(traded, candles.high, _SMALLEST), starts)
    low = np.minimum.reduceat(np.where(traded, candles.low, _LARGEST), starts)
    sums = [
        np.add.reduceat(column, starts)
        for column in (candles.volume, candles.amount, candles.count, candles.taker_volume, candles.taker_amount)
    ]
    return Candles(
        opens[starts],
        candles.open[first],
        np.where(any_trade, high, candles.high[starts]),
        np.where(any_trade, low, candles.low[starts]),
        candles.close[ends],
        *sums,
    )


def to_rows(candles: Candles, instrument: Instrument, interval: str, zone_ms: int = 0) -> list[Row]:
    """The candles as Binance prints them: eight decimals on spot, the symbol's own precision on futures."""
    spot = instrument.market == "spot"
    prices = instrument.price_decimals
    volumes = instrument.quantity_decimals
    amounts = BASE_VOLUME_DECIMALS if instrument.market == "cm" else prices + volumes

    def text(column: Ints, decimals: int) -> list[str]:
        return decimal_texts(column, decimals, SPOT_DECIMALS if spot else decimals)

    return list(
        zip(
            candles.open_time.tolist(),
            text(candles.open, prices),
            text(candles.high, prices),
            text(candles.low, prices),
            text(candles.close, prices),
            text(candles.volume, volumes),
            (close_times(interval, candles.open_time + zone_ms) - zone_ms).tolist(),
            text(candles.amount, amounts),
            candles.count.tolist(),
            text(candles.taker_volume, volumes),
            text(candles.taker_amount, amounts),
            repeat("0", len(candles)),
            strict=True,
        )
    )


def decimal_texts(values: Ints, decimals: int, printed: int) -> list[str]:
    """Numbers in units of 10**-decimals, with ``printed`` decimals."""
    if printed == 0:
        return [str(value) for value in values.tolist()]
    padding = "0" * (printed - decimals)
    if decimals == 0:
        return [f"{value}.{padding}" for value in values.tolist()]
    scale = 10**decimals
    return [f"{value // scale}.{value % scale:0{decimals}d}{padding}" for value in values.tolist()]
