"""The trades and aggregates of an instrument by their place in its history: what REST, archive and streams all show.

A place counts from the listing. It is the id of an aggregate, and of a trade on spot and cm; on um some trade ids are
never seen. To follow the market, ask for the places between two instants:
``ticks.trades(ticks.trades_until(then), ticks.trades_until(now))``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from airflow_provider_binance.simulator.fills import MINUTE_US, Flags, Trades
from airflow_provider_binance.simulator.noise import Ints, Noise
from airflow_provider_binance.simulator.synthetic import SyntheticSeries

# On um one id in so many is burnt by the prevention of self-trades.
IDS_PER_HOLE = 64
SALT_HOLES = 60
# Long before anything was listed: it has no trades.
NO_MINUTE = (0, 1)


@dataclass(frozen=True)
class Aggregates:
    """Aggregates in their order, a column each; ``normal_lots`` leaves out retail price improvement orders.

    ``first`` and ``last`` are trade ids, times those of the first and the last fill.
    """

    ordinal: Ints
    time_us: Ints
    last_time_us: Ints
    price: Ints
    lots: Ints
    normal_lots: Ints
    first: Ints
    last: Ints
    buyer_maker: Flags

    def __len__(self) -> int:
        return len(self.ordinal)

    def keep(self, mask: Flags) -> Self:
        """The aggregates where ``mask`` is true."""
        return type(self)(*(getattr(self, field.name)[mask] for field in fields(self)))


class Ticks:
    """Trades and aggregates of one instrument."""

    def __init__(self, series: SyntheticSeries, seed: int) -> None:
        instrument = series.instrument
        self.instrument = instrument
        self._series = series
        self._holes = Noise(seed, instrument.market, instrument.symbol) if instrument.market == "um" else None

    def trades_until(self, moment_us: int) -> int:
        """How many trades there were up to a moment, those of that very microsecond included."""
        return self._activity_before(moment_us)[0] + self._of_minute_until(moment_us)[0]

    def aggregates_until(self, moment_us: int) -> int:
        """How many aggregates had begun by a moment, those that began in that very microsecond included."""
        before = self._activity_before(moment_us)[1]
        count, trades = self._of_minute_until(moment_us)
        return before if not count else max(before, int(trades.aggregate[count - 1]) + 1)

    def aggregates_complete(self, moment_us: int) -> int:
        """How many aggregates had had their last fill by a moment: a venue shows no others."""
        following = self.trades_until(moment_us)
        next_trade = self.trades(following, following + 1)
        return int(next_trade.aggregate[0]) if len(next_trade) else self.aggregates_until(moment_us)

    def count_between(self, dataset: str, start_ms: int, end_ms: int) -> int:
        """How many ``trades`` or ``aggTrades`` begin in a range of whole minutes: known without making them."""
        column = 0 if dataset == "trades" else 1
        before = [self._activity_before(moment_ms * 1000)[column] for moment_ms in (start_ms, end_ms)]
        return before[1] - before[0]

    def trades(self, first: int, stop: int) -> Trades:
        """The trades at places ``[first, stop)``."""
        first, stop = max(first, 0), min(stop, self._series.activity.total()[0])
        if stop <= first:
            return self._series.fills.trades(*NO_MINUTE)
        activity = self._series.activity
        trades = self._series.fills.trades(activity.minute_of_trade(first), activity.minute_of_trade(stop - 1) + 1)
        begin = int(trades.ordinal[0])
        return trades.slice(first - begin, stop - begin)

    def aggregates(self, first: int, stop: int) -> Aggregates:
        """The aggregates at places ``[first, stop)``."""
        activity = self._series.activity
        first, stop = max(first, 0), min(stop, activity.total()[1])
        if stop <= first:
            return self.aggregated(self._series.fills.trades(*NO_MINUTE))
        # The last one may have fills in the minute after the one it begins in.
        last_minute = activity.minute_of_aggregate(stop - 1) + 1
        aggregates = self.aggregated(self._series.fills.trades(activity.minute_of_aggregate(first), last_minute + 1))
        return aggregates.keep((aggregates.ordinal >= first) & (aggregates.ordinal < stop))

    def ids(self, ordinals: Ints) -> Ints:
        """The ids of the trades at these places."""
        if self._holes is None:
            return ordinals
        block, rest = ordinals // (IDS_PER_HOLE - 1), ordinals % (IDS_PER_HOLE - 1)
        result: Ints = block * IDS_PER_HOLE + rest + (rest >= self._holes.pick(SALT_HOLES, block, IDS_PER_HOLE))
        return result

    def place_of(self, trade_id: int) -> int:
        """The place of the first trade with that id or a larger one."""
        if self._holes is None:
            return trade_id
        block, rest = divmod(trade_id, IDS_PER_HOLE)
        hole = int(self._holes.pick(SALT_HOLES, np.array([block], dtype=np.int64), IDS_PER_HOLE)[0])
        return block * (IDS_PER_HOLE - 1) + rest - (rest > hole)

    def fills(self, start_minute: int, stop_minute: int) -> Trades:
        """All trades of the minutes in ``[start_minute, stop_minute)``."""
        return self._series.fills.trades(start_minute, stop_minute)

    def last_price(self, moment_us: int) -> tuple[int, bool] | None:
        """Price of the last trade up to a moment and whether its buyer was the maker; None before the first."""
        count = self.trades_until(moment_us)
        trades = self.trades(count - 1, count)
        return (int(trades.price[0]), bool(trades.buyer_maker[0])) if len(trades) else None

    def aggregated(self, trades: Trades) -> Aggregates:
        """The aggregates of consecutive trades; the first and the last may have fills outside of them."""
        if not len(trades):
            none = trades.ordinal
            return Aggregates(none, none, none, none, none, none, none, none, trades.buyer_maker)
        begin = np.concatenate(([0], np.flatnonzero(np.diff(trades.aggregate)) + 1))
        last = np.concatenate((begin[1:], [len(trades)])) - 1
        ids = self.ids(trades.ordinal)
        return Aggregates(
            trades.aggregate[begin],
            trades.time_us[begin],
            trades.time_us[last],
            trades.price[begin],
            np.add.reduceat(trades.lots, begin),
            np.add.reduceat(np.where(trades.rpi, 0, trades.lots), begin),
            ids[begin],
            ids[last],
            trades.buyer_maker[begin],
        )

    def _activity_before(self, moment_us: int) -> tuple[int, int]:
        return self._series.activity.before(moment_us // MINUTE_US)

    def _of_minute_until(self, moment_us: int) -> tuple[int, Trades]:
        """How many trades of its minute came up to a moment, and all of them."""
        minute = moment_us // MINUTE_US
        trades = self._series.fills.trades(minute, minute + 1)
        return int(np.searchsorted(trades.time_us, moment_us, "right")), trades
