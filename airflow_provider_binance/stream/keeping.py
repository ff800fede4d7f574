"""`Keeper`: keeps one planned connection up for weeks, over as many websockets as that takes.

A replacement that can be planned (before 24 hours are over, or when the server announces its end) overlaps: both are
read until the new one delivers. What comes twice is the sequences' to drop. Anything else is a cut.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from picows import WSError

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.market import Market
from airflow_provider_binance.stream.connection import Connection
from airflow_provider_binance.stream.frames import Frames, Record, Reply, Shutdown
from airflow_provider_binance.stream.pacing import (
    GOOD_LIFE_SECONDS,
    OVERLAP_SECONDS,
    SILENCE_SECONDS,
    life_us,
    reconnect_pause,
)
from airflow_provider_binance.stream.subscriptions import MESSAGES_A_SECOND, Carried, messages, opening

log = logging.getLogger(__name__)

#: So long a silent new connection may keep the old one from going: its streams may just have nothing to say.
_MOST_OVERLAP_SECONDS = 15.0
_LOOK_SECONDS = 0.5


class Keeper:
    """Keeps `carried` connected to `base_url`.

    Args:
        admit: returns when another attempt to connect may be made; called in a thread, since it may wait.
        on_records: takes what a frame brought.
        on_cut: told when, for a moment or longer, no connection was there.
        on_frame: takes each frame that brought records, as Binance sent it, with these records, before `on_records`
            does: for who hands on Binance's own words (`json.loads(frame)["data"]`). Where connections overlap, both
            bring the same: a `Sequence` asked with the records tells what is stale, and what is lacking.
        proxy: URL of a proxy.
        silence_seconds: see `pacing.SILENCE_SECONDS`.
        life_us: how old a connection becomes, by Binance's clock as its events show it.

    `connects` is how often it has connected.
    """

    def __init__(
        self,
        carried: Carried,
        base_url: str,
        *,
        admit: Callable[[Market], None],
        on_records: Callable[[Sequence[Record]], None],
        on_cut: Callable[[Carried], None],
        on_frame: Callable[[bytes, Sequence[Record]], None] | None = None,
        proxy: str | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        life_us: Callable[[], int] = lambda: life_us(random.random),
    ) -> None:
        self.carried = carried
        self.market = carried.route[0]
        self.frames = Frames(self.market)
        self.connects = 0
        self._base_url = base_url
        self._admit = admit
        self._on_records = on_records
        self._on_cut = on_cut
        self._on_frame = on_frame
        self._proxy = proxy
        self._silence_seconds = silence_seconds
        self._life_us = life_us
        self._open: set[Connection] = set()
        self._delivering: set[Connection] = set()
        self._is_paused = False
        self._wake = asyncio.Event()
        self._leaving: set[Connection] = set()
        self._failures = 0
        self._talking = asyncio.Lock()
        self._said = 0

    @property
    def is_live(self) -> bool:
        """Whether a connection delivers."""
        return bool(self._delivering)

    @property
    def is_connected(self) -> bool:
        """Whether a connection is there, be it silent."""
        return bool(self._open)

    @property
    def overlaps(self) -> bool:
        """Whether more than one connection delivers."""
        return len(self._delivering) > 1

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on."""
        self._is_paused = paused
        for connection in self._open:
            connection.pause(paused)

    async def change(self, carried: Carried) -> None:
        """Carry these streams from now on, over the connections that are open: the streams that stay notice nothing."""
        self.carried = carried
        for connection in list(self._open):
            await self._subscribe(connection)

    async def subscribe_again(self, names: Iterable[str]) -> None:
        """Unsubscribe these streams, and subscribe them anew."""
        for connection in list(self._open):
            async with self._talking:
                connection.subscribed -= await self._say(connection, "UNSUBSCRIBE", connection.subscribed & set(names))
            await self._subscribe(connection)

    async def run(self) -> None:
        """Keep it up until this is cancelled; then everything is closed."""
        current: Connection | None = None
        try:
            while True:
                fresh = await self._connect()
                current = fresh if current is None else await self._handed_over(current, fresh)
                await self._serve(current)
                if current.ended.is_set():
                    log.warning("connection lost: %s reason=%s", self, current.reason)
                    current = None
        finally:
            for connection in list(self._open):
                await connection.close()

    def __str__(self) -> str:
        market, path = self.carried.route
        return f"connection={self.carried.number} market={market} path=/{path} streams={len(self.carried.streams)}"

    async def _connect(self) -> Connection:
        """A new connection, all its streams subscribed, after as many attempts as it takes."""
        while True:
            url, rest = opening(self._base_url, self.carried)
            names = set(self.carried.streams) - set(rest)
            try:
                await asyncio.to_thread(self._admit, self.market)
                made = await Connection.open(
                    url, self._text, self._ended, messages_a_second=MESSAGES_A_SECOND[self.market],
                    silence_seconds=self._silence_seconds, proxy=self._proxy,
                )  # fmt: skip
            except (OSError, TimeoutError, WSError, IngestError) as error:
                if isinstance(error, IngestError) and not error.retryable:
                    raise
                self._failures += 1
                pause = max(reconnect_pause(self._failures, random.random), getattr(error, "retry_after", None) or 0.0)
                log.warning("cannot connect: %s error=%r attempt=%d sleep=%.1f", self, error, self._failures, pause)
                await asyncio.sleep(pause)
                continue
            self.connects += 1
            made.subscribed = names
            self._open.add(made)
            made.pause(self._is_paused)
            await self._subscribe(made)
            log.info("connected: %s", self)
            return made

    async def _subscribe(self, connection: Connection) -> None:
        """Have the connection carry what is planned now, no more and no less."""
        async with self._talking:  # or two changes at once could overtake each other
            wanted = set(self.carried.streams)
            await self._say(connection, "UNSUBSCRIBE", connection.subscribed - wanted)
            await self._say(connection, "SUBSCRIBE", wanted - connection.subscribed)
            connection.subscribed = wanted

    async def _say(self, connection: Connection, method: str, names: set[str]) -> set[str]:
        for message in messages(method, sorted(names), self._said + 1):
            self._said += 1
            await connection.say(message)
        return names

    async def _handed_over(self, old: Connection, fresh: Connection) -> Connection:
        """Read both until the new one delivers, and let go of the old one; if the new one fails it is kept."""
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(OVERLAP_SECONDS)
        waiting = [asyncio.ensure_future(event.wait()) for event in (fresh.delivers, fresh.ended, old.ended)]
        await asyncio.wait(waiting, timeout=_MOST_OVERLAP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if fresh.ended.is_set():
            self._failures += 1
            return old
        self._delivers(fresh)  # by now, if ever
        await old.close("handed over")
        log.info("handed over: %s seconds=%.1f", self, asyncio.get_running_loop().time() - begun)
        return fresh

    async def _serve(self, current: Connection) -> None:
        """Return when the connection has ended or is to be replaced."""
        loop = asyncio.get_running_loop()
        begun, begun_us, life_us = loop.time(), self.frames.newest_us, self._life_us()
        self._wake.clear()
        while not current.ended.is_set():
            begun_us = begun_us or self.frames.newest_us
            age_us = max(int((loop.time() - begun) * 1e6), self.frames.newest_us - begun_us)
            if (announced := current in self._leaving) or age_us >= life_us:
                log.info("handing over: %s age_seconds=%d announced=%s", self, age_us // 1_000_000, announced)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
        self._failures = 0 if loop.time() - begun >= GOOD_LIFE_SECONDS else self._failures + 1
        await asyncio.sleep(reconnect_pause(self._failures, random.random))

    def _text(self, connection: Connection, text: bytes) -> None:
        found = self.frames.read(text, time.time_ns() // 1000)
        if isinstance(found, Shutdown):
            log.info("the server is about to go: %s", self)
            self._leaving.add(connection)
            self._wake.set()
            return
        if isinstance(found, Reply):
            if found.error:
                log.warning("refused: %s id=%s error=%s", self, found.id, found.error)
            return
        if not connection.delivers.is_set():
            self._delivers(connection)
        if found:
            if self._on_frame is not None:
                self._on_frame(text, found)
            self._on_records(found)

    def _delivers(self, connection: Connection) -> None:
        connection.delivers.set()
        self._delivering.add(connection)

    def _ended(self, connection: Connection) -> None:
        self._wake.set()
        self._open.discard(connection)
        self._leaving.discard(connection)
        if connection in self._delivering:
            self._delivering.discard(connection)
            if not self._delivering:
                self._on_cut(self.carried)
