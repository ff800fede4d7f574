"""Streams that were acknowledged and stay silent: REST says that the symbol trades, and nothing comes.

Asked are only streams that were not heard for a while, a few of each market at a time, for the klines of that while.
One that is found is told of, and subscribed again once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.market import INTERVALS, MINUTE_US, SECOND_US, Market, iso
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.stream.fleet import Fleet

log = logging.getLogger(__name__)

#: How often it is looked, and how many streams of a market are asked about: at most 40 of its weight.
CHECK_SECONDS = 300.0
MOST_ASKED = 20
#: What is silent because nothing happens: seldom, or only when somebody is liquidated.
_SELDOM = frozenset({"liquidations"})
_MINUTE = INTERVALS["1m"]
#: Which of an array of REST is the number of trades.
_TRADES_AT = 8


class Listening:
    """Since when each stream was not heard. Pure; times in µs are Binance's."""

    def __init__(self) -> None:
        self.silent: dict[str, Series] = {}
        self._since: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def look(self, streams: dict[str, Series], heard: Iterable[str], now_us: int) -> list[tuple[str, int]]:
        """The streams to ask about, and since when they were not heard: whoever was asked about longest ago, first.

        Args:
            streams: those that are subscribed, over a connection that delivers.
            heard: which of them brought something since the last look.
            now_us: the time of this look.
        """
        for name in heard:
            if self.silent.pop(name, None):
                log.info("no longer silent: stream=%s", name)
            self._since[name] = now_us
        for gone in (self._since.keys() | self.silent.keys()) - streams.keys():
            self._since.pop(gone, None)
            self._asked.pop(gone, None)
            self.silent.pop(gone, None)
        suspects: dict[str, list[str]] = {}
        for name, series in streams.items():
            since_us = self._since.setdefault(name, now_us)
            # A minute at least must have passed as a whole.
            if series.dataset not in _SELDOM and _MINUTE.closed_end(now_us) - _MINUTE.ceil(since_us) >= MINUTE_US:
                suspects.setdefault(series.market, []).append(name)
        asked = [
            name
            for names in suspects.values()
            for name in sorted(names, key=lambda name: (self._asked.get(name, 0), name))[:MOST_ASKED]
        ]
        self._asked.update(dict.fromkeys(asked, now_us))
        return [(name, self._since[name]) for name in asked]

    def found(self, name: str, series: Series) -> bool:
        """It is silent; whether that is new."""
        is_new = name not in self.silent
        self.silent[name] = series
        return is_new


class Listener:
    """Looks after the streams of `fleet`, until `run` is cancelled. `counts` are the silent ones by market."""

    def __init__(self, fleet: Fleet, rest: BinanceRest, now_us: Callable[[], int]) -> None:
        self._fleet = fleet
        self._rest = rest
        self._now_us = now_us
        self._listening = Listening()

    @property
    def counts(self) -> Counter[str]:
        """How many streams of each market are silent."""
        counts = Counter({str(keeper.market): 0 for keeper in self._fleet.keepers})
        return counts + Counter(series.market for series in list(self._listening.silent.values())) or counts

    @property
    def notes(self) -> list[str]:
        """What is to be told of."""
        return [
            f"silent though it trades: stream={name} market={series.market}"
            for name, series in sorted(self._listening.silent.items())
        ]

    async def run(self) -> None:
        """Look every `CHECK_SECONDS`."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.look()
            except IngestError as error:
                log.warning("cannot tell silent streams: %s", error)

    async def look(self) -> None:
        """Look once; raises IngestError if Binance does not tell."""
        streams: dict[str, Series] = {}
        heard: set[str] = set()
        for keeper in self._fleet.keepers:
            if keeper.is_live:
                streams |= {_named(series, name): series for name, series in keeper.carried.streams.items()}
            heard |= {
                _named(keeper.carried.streams[name], name)
                for name in keeper.frames.take_heard()
                if name in keeper.carried.streams
            }
        for place, since_us in self._listening.look(streams, heard, self._now_us()):
            series, name = streams[place], place.partition("/")[2]
            if not await asyncio.to_thread(self._trades, series, since_us):
                continue
            keepers = [keeper for keeper in self._fleet.keepers if keeper.carried.streams.get(name) == series]
            if not keepers or any(name in keeper.frames.heard for keeper in keepers):
                continue  # it spoke meanwhile
            if self._listening.found(place, series):
                log.warning("silent: stream=%s market=%s since=%s; it is subscribed again", name, series.market,
                            iso(since_us))  # fmt: skip
                for keeper in keepers:
                    await keeper.subscribe_again([name])

    def _trades(self, series: Series, since_us: int) -> bool:
        """Whether a closed minute since then has a trade."""
        market = Market(series.market)
        start_us = _MINUTE.ceil(since_us)
        asked = {"symbol": series.symbol, "interval": "1m", "startTime": start_us // 1000, "limit": 99}
        rows = self._rest.request("GET", KLINES.rest_path(market), asked, market=market)
        end_us = _MINUTE.closed_end(self._now_us(), 5 * SECOND_US)
        return any(start_us <= int(row[0]) * 1000 < end_us and int(row[_TRADES_AT]) > 0 for row in rows)


def _named(series: Series, name: str) -> str:
    """The stream's name among those of all markets."""
    return f"{series.market}/{name}"
