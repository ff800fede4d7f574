"""The order book of a synthetic instrument at any instant.

Every 100 ms the book changes at once: each price has its own rhythm in which its quantity becomes another hash, and the
middle follows the last trade. So a picture of it and the changes between two of them are looked up, never kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_provider_binance.simulator.noise import Ints, Noise
from airflow_provider_binance.simulator.ticks import Ticks

STEP_US = 100_000
FIRST_UPDATE_ID = 1_000_000
# Update ids grow by about so many a step; futures share theirs with all symbols, so they have gaps.
IDS_PER_STEP = 37
SLOWEST_RHYTHM = 600
MOST_LOTS = 5000
EMPTY_PERCENT = 10

SALT_IDS, SALT_RHYTHM, SALT_LOTS = 70, 71, 72


Side = list[tuple[int, int]]


@dataclass(frozen=True)
class Picture:
    """Price and lots of each level, best first."""

    last_update_id: int
    time_us: int
    bids: Side
    asks: Side


class Book:
    """The book of one instrument."""

    def __init__(self, ticks: Ticks, seed: int) -> None:
        instrument = ticks.instrument
        self._ticks = ticks
        self._noise = Noise(seed, instrument.market, instrument.symbol)
        self._first_step = instrument.listed_ms * 1000 // STEP_US

    def picture(self, moment_us: int, depth: int) -> Picture:
        """The best ``depth`` levels of both sides; empty when there never was a trade."""
        step = moment_us // STEP_US
        last = self._ticks.last_price(step * STEP_US)
        bids, asks = ([], []) if last is None else self.sides(best_bid(*last), step, depth)
        return Picture(self.update_id(step), step * STEP_US, bids, asks)

    def sides(self, best: int, step: int, depth: int) -> tuple[Side, Side]:
        """The best ``depth`` levels of bids and asks in a step, where bids begin at or below ``best``."""
        reach = np.arange(depth * 100 // (90 - EMPTY_PERCENT) + 40, dtype=np.int64)
        return self._levels(best - reach, step)[:depth], self._levels(best + 1 + reach, step)[:depth]

    def update_id(self, step: int) -> int:
        """The id of the last update in a step of 100 ms."""
        return int(self.update_ids(np.array([step], dtype=np.int64))[0])

    def update_ids(self, steps: Ints) -> Ints:
        """:meth:`update_id` for an array."""
        jitter = self._noise.pick(SALT_IDS, steps, IDS_PER_STEP)
        return FIRST_UPDATE_ID + np.maximum(steps - self._first_step, 0) * IDS_PER_STEP + jitter

    def rhythms(self, prices: Ints) -> Ints:
        """In how many steps the quantity at each price becomes another."""
        return 1 + self._noise.pick(SALT_RHYTHM, prices, SLOWEST_RHYTHM)

    def lots(self, prices: Ints, steps: Ints | int) -> Ints:
        """The lots at each price, on whichever side it is; 0 where nobody waits."""
        turn = (steps + prices) // self.rhythms(prices)
        hashes = self._noise.hashes(SALT_LOTS, prices * 1_000_003 + turn)
        lots = 1 + ((hashes >> np.uint64(8)) % np.uint64(MOST_LOTS)).astype(np.int64)
        there = (hashes % np.uint64(100) >= np.uint64(EMPTY_PERCENT)) & (prices > 0)
        return np.where(there, lots, 0)

    def _levels(self, prices: Ints, step: int) -> Side:
        lots = self.lots(prices, step)
        there = lots > 0
        return list(zip(prices[there].tolist(), lots[there].tolist(), strict=True))


def best_bid(price: int, buyer_maker: bool) -> int:
    """The highest price at which bids may be after a trade."""
    return price if buyer_maker else price - 1
