"""The trades of a synthetic instrument, made minute by minute so that they sum up to its candles exactly.

An aggregate is one price, one taker side and, on spot, one instant; on futures its fills lie within 100 ms. Sides
alternate from one aggregate to the next, so that two of them never are one by that rule. Now and then many share a
millisecond. The first trade of a minute comes in its first second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from airflow_provider_binance.simulator.activity import Activity
from airflow_provider_binance.simulator.intervals import MINUTE_MS
from airflow_provider_binance.simulator.minutes import MinutePlan, Minutes
from airflow_provider_binance.simulator.noise import Ints, Noise, piece

Flags = npt.NDArray[np.bool_]

MINUTE_US = MINUTE_MS * 1000
# Between the first aggregates of a minute and its last one, at 59.95 s.
MIDDLE_START_US, MIDDLE_US = 1_050_000, 58_800_000
CLOSE_US = 59_950_000
# How many aggregates share a millisecond: mostly few; 184 were counted on one day of BTCUSDT.
BURSTS = np.array([1] * 20 + [2] * 8 + [3] * 6 + [7] * 4 + [20] + [184], dtype=np.int64)
LONGEST_SPREAD_US = 80_000
RPI_PERCENT = 5

SALT_TIME, SALT_SIZE, SALT_LEVEL, SALT_LOTS, SALT_MINUTE = 50, 51, 52, 53, 54

BUYER, SELLER = 0, 1


@dataclass(frozen=True)
class Trades:
    """Trades in their order, a column each; ``ordinal`` counts them from the listing without a hole.

    ``aggregate`` is the ordinal of the aggregate that a trade belongs to, ``amount`` the quote quantity, or the base
    quantity on cm; ``rpi`` marks fills of retail price improvement orders, which futures have.
    """

    ordinal: Ints
    time_us: Ints
    price: Ints
    lots: Ints
    amount: Ints
    buyer_maker: Flags
    aggregate: Ints
    rpi: Flags

    def __len__(self) -> int:
        return len(self.ordinal)

    def keep(self, mask: Flags) -> Self:
        """The trades where ``mask`` is true."""
        return type(self)(*(getattr(self, field.name)[mask] for field in fields(self)))

    def slice(self, first: int, stop: int) -> Self:
        """The trades at these places."""
        return type(self)(*(getattr(self, field.name)[first:stop] for field in fields(self)))


class Fills:
    """Makes the trades of one instrument."""

    def __init__(self, market: str, noise: Noise, activity: Activity, plan: MinutePlan) -> None:
        self._spot = market == "spot"
        self._cm = market == "cm"
        self._noise = noise
        self._activity = activity
        self._plan = plan

    def trades(self, start: int, stop: int) -> Trades:
        """All trades of the minutes in ``[start, stop)``."""
        minutes = self._plan.minutes(start, stop)
        kept = (minutes.trades > 0) & self._activity.present(minutes.minute)
        minutes = Minutes(*(column[kept] for column in vars(minutes).values()))
        first_trade, first_aggregate = self._activity.before(start)

        # Groups are aggregates, but for the first of a joined minute: it is a piece of one.
        groups = minutes.aggregates + minutes.joined
        of_group = np.repeat(np.arange(len(groups)), groups)
        begin = np.cumsum(groups) - groups
        place = np.arange(len(of_group)) - begin[of_group]
        side, level, fixed_price = self._roles(minutes, groups, of_group, place)
        shares = self._noise.pick(SALT_SIZE, (minutes.minute[of_group] << 16) + place, 16)
        size = 1 + _shared(np.where(level < 0, 0, 1 + shares), of_group, minutes.trades - groups)
        group_us, gap_us = self._times(minutes, groups, of_group, place)
        aggregate = first_aggregate + np.arange(len(of_group)) - np.cumsum(minutes.joined)[of_group]

        group = np.repeat(np.arange(len(of_group)), size)
        inside = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
        minute = of_group[group]
        ordinal = first_trade + np.arange(len(group))
        price = np.where(level < 0, fixed_price, minutes.levels[of_group, np.maximum(level, 0)])[group]
        lots, amount = self._lots(minutes, minute, level[group], ordinal)
        amount = np.where(level[group] < 0, self._plan.amount(lots, price), amount if self._cm else lots * price)
        time_us = minutes.minute[minute] * MINUTE_US + group_us[group] + inside * gap_us[group] // size[group]
        if not self._spot:
            time_us = time_us // 1000 * 1000
        return Trades(
            ordinal,
            time_us,
            price,
            lots,
            amount,
            (side == SELLER)[group],
            aggregate[group],
            self._noise.pick(SALT_SIZE, ordinal, 100) < RPI_PERCENT,
        )

    def _roles(self, minutes: Minutes, groups: Ints, of_group: Ints, place: Ints) -> tuple[Ints, Ints, Ints]:
        """Side, level (-1: open, high, low or close) and in that case the price of each group."""
        hashes = self._noise.hashes(SALT_MINUTE, minutes.minute)
        # High and low lie where at least four of the groups at levels come before them, and one after.
        spots = np.maximum(groups - 7, 2)
        high_at = 5 + piece(hashes, 4, spots)
        low_at = 5 + (high_at - 5 + 1 + piece(hashes, 20, spots - 1)) % spots
        busy = minutes.busy[of_group]
        is_open, is_close = busy & (place == 0), busy & (place == groups[of_group] - 1)
        is_high, is_low = busy & (place == high_at[of_group]), busy & (place == low_at[of_group])

        opens_as = np.where(minutes.buyer_opens, BUYER, SELLER)[of_group]
        closes_as = np.where(minutes.buyer_closes, BUYER, SELLER)[of_group]
        alternating = (
            np.where(place < high_at[of_group], opens_as + place, closes_as + groups[of_group] - 1 - place) % 2
        )
        side = np.where(busy, alternating, opens_as)
        side = np.where(is_high, BUYER, np.where(is_low, SELLER, side))

        key = (minutes.minute[of_group] << 16) + place
        second = np.where(place < 5, place > 2, self._noise.pick(SALT_LEVEL, key, 2) == 1)
        level = np.where(busy, 2 * side + second, 0)
        level = np.where(is_open | is_high | is_low | is_close, -1, level)
        price = np.where(is_high, minutes.high[of_group], np.where(is_low, minutes.low[of_group], 0))
        price = np.where(is_open, minutes.open[of_group], np.where(is_close, minutes.close[of_group], price))
        return side, level, price

    def _times(self, minutes: Minutes, groups: Ints, of_group: Ints, place: Ints) -> tuple[Ints, Ints]:
        """Microseconds into the minute of each group, and over how many its fills spread."""
        hashes = self._noise.hashes(SALT_MINUTE, minutes.minute)
        busy = minutes.busy[of_group]
        burst = np.where(minutes.busy, BURSTS[piece(hashes, 36, len(BURSTS))], 1)[of_group]
        slot = MIDDLE_US // np.maximum(groups, 1)[of_group]
        # In a thin minute all are alike but for their time, so the second must be well behind the first.
        index = np.maximum(place - busy, 0)
        head = index // burst * burst
        key = (minutes.minute[of_group] << 16) + head
        jitter = self._noise.pick(SALT_TIME, key, 1 << 20) * (slot * 3 // 4) >> 20
        middle = (MIDDLE_START_US + head * slot + jitter) // 1000 * 1000
        if self._spot:
            middle += (index - head) * 5
        first = np.where(minutes.joined[of_group], jitter % 40_000, 100_000 + jitter % 900_000) // 1000 * 1000
        last = (CLOSE_US + jitter % 49_000) // 1000 * 1000
        group_us = np.where(place == 0, first, middle)
        is_close = busy & (place == groups[of_group] - 1)
        group_us = np.where(is_close, last, group_us)
        spread = np.where((burst == 1) & (place > 0) & ~is_close, np.minimum(slot // 4, LONGEST_SPREAD_US), 0)
        return group_us, np.zeros_like(spread) if self._spot else spread

    def _lots(self, minutes: Minutes, minute: Ints, level: Ints, ordinal: Ints) -> tuple[Ints, Ints]:
        """Lots of each trade: one at the corners, else a hashed share of the level's; and, on cm, what they are worth.

        The worth is cut out of the level's, so that it sums up: it is off by at most one unit of the eighth decimal.
        """
        at_level = level >= 0
        lots, amount = np.ones_like(ordinal), np.zeros_like(ordinal)
        key = (minute * 4 + level)[at_level]
        order = np.argsort(key, kind="stable")
        places = np.flatnonzero(at_level)[order]
        sorted_key = key[order]
        used, which, counts = np.unique(sorted_key, return_inverse=True, return_counts=True)
        share = 1 + self._noise.pick(SALT_LOTS, ordinal[places], 64)
        whole = minutes.lots.ravel()[used]
        lots[places] = 1 + _shared(share, which, whole - counts)
        if self._cm:
            reached = np.cumsum(lots[places])
            reached -= (reached - lots[places])[np.cumsum(counts) - counts][which]
            price = minutes.levels.ravel()[used][which]
            amount[places] = self._plan.amount(reached, price) - self._plan.amount(reached - lots[places], price)
        return lots, amount


def _shared(share: Ints, owner: Ints, whole: Ints) -> Ints:
    """``whole`` of each owner, dealt out by shares; those of an owner lie side by side, in order."""
    if not len(share):
        return share
    reached = np.cumsum(share)
    first = np.concatenate(([0], np.flatnonzero(np.diff(owner)) + 1))
    last = np.concatenate((first[1:], [len(owner)])) - 1
    index = np.cumsum(np.concatenate(([0], np.diff(owner) != 0)))
    start = (reached - share)[first][index]
    total = np.maximum((reached[last] - (reached - share)[first])[index], 1)
    dealt = whole[owner]
    result: Ints = dealt * (reached - start) // total - dealt * (reached - share - start) // total
    return result
