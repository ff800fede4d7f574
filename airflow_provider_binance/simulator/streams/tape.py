"""The trades of one instrument as they come, read in long stretches: making a minute alone costs as much as many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from airflow_provider_binance.simulator.fills import MINUTE_US, Flags, Trades
from airflow_provider_binance.simulator.noise import Ints, Noise
from airflow_provider_binance.simulator.synthetic import SyntheticSeries
from airflow_provider_binance.simulator.ticks import Aggregates, Ticks

TRADES_PER_STRETCH = 3000
KEPT_STRETCHES = 3
# Between an engine's time and the event that tells of it.
LEAST_DELAY_US, DELAY_CHOICES = 1000, 5
SALT_DELAY = 80

Rows = TypeVar("Rows", Trades, Aggregates)


@dataclass(frozen=True)
class _Stretch:
    trades: Trades
    aggregates: Aggregates


class Tape:
    """Trades by their time, and aggregates by the time of their last fill, when a venue shows them."""

    def __init__(self, series: SyntheticSeries, seed: int, trades_per_minute: int) -> None:
        self.series = series
        self.instrument = series.instrument
        self.ticks = Ticks(series, seed)
        self.noise = Noise(seed, self.instrument.market, self.instrument.symbol)
        none = np.zeros(1, dtype=np.int64)
        self.delay_us = LEAST_DELAY_US * (1 + int(self.noise.pick(SALT_DELAY, none, DELAY_CHOICES)[0]))
        self._minutes = max(1, TRADES_PER_STRETCH // trades_per_minute)
        self._stretches: OrderedDict[int, _Stretch] = OrderedDict()

    def trades(self, start_us: int, stop_us: int) -> Trades:
        """The trades of ``[start_us, stop_us)``."""
        parts = [
            _cut(stretch.trades, stretch.trades.time_us, start_us, stop_us)
            for stretch in self._between(start_us, stop_us)
        ]
        return joined(parts, Trades)

    def aggregates(self, start_us: int, stop_us: int) -> Aggregates:
        """The aggregates whose last fill lies in ``[start_us, stop_us)``."""
        parts = [
            _cut(stretch.aggregates, stretch.aggregates.last_time_us, start_us, stop_us)
            for stretch in self._between(start_us, stop_us)
        ]
        return joined(parts, Aggregates)

    def prices_at(self, moments_us: Ints) -> tuple[Ints, Flags] | None:
        """Price of the last trade up to each of ascending moments, and whether its buyer was the maker.

        None when there was none before the first of them, or the symbol is not traded at the last one any more.
        """
        instrument, first_us, last_us = self.instrument, int(moments_us[0]), int(moments_us[-1])
        if not (instrument.is_listed(first_us // 1000) and instrument.is_listed(last_us // 1000)):
            return None
        trades = self.trades(first_us // MINUTE_US * MINUTE_US, last_us + 1)
        before = self._last_price(first_us)
        if before is None:
            return None
        prices = np.concatenate(([before[0]], trades.price))
        makers = np.concatenate(([before[1]], trades.buyer_maker))
        place = np.searchsorted(trades.time_us, moments_us, "right")
        # Those of the beginning of the minute are in ``before`` already.
        place = np.where(place <= np.searchsorted(trades.time_us, first_us, "right"), 0, place)
        return prices[place], makers[place]

    def _last_price(self, moment_us: int) -> tuple[int, bool] | None:
        trades = self._stretch(moment_us // (self._minutes * MINUTE_US)).trades
        place = int(np.searchsorted(trades.time_us, moment_us, "right"))
        if place:
            return int(trades.price[place - 1]), bool(trades.buyer_maker[place - 1])
        return self.ticks.last_price(moment_us)

    def _between(self, start_us: int, stop_us: int) -> list[_Stretch]:
        length = self._minutes * MINUTE_US
        return [
            self._stretch(index) for index in range(start_us // length, (max(stop_us, start_us + 1) - 1) // length + 1)
        ]

    def _stretch(self, index: int) -> _Stretch:
        known = self._stretches.get(index)
        if known is None:
            start, stop = index * self._minutes, (index + 1) * self._minutes
            # A minute more on both sides: aggregates of futures reach into the next one.
            around = self.ticks.fills(start - 1, stop + 1)
            aggregates = self.ticks.aggregated(around)
            span = start * MINUTE_US, stop * MINUTE_US
            known = _Stretch(_cut(around, around.time_us, *span), _cut(aggregates, aggregates.last_time_us, *span))
            self._stretches[index] = known
            if len(self._stretches) > KEPT_STRETCHES:
                self._stretches.popitem(last=False)
        return known


def joined(parts: Sequence[Rows], kind: type[Rows]) -> Rows:
    """Rows behind one another; at least one part."""
    if len(parts) == 1:
        return parts[0]
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))


def _cut(rows: Rows, time_us: Ints, start_us: int, stop_us: int) -> Rows:
    first, stop = (int(np.searchsorted(time_us, edge, "left")) for edge in (start_us, stop_us))
    kind = type(rows)
    return kind(*(getattr(rows, field.name)[first:stop] for field in fields(kind)))
