"""A seeded market that can be computed at any instant, without state and without floats.

The price of an instrument is a sum of noises of growing wave length; each is an integer interpolation between hashed
nodes, so minute 5,000,000 costs no more than minute 5. A minute's trades, volume and wicks are hashes of the minute.
Some stretches of a few minutes have no trade at all. Seconds split their minute: together they give exactly its row.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from airflow_provider_binance.simulator.candles import BASE_VOLUME_DECIMALS, Candles, Ints, aggregate, join
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import (
    HOUR_MS,
    LENGTH_MS,
    MINUTE_MS,
    floor_open,
    floor_opens,
    next_open,
)

Hashes = npt.NDArray[np.uint64]
Range = tuple[int, int]

OCTAVES = 11
OCTAVE_STEP = 4
# Stretches without trades are laid out in blocks of this many minutes.
QUIET_BLOCK = 64
QUIET_PERCENT = 12
MOST_TRADES = 1200
# 30 days of hours in one cached block; 1,024 blocks are some 60 MB.
BLOCK_HOURS = 720
CACHED_BLOCKS = 1024


class SyntheticSeries:
    """All intervals of one synthetic instrument, consistent with one another to the last digit.

    ``halts`` are half-open ranges in milliseconds during which the exchange stood still: no rows in any source.
    """

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self.instrument = instrument
        digest = hashlib.sha256(f"{seed}/{instrument.market}/{instrument.symbol}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "little")
        self._contract_scale = 10 ** (BASE_VOLUME_DECIMALS + instrument.price_decimals)
        # The nodes of all octaves together stay below 0.7 of the middle, so no price comes near zero.
        self._swing = max(instrument.middle * 35 // 100, 1)
        self._wick = self._swing // 2**OCTAVES + 2
        # Bounded so that a month's sum of volume x price stays inside 64 bits, on cm a minute's scaled value.
        largest_volume = 10**14 // instrument.middle
        if instrument.market == "cm":
            largest_volume = 9 * 10**18 // (instrument.contract_size * self._contract_scale)
        self._most_per_trade = max(1, min(4000, largest_volume // MOST_TRADES))
        self._hours: OrderedDict[int, Candles] = OrderedDict()
        self.halts: list[Range] = []

    def halt(self, start_ms: int, end_ms: int) -> None:
        """Let the exchange have stood still in ``[start_ms, end_ms)``."""
        self.halts.append((start_ms, end_ms))
        self._hours.clear()

    def clear_halts(self) -> None:
        """Forget all halts."""
        self.halts.clear()
        self._hours.clear()

    def candles(self, interval: str, start_ms: int, end_ms: int, as_of_ms: int) -> Candles:
        """Candles that open in ``[start_ms, end_ms]`` as they were known at ``as_of_ms``, a forming one included."""
        first = max(floor_open(interval, start_ms), floor_open(interval, self.instrument.listed_ms))
        last = min(floor_open(interval, end_ms), floor_open(interval, as_of_ms))
        if last < first:
            return join([])
        base_end = min(next_open(interval, last), as_of_ms + 1)
        if interval == "1s":
            base = self._base(first, base_end, as_of_ms, seconds=True)
        elif interval == "1m":
            base = self._base(first, base_end, as_of_ms)
        elif LENGTH_MS[interval] < HOUR_MS:
            minutes = self._base(first, base_end, as_of_ms)
            base = aggregate(minutes, floor_opens(interval, minutes.open_time))
        else:
            hours = self._hourly(first, base_end, as_of_ms)
            base = aggregate(hours, floor_opens(interval, hours.open_time))
        return base.between(start_ms, end_ms)

    def _hourly(self, start_ms: int, end_ms: int, as_of_ms: int) -> Candles:
        block_ms = BLOCK_HOURS * HOUR_MS
        parts = []
        for block in range(start_ms // block_ms, (end_ms - 1) // block_ms + 1):
            block_end = (block + 1) * block_ms
            # A block that is complete by now knows too much for someone who looks from within it.
            known = self._hours.get(block) if block_end <= as_of_ms else None
            if known is None:
                minutes = self._base(block * block_ms, min(block_end, as_of_ms + 1), as_of_ms)
                known = aggregate(minutes, floor_opens("1h", minutes.open_time))
                if block_end <= as_of_ms:
                    self._hours[block] = known
                    if len(self._hours) > CACHED_BLOCKS:
                        self._hours.popitem(last=False)
            parts.append(known)
        return join(parts).between(start_ms, end_ms - 1)

    def _base(self, start_ms: int, end_ms: int, as_of_ms: int, *, seconds: bool = False) -> Candles:
        """Minutes (or seconds) that open in ``[start_ms, end_ms)``, inside the life and outside the halts."""
        instrument = self.instrument
        first = max(start_ms, instrument.listed_ms) // MINUTE_MS
        stop_ms = end_ms if instrument.delisted_ms is None else min(end_ms, instrument.delisted_ms)
        stop = -(-stop_ms // MINUTE_MS)
        forming = as_of_ms // MINUTE_MS
        parts = []
        whole_stop = min(stop, forming)
        if first < whole_stop:
            minutes = self._minutes(first, whole_stop)
            parts.append(self._seconds(minutes) if seconds else minutes)
        if first <= forming < stop:
            second = self._seconds(self._minutes(forming, forming + 1)).between(0, as_of_ms)
            parts.append(second if seconds else aggregate(second, floor_opens("1m", second.open_time)))
        base = join(parts)
        if seconds:
            base = base.between(max(start_ms, floor_open("1s", instrument.listed_ms)), stop_ms - 1)
        for halt_start, halt_end in self.halts:
            # A minute is lost when the halt covers its open.
            base = base.keep((base.open_time < halt_start) | (base.open_time >= halt_end))
        return base

    def _hash(self, salt: int, index: Ints) -> Hashes:
        """splitmix64 of the index, keyed: fast, and the same on every machine."""
        key = np.uint64((self._key + salt * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF)
        with np.errstate(over="ignore"):
            state = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))

    def _pick(self, salt: int, index: Ints, choices: int) -> Ints:
        return (self._hash(salt, index) % np.uint64(choices)).astype(np.int64)

    def _path(self, start: int, stop: int) -> Ints:
        """Price at the start of each minute in ``[start, stop)``."""
        minute = np.arange(start, stop, dtype=np.int64)
        price = np.full(len(minute), self.instrument.middle, dtype=np.int64)
        for octave in range(OCTAVES):
            length = OCTAVE_STEP**octave
            swing = self._swing // 2 ** (OCTAVES - octave)
            if swing == 0:
                continue
            cell = minute // length
            nodes = np.arange(cell[0], cell[-1] + 2, dtype=np.int64)
            heights = self._pick(octave + 1, nodes, 2 * swing + 1) - swing
            into = minute - cell * length
            cell = cell - cell[0]
            price += (heights[cell] * (length - into) + heights[cell + 1] * into) // length
        return price

    def _minutes(self, start: int, stop: int) -> Candles:
        minute = np.arange(start, stop, dtype=np.int64)
        origin = start // QUIET_BLOCK * QUIET_BLOCK
        path = self._path(origin, stop + 1)

        block = minute // QUIET_BLOCK
        block_hash = self._hash(20, block)
        quiet_from = block * QUIET_BLOCK + 1 + ((block_hash >> np.uint64(8)) % np.uint64(50)).astype(np.int64)
        quiet_length = 1 + ((block_hash >> np.uint64(20)) % np.uint64(8)).astype(np.int64)
        has_quiet = (block_hash % np.uint64(100)) < np.uint64(QUIET_PERCENT)
        quiet = has_quiet & (minute >= quiet_from) & (minute < quiet_from + quiet_length)

        # A stretch that begins after the last minute is not used; clipping only keeps the index valid.
        last_close = path[np.minimum(quiet_from - origin, len(path) - 1)]
        opened = np.where(quiet, last_close, path[minute - origin] + self._pick(21, minute, 3) - 1)
        close = np.where(quiet, last_close, path[minute - origin + 1])
        wick = self._wick
        high = np.maximum(opened, close) + np.where(quiet, 0, self._pick(22, minute, wick))
        low = np.minimum(opened, close) - np.where(quiet, 0, self._pick(23, minute, wick))
        opened, high, low, close = (np.maximum(column, 1) for column in (opened, high, low, close))

        count = np.where(quiet, 0, 1 + self._pick(24, minute, MOST_TRADES))
        volume = count * (1 + self._pick(25, minute, self._most_per_trade))
        taker = volume * self._pick(26, minute, 1001) // 1000
        average = (opened + high + low + close) // 4
        return Candles(
            minute * MINUTE_MS,
            opened,
            high,
            low,
            close,
            volume,
            self._amount(volume, average),
            count,
            taker,
            self._amount(taker, average),
        )

    def _amount(self, volume: Ints, price: Ints) -> Ints:
        instrument = self.instrument
        if instrument.market != "cm":
            return volume * price
        # Contracts are worth a fixed sum of dollars: base volume to eight decimals.
        scaled = volume * instrument.contract_size * self._contract_scale
        base_volume: Ints = scaled // price
        return base_volume

    def _seconds(self, minutes: Candles) -> Candles:
        """Each minute split in 60 seconds whose sums, first open, extremes and last close are the minute's."""
        amount = len(minutes)
        open_time = minutes.open_time[:, None] + np.arange(0, MINUTE_MS, 1000)[None, :]
        shares = self._pick(30, (open_time // 1000).ravel(), 1000).reshape(amount, 60) + 1
        reached = np.cumsum(shares, axis=1)
        counts = minutes.count[:, None] * reached // reached[:, -1:]
        count = np.diff(counts, axis=1, prepend=0)
        active = count > 0
        total = np.maximum(minutes.count, 1)[:, None]
        volumes = minutes.volume[:, None] * counts // total
        takers = minutes.taker_volume[:, None] * volumes // np.maximum(minutes.volume, 1)[:, None]
        amounts = _split(minutes.amount, counts, total)
        taker_amounts = _split(minutes.taker_amount, counts, total)

        rank = np.cumsum(active, axis=1)
        trades = np.maximum(rank[:, -1:], 1)
        span = (minutes.close - minutes.open)[:, None]
        close = minutes.open[:, None] + span * rank // trades
        opened = minutes.open[:, None] + span * np.maximum(rank - 1, 0) // trades
        # A second without trades is flat at the last price; before the minute's first trade, at the minute's open.
        opened = np.where(active, opened, close)
        high = np.maximum(opened, close)
        low = np.minimum(opened, close)
        pick = self._pick(31, minutes.open_time // MINUTE_MS, 1 << 20)[:, None]
        at_high = active & (rank == 1 + pick % trades)
        at_low = active & (rank == 1 + (pick // 64) % trades)
        high = np.where(at_high, minutes.high[:, None], high)
        low = np.where(at_low, minutes.low[:, None], low)

        def split(cumulative: Ints) -> Ints:
            return np.diff(cumulative, axis=1, prepend=0).ravel()

        return Candles(
            open_time.ravel(),
            opened.ravel(),
            high.ravel(),
            low.ravel(),
            close.ravel(),
            split(volumes),
            split(amounts),
            count.ravel(),
            split(takers),
            split(taker_amounts),
        )


def _split(whole: Ints, part: Ints, total: Ints) -> Ints:
    """``whole * part // total`` without leaving 64 bits."""
    quotient, remainder = np.divmod(whole[:, None], total)
    result: Ints = quotient * part + remainder * part // total
    return result
