"""What happens in each minute of a synthetic instrument: its price range, and how much is traded at which price.

The price is a sum of noises of growing wave length; each is an integer interpolation between hashed nodes, so minute
5,000,000 costs no more than minute 5. A busy minute trades one lot each at its open, high, low and close, and all the
rest at two prices per side between low and high: so its sums follow from a few numbers, without its trades. A thin
minute has a handful of trades, of one side and at one price. A quiet one has none and is flat at the last close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_binance.simulator.activity import DAY_MINUTES, Activity
from airflow_provider_binance.simulator.candles import BASE_VOLUME_DECIMALS, Candles
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import MINUTE_MS
from airflow_provider_binance.simulator.noise import Ints, Noise, piece

Flags = npt.NDArray[np.bool_]

OCTAVES = 11
OCTAVE_STEP = 4
# Fewer trades make a thin minute; more give room for two prices per side, and each of them room for all trades.
BUSY_TRADES = 24
SMALLEST_LOTS = 6
# In so many of a hundred minutes whose open is the last close, the first trade joins the last aggregate.
STRADDLE_PERCENT = 20

SALT_OPEN, SALT_SHAPE, SALT_SIZE, SALT_PRICES, SALT_STRADDLE = 21, 22, 25, 26, 27


@dataclass(frozen=True)
class Minutes:
    """Consecutive minutes, a column each; ``levels`` and ``lots`` have four: buyers' first and second price, sellers'.

    ``joined`` minutes begin with a trade that belongs to the last aggregate of the minute before.
    """

    minute: Ints
    trades: Ints
    aggregates: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    taker_volume: Ints
    buyer_opens: Flags
    buyer_closes: Flags
    busy: Flags
    joined: Flags
    levels: Ints
    lots: Ints


class MinutePlan:
    """The minutes of one instrument."""

    def __init__(self, instrument: Instrument, noise: Noise, activity: Activity) -> None:
        self._instrument = instrument
        self._noise = noise
        self._activity = activity
        self._contract_scale = instrument.contract_size * 10 ** (BASE_VOLUME_DECIMALS + instrument.price_decimals)
        # The nodes of all octaves together stay below 0.7 of the middle, so no price comes near zero.
        self._swing = max(instrument.middle * 35 // 100, 1)
        self._wick = self._swing // 2**OCTAVES + 2
        # Bounded so that a month's sum of volume x price stays inside 64 bits, on cm a minute's scaled value.
        largest_volume = 10**14 // instrument.middle
        if instrument.market == "cm":
            largest_volume = 9 * 10**18 // self._contract_scale
        most_lots = max(SMALLEST_LOTS + 1, min(4000, largest_volume // activity.most_per_minute))
        self._extra_lots = most_lots - SMALLEST_LOTS

    def path(self, start: int, stop: int) -> Ints:
        """Price at the start of each minute in ``[start, stop)``."""
        minute = np.arange(start, stop, dtype=np.int64)
        price = np.full(len(minute), self._instrument.middle, dtype=np.int64)
        for octave in range(OCTAVES):
            length = OCTAVE_STEP**octave
            swing = self._swing // 2 ** (OCTAVES - octave)
            if swing == 0:
                continue
            cell = minute // length
            nodes = np.arange(cell[0], cell[-1] + 2, dtype=np.int64)
            heights = self._noise.pick(octave + 1, nodes, 2 * swing + 1) - swing
            into = minute - cell * length
            cell = cell - cell[0]
            price += (heights[cell] * (length - into) + heights[cell + 1] * into) // length
        return price

    def minutes(self, start: int, stop: int) -> Minutes:
        """The minutes in ``[start, stop)``, whatever was halted."""
        # One more in front: a minute may be joined to the one before.
        minute = np.arange(start - 1, stop, dtype=np.int64)
        trades, aggregates = self._activity.counts(start - 1, stop)
        busy, thin = trades >= BUSY_TRADES, (trades > 0) & (trades < BUSY_TRADES)
        opened, high, low, close = self._prices(minute, busy, thin)

        size = self._noise.hashes(SALT_SIZE, minute)
        shape = self._noise.hashes(SALT_SHAPE, minute)
        buyer_opens, buyer_closes = piece(shape, 1, 2) == 1, piece(shape, 2, 2) == 1
        free_lots = trades * piece(size, 8, self._extra_lots)
        volume = trades * SMALLEST_LOTS + free_lots
        taker = trades * (SMALLEST_LOTS // 2) + free_lots * piece(size, 40, 1001) // 1000
        taker = np.where(busy, taker, np.where(buyer_opens, volume, 0))

        prices = self._noise.hashes(SALT_PRICES, minute)
        room = np.maximum(high - low - 1, 1)
        levels = low[:, None] + 1 + np.stack([piece(prices, 1 + 15 * level, room) for level in range(4)], axis=1)
        shares = self._noise.hashes(SALT_PRICES + 1, minute)
        # One lot each is traded at the high by a buyer, at the low by a seller, at open and close by either.
        bought = taker - 1 - buyer_opens - buyer_closes
        sold = volume - taker - 3 + buyer_opens + buyer_closes
        lots = [*_split(bought, trades, piece(shares, 8, 1025)), *_split(sold, trades, piece(shares, 24, 1025))]
        thin_lots = [volume, *[np.zeros_like(volume)] * 3]
        levels = np.where(busy[:, None], levels, close[:, None])
        joined = self._joined(minute, busy, opened, close, buyer_opens, buyer_closes)
        columns = Minutes(
            minute,
            trades,
            aggregates,
            opened,
            high,
            low,
            close,
            volume,
            taker,
            buyer_opens,
            buyer_closes,
            busy,
            joined,
            levels,
            np.where(busy[:, None], np.stack(lots, axis=1), np.stack(thin_lots, axis=1)),
        )
        return Minutes(*(column[1:] for column in vars(columns).values()))

    def candles(self, start: int, stop: int) -> Candles:
        """The candles of the minutes in ``[start, stop)``, whatever was halted."""
        minutes = self.minutes(start, stop)
        busy = minutes.busy
        at_levels = self.amount(minutes.lots, minutes.levels)
        at_open, at_high, at_low, at_close = (
            np.where(busy, self.amount(np.ones_like(price), price), 0)
            for price in (minutes.open, minutes.high, minutes.low, minutes.close)
        )
        amount = at_levels.sum(axis=1) + at_open + at_high + at_low + at_close
        bought = at_levels[:, 0] + at_levels[:, 1] + at_high
        bought += np.where(minutes.buyer_opens, at_open, 0) + np.where(minutes.buyer_closes, at_close, 0)
        return Candles(
            minutes.minute * MINUTE_MS,
            minutes.open,
            minutes.high,
            minutes.low,
            minutes.close,
            minutes.volume,
            amount,
            minutes.trades,
            minutes.taker_volume,
            np.where(busy, bought, np.where(minutes.buyer_opens, amount, 0)),
        )

    def amount(self, lots: Ints, price: Ints) -> Ints:
        """What the lots are worth: quote volume, or base volume on cm, where contracts are worth a sum of dollars."""
        if self._instrument.market != "cm":
            return lots * price
        base: Ints = lots * self._contract_scale // price
        return base

    def _prices(self, minute: Ints, busy: Flags, thin: Flags) -> tuple[Ints, Ints, Ints, Ints]:
        start, stop = int(minute[0]), int(minute[-1]) + 1
        _, quiet_from = self._activity.quiet(minute)
        origin = int(min(quiet_from[0], start))
        path = np.maximum(self.path(origin, stop + 1), 1)
        # A stretch that begins after the last minute is not used; clipping only keeps the index valid.
        last_close = path[np.minimum(quiet_from - origin, len(path) - 1)]
        close = np.where(busy | thin, path[minute - origin + 1], last_close)
        moved = np.maximum(path[minute - origin] + self._noise.pick(SALT_OPEN, minute, 3) - 1, 1)
        opened = np.where(busy, moved, close)
        wicks = self._noise.hashes(SALT_SHAPE, minute)
        high = np.maximum(opened, close) + np.where(busy, piece(wicks, 8, self._wick), 0)
        low = np.minimum(opened, close) - np.where(busy, piece(wicks, 32, self._wick), 0)
        low = np.maximum(low, 1)
        # Between low and high there must be a price for the other trades.
        return opened, np.where(busy, np.maximum(high, low + 2), high), low, close

    def _joined(
        self, minute: Ints, busy: Flags, opened: Ints, close: Ints, buyer_opens: Flags, buyer_closes: Flags
    ) -> Flags:
        joined = np.zeros(len(minute), dtype=np.bool_)
        if self._instrument.market == "spot":
            return joined
        there = self._activity.present(minute)
        joined[1:] = (
            (minute[1:] % DAY_MINUTES != 0)
            & (busy & there)[1:]
            & (busy & there)[:-1]
            & (opened[1:] == close[:-1])
            & (buyer_opens[1:] == buyer_closes[:-1])
            & (self._noise.pick(SALT_STRADDLE, minute[1:], 100) < STRADDLE_PERCENT)
        )
        return joined


def _split(lots: Ints, trades: Ints, share: Ints) -> tuple[Ints, Ints]:
    """The lots of a side at its two prices, each enough for all trades; ``share`` is of 1024."""
    first = trades + (lots - 2 * trades) * share // 1024
    return first, lots - first
