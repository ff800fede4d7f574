"""The sidecar: connections → sequences → a bounded buffer → the store, and what did not come by REST."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import StoreUnavailableError
from airflow_provider_binance.market import SECOND_US
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.proxies import way_to
from airflow_provider_binance.rest.meter import measured
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.base import open_store
from airflow_provider_binance.stream.buffer import Buffer, Item
from airflow_provider_binance.stream.fleet import Fleet
from airflow_provider_binance.stream.flushing import Flusher
from airflow_provider_binance.stream.following import Following
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.health import HealthServer
from airflow_provider_binance.stream.holding import Holding
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.listening import Listener
from airflow_provider_binance.stream.mending import Mender
from airflow_provider_binance.stream.metrics import Metrics
from airflow_provider_binance.stream.progress import Progressing
from airflow_provider_binance.stream.reloading import Reloading
from airflow_provider_binance.stream.searching import Searching
from airflow_provider_binance.stream.selection import Selection
from airflow_provider_binance.stream.spool import Spool
from airflow_provider_binance.stream.spooling import SpooledBuffer
from airflow_provider_binance.stream.standing import Standing
from airflow_provider_binance.stream.subscriptions import Carried, Shard, carried_by
from airflow_provider_binance.stream.taking import SETTLE_SECONDS, Taking

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
#: Some 300 bytes each.
MOST_BUFFERED = 100_000
#: So long is waited for what the store still takes when it ends: with a spool little enough for the ten seconds that
#: containers are given.
DRAIN_SECONDS = 20.0
SPOOLED_DRAIN_SECONDS = 4.0
#: So long is waited for what is under way: loads, and courtesies to a store that may not answer.
LEAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What a run of the sidecar did."""

    events: int
    rows_inserted: int
    flushes: int
    gaps: int
    mended_rows: int
    connects: int

    def to_dict(self) -> dict[str, int]:
        """Plain numbers."""
        return {name: getattr(self, name) for name in self.__slots__}


class Sidecar:
    """Streams what is selected into the store until SIGTERM or SIGINT. `health_port`: see `health`.

    `reselect` reads the selection anew: at SIGHUP, when `file` has changed, and every hour. `spool` keeps what the
    store does not take in time; it stays open. `leave` is called, in another thread, where all is done and something
    that is under way, such as a store that hangs, keeps it from returning.
    """

    def __init__(
        self,
        config: BinanceConfig,
        selection: Selection,
        shard: Shard,
        *,
        health_port: int | None = None,
        reselect: Callable[[], Selection] | None = None,
        file: Path | None = None,
        spool: Spool | None = None,
        leave: Callable[[StreamReport], None] = lambda report: None,
    ) -> None:
        self._config = config
        self._selection = selection
        self._shard = shard
        self._health_port = health_port
        self._reselect = reselect or (lambda: selection)
        self._file = file
        self._buffer = Buffer(MOST_BUFFERED) if spool is None else SpooledBuffer(MOST_BUFFERED, spool)
        self._mender = Mender(partial(ingest.load, config=config, run_ref="stream"))
        self._taking = Taking(self._put, self._mender.ask)
        self._progress = Progressing()
        self._standing = Standing(self._buffer, self._mender, self._taking)
        self._paused = False
        self._leave = leave
        self._leaving: threading.Timer | None = None
        self._drain_seconds = DRAIN_SECONDS if spool is None else SPOOLED_DRAIN_SECONDS
        #: The number of the signal that ended it.
        self.ended_by = 0

    def run(self) -> StreamReport:
        """Stream until a signal comes, drain, and tell.

        Raises:
            InputError: unknown symbols or intervals.
            StoreError, BinanceError: it cannot begin, or cannot go on.
        """
        with Runtime(self._config, None, priority="live") as runtime, measured(self._standing.meter):
            wanted = self._selection.series(runtime)
            runtime.store.ensure_environment(str(self._config.environment))
            own_store = open_store(self._config.store_url, schema=self._config.store_schema)
            self._mender.start()
            self._buffer.start()
            try:
                with contextlib.ExitStack() as stack:
                    holding = stack.enter_context(Holding(own_store, self._shard, wanted, self._progress.lines))
                    metrics = Metrics(self._standing.numbers)
                    if self._health_port is not None:
                        server = HealthServer(
                            self._health_port, metrics.registry, alive=self._standing.why_dead,
                            ready=self._standing.why_not_ready, notes=self._standing.notes,
                        )  # fmt: skip
                        stack.enter_context(server)
                        log.info("health: port=%d", server.port)
                    return asyncio.run(self._stream(runtime, holding, metrics))
            finally:
                self._mender.stop()
                self._mender.join(LEAVE_SECONDS)

    async def _stream(self, runtime: Runtime, holding: Holding, metrics: Metrics) -> StreamReport:
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        now_us = partial(self._now_us, runtime)

        def room() -> None:
            # At the very end the loop may be gone.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._pause_or_go_on, flusher, ending)

        def committed(items: Sequence[Item]) -> None:
            at_us = now_us()
            times: dict[tuple[str, str], list[int]] = defaultdict(list)
            for item in items:
                if isinstance(item, Record) and item.event_us is not None:
                    times[item.series.market, item.series.dataset].append(item.event_us)
            for (_, dataset), each in times.items():
                metrics.committed(dataset, [(at_us - event_us) / SECOND_US for event_us in each])
            self._progress.committed([(place, max(each)) for place, each in times.items()], at_us)

        # A connection of its own, that of others may be closed while this one hangs.
        own_store = runtime.store.another()
        flusher = Flusher(self._buffer, own_store or runtime.store, now_us, room, "stream", committed)
        self._buffer.on_room = room

        def keeper(carried: Carried) -> Keeper:
            url = str(getattr(self._config, f"{carried.route[0]}_stream_url"))
            made = Keeper(
                carried, url, admit=runtime.rest.admit_connection,
                on_records=lambda records: self._taking.take(records, loop.time()),
                on_cut=lambda carried: self._taking.cut(carried.streams.values()),
                proxy=way_to(url, self._config.proxies),
            )  # fmt: skip
            made.pause(self._paused)
            return made

        fleet = Fleet(keeper)
        following = Following(runtime, self._taking, fleet, holding, self._reselect)
        reloading = Reloading(following.reselect, self._file)
        listener = Listener(fleet, runtime.rest, now_us)
        self._standing.flusher, self._standing.fleet, self._standing.reloading = flusher, fleet, reloading
        self._standing.listener, self._standing.holding = listener, holding
        self._listen_to_signals(loop, ending, reloading)
        flusher.start()
        await following.change()
        searching = Searching(runtime, self._taking, lambda: carried_by(fleet.planned), self._buffer.is_drained)
        runs = (fleet.run(), following.run(), self._look_after(now_us), reloading.run(), searching.run())
        tasks = [asyncio.create_task(one) for one in (*runs, listener.run())]
        ended = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in [*tasks, ended]:
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        self._taking.settle(before=float("inf"))
        self._buffer.close()
        await self._drained(flusher)
        if own_store is not None and not flusher.is_alive():
            own_store.close()
        for task in done - {ended}:
            await task  # raises what ended it
        keepers = self._standing.all_keepers
        events = sum(keeper.frames.counts["events"] for keeper in keepers)
        connects = sum(keeper.connects for keeper in keepers)
        report = StreamReport(
            events, flusher.counts.rows_inserted, flusher.flushes, self._taking.gaps, self._mender.rows, connects
        )  # fmt: skip
        self._leaving = threading.Timer(2 * LEAVE_SECONDS, self._leave, [report])
        self._leaving.daemon = True
        self._leaving.start()
        return report

    @property
    def is_mending(self) -> bool:
        """Whether a load is still under way."""
        return not self._mender.join(0)

    def returned(self) -> None:
        """Whoever called `run` goes on: it need not be left."""
        if self._leaving is not None:
            self._leaving.cancel()

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop, ending: asyncio.Event, reloading: Reloading) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def end(number: int) -> None:
            self.ended_by = number
            log.info("draining: signal=%s", signal.Signals(number).name)
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(one)  # a second one ends the process at once
            ending.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        loop.add_signal_handler(signal.SIGHUP, reloading.ask)

    async def _drained(self, flusher: Flusher) -> None:
        """Wait until all that came is written, so long as that is to be had; what is left is kept for the next start.

        Raises:
            StoreError: something is left, and there is no room for it; or the store refuses it.
        """
        await asyncio.to_thread(flusher.join, self._drain_seconds)
        if flusher.is_alive():
            flusher.give_up()
            await asyncio.to_thread(flusher.join, LEAVE_SECONDS)
        if await asyncio.to_thread(self._buffer.keep) and (
            flusher.error is None or isinstance(flusher.error, StoreUnavailableError)
        ):
            return
        raise flusher.error or StoreUnavailableError(
            f"{mask_url(self._config.store_url)} does not answer, and there is no room to keep what came last: the "
            "next start asks for what can be had again"
        )

    def _now_us(self, runtime: Runtime) -> int:
        """The server's time: by its clock as it was asked once, or as events show it."""
        newest_us = max((keeper.frames.newest_us for keeper in self._standing.keepers), default=0)
        market = self._selection.markets[0]  # one clock serves all
        return max(runtime.rest.server_now_us(market, ask=False), newest_us)

    def _put(self, items: Sequence[Item]) -> None:
        if not self._buffer.put(items) and not self._paused:
            log.warning("%d events wait for the store: reading stops", len(self._buffer))
            self._pause(True)

    def _pause_or_go_on(self, flusher: Flusher, ending: asyncio.Event) -> None:
        if flusher.error is not None:
            ending.set()
        elif self._paused and self._buffer.is_low:
            log.info("reading goes on")
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for keeper in self._standing.keepers:
            keeper.pause(paused)

    async def _look_after(self, now_us: partial[int]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._standing.beat = time.monotonic()
            self._taking.ask_late(now_us())
            self._taking.settle(before=loop.time() - SETTLE_SECONDS)
