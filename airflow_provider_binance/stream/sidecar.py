"""The sidecar: connections → sequences → a bounded buffer → the store, and what did not come by REST."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import INTERVALS, SECOND_US, Market
from airflow_provider_binance.records import CoverageRange, Series, State, WriteResult
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.stream.buffer import Buffer, Item, Lost
from airflow_provider_binance.stream.flushing import Flusher
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.health import HealthServer
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.mending import Mender, Urgency
from airflow_provider_binance.stream.metrics import Metrics, Numbers
from airflow_provider_binance.stream.sequences import KeySequence, Verdict
from airflow_provider_binance.stream.subscriptions import Carried, Shard, plan

log = logging.getLogger(__name__)

#: A kline whose close did not come so long after its end is asked for: without a trade the stream sends none.
LATE_US = 5 * SECOND_US
#: A hole stays open for late records of overlapping connections for so long.
SETTLE_SECONDS = 5.0
_TICK_SECONDS = 0.5
#: Some 300 bytes each.
MOST_BUFFERED = 100_000
DRAIN_SECONDS = 20.0
#: A loop that did not come round for so long does not come back by itself.
MOST_BEAT_SECONDS = 60.0


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
    """Streams the klines of `symbols` into the store until SIGTERM or SIGINT. `health_port`: see `health`."""

    def __init__(
        self,
        config: BinanceConfig,
        market: Market,
        symbols: Sequence[str],
        intervals: Sequence[str],
        shard: Shard,
        *,
        health_port: int | None = None,
    ) -> None:
        self._config = config
        self._market = market
        self._symbols = symbols
        self._intervals = intervals
        self._shard = shard
        self._buffer = Buffer(MOST_BUFFERED)
        self._sequences: dict[Series, KeySequence] = {}
        self._open_since: dict[Series, float] = {}
        self._keepers: list[Keeper] = []
        self._gaps = 0
        self._stale = 0
        self._paused = False
        self._health_port = health_port
        self._flusher: Flusher | None = None
        self._mender: Mender | None = None
        self._beat = time.monotonic()
        #: The number of the signal that ended it.
        self.ended_by = 0

    def run(self) -> StreamReport:
        """Stream until a signal comes, drain, and tell.

        Raises:
            InputError: unknown symbols or intervals.
            StoreError, BinanceError: it cannot begin, or cannot go on.
        """
        with Runtime(self._config, None, priority="live") as runtime:
            names = runtime.symbols.resolve(self._symbols, self._market, "klines")
            wanted = [Series(self._market.value, "klines", name, i) for name in names for i in self._intervals]
            planned = plan(wanted, shard=self._shard)
            runtime.store.ensure_environment(str(self._config.environment))
            mender = self._mender = Mender(partial(ingest.load, config=self._config, run_ref="stream"))
            self._begin(runtime, [series for carried in planned for series in carried.streams.values()], mender)
            mender.start()
            try:
                with contextlib.ExitStack() as stack:
                    metrics = Metrics(self._numbers)
                    if self._health_port is not None:
                        server = HealthServer(
                            self._health_port, metrics.registry, alive=self._why_dead, ready=self._why_not_ready
                        )
                        stack.enter_context(server)
                        log.info("health: port=%d", server.port)
                    return asyncio.run(self._stream(runtime, planned, mender, metrics))
            finally:
                mender.stop()

    def _begin(self, runtime: Runtime, wanted: Sequence[Series], mender: Mender) -> None:
        """Begin each series at the kline that is open now; what lies between it and the stored ones is a gap."""
        now_us = runtime.now_us(self._market)
        known = runtime.store.coverage("klines", wanted, 0, now_us)
        for series in wanted:
            opened = INTERVALS[series.interval].floor(now_us)
            self._sequences[series] = KeySequence(INTERVALS[series.interval].next_open)
            self._sequences[series].pass_over(opened)
            covered_us = _covered_until(known.get(series, []))
            if covered_us is not None and covered_us < opened:
                log.info("behind: %s from=%d to=%d", series, covered_us, opened)
                mender.ask(Urgency.REPAIR, series, covered_us, opened)

    async def _stream(
        self, runtime: Runtime, planned: Sequence[Carried], mender: Mender, metrics: Metrics
    ) -> StreamReport:
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        self._listen_to_signals(loop, ending)
        now_us = partial(self._now_us, runtime)

        def room() -> None:
            # At the very end the loop may be gone.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._pause_or_go_on, flusher, ending)

        def committed(items: Sequence[Item]) -> None:
            at_us = now_us()
            for item in items:
                if isinstance(item, Record) and item.event_us is not None:
                    metrics.lag.labels(item.series.dataset).observe((at_us - item.event_us) / SECOND_US)

        flusher = self._flusher = Flusher(self._buffer, runtime.store, now_us, room, "stream", committed)
        proxies = self._config.proxies
        self._keepers = [
            Keeper(
                carried, getattr(self._config, f"{carried.route[0]}_stream_url"), admit=runtime.rest.admit_connection,
                on_records=self._take, on_cut=self._cut, proxy=proxies.get("https") or proxies.get("http"),
            )
            for carried in planned
        ]  # fmt: skip
        flusher.start()
        tasks = [asyncio.create_task(keeper.run()) for keeper in self._keepers]
        tasks.append(asyncio.create_task(self._look_after(now_us, mender)))
        ended = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in [*tasks, ended]:
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        self._settle(mender, since=float("inf"))
        self._buffer.close()
        await self._drained(flusher)
        for task in done - {ended}:
            await task  # raises what ended it
        if flusher.error is not None:
            raise flusher.error
        events = sum(keeper.frames.counts["events"] for keeper in self._keepers)
        connects = sum(keeper.connects for keeper in self._keepers)
        return StreamReport(
            events, flusher.counts.rows_inserted, flusher.flushes, self._gaps, mender.rows, connects
        )  # fmt: skip

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop, ending: asyncio.Event) -> None:
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

    async def _drained(self, flusher: Flusher) -> None:
        """Wait until all that came is written, so long as that is to be had."""
        await asyncio.to_thread(flusher.join, DRAIN_SECONDS)
        if flusher.is_alive():
            flusher.give_up()
            await asyncio.to_thread(flusher.join, DRAIN_SECONDS)

    def _now_us(self, runtime: Runtime) -> int:
        """The server's time: by its clock as it was asked once, or as events show it."""
        newest_us = max((keeper.frames.newest_us for keeper in self._keepers), default=0)
        return max(runtime.rest.server_now_us(self._market, ask=False), newest_us)

    # --- in the thread that answers the health port -------------------------------------------------------------------

    def _why_dead(self) -> list[str]:
        silent = time.monotonic() - self._beat
        return [f"the event loop stands still for {silent:.0f} s"] if silent > MOST_BEAT_SECONDS else []

    def _why_not_ready(self) -> list[str]:
        why = [f"does not deliver: {keeper}" for keeper in self._keepers if not keeper.is_live]
        if self._flusher is None:
            why.append("it is still beginning")
        elif self._flusher.hindrance:
            why.append(f"the store is away: {self._flusher.hindrance}")
        return why

    def _numbers(self) -> Numbers:
        events: Counter[str] = Counter()
        odd: Counter[tuple[str, str]] = Counter()
        live: Counter[str] = Counter()
        connects: Counter[str] = Counter()
        newest: dict[str, float] = {}
        for keeper in self._keepers:
            market = keeper.market.value
            events[market] += keeper.frames.counts["events"]
            for kind in ("unknown", "malformed"):
                odd[market, kind] += keeper.frames.counts[kind]
            live[market] += keeper.is_live
            connects[market] += keeper.connects
            newest_us = keeper.frames.newest_us
            if newest_us:
                newest[market] = max(newest.get(market, 0.0), newest_us / SECOND_US)
        flusher, mender = self._flusher, self._mender
        return Numbers(
            events=events, odd_frames=odd, last_event=newest, connections=live, connects=connects, stale=self._stale,
            gaps=self._gaps, mended_rows=mender.rows if mender else 0,
            rows=flusher.counts if flusher else WriteResult(), queue=len(self._buffer),
            last_commit=flusher.committed_at if flusher else None,
        )  # fmt: skip

    # --- in the event loop --------------------------------------------------------------------------------------------

    def _take(self, records: Sequence[Record]) -> None:
        fresh = []
        for record in records:
            sequence = self._sequences.get(record.series)
            verdict = sequence.take(record) if sequence is not None else Verdict.STALE
            if verdict is Verdict.STALE:
                self._stale += 1
                continue
            if verdict is Verdict.GAP:
                self._open_since.setdefault(record.series, asyncio.get_running_loop().time())
            fresh.append(record)
        if fresh and not self._buffer.put(fresh) and not self._paused:
            log.warning("%d events wait for the store: reading stops", len(self._buffer))
            self._pause(True)

    def _cut(self, carried: Carried) -> None:
        for series in carried.streams.values():
            self._sequences[series].cut()

    def _pause_or_go_on(self, flusher: Flusher, ending: asyncio.Event) -> None:
        if flusher.error is not None:
            ending.set()
        elif self._paused and self._buffer.is_low:
            log.info("reading goes on")
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for keeper in self._keepers:
            keeper.pause(paused)

    async def _look_after(self, now_us: partial[int], mender: Mender) -> None:
        """Have closes fetched that are late, and holes that stay open."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._beat = time.monotonic()
            at_us = now_us()
            for series, sequence in self._sequences.items():
                first_us, interval = sequence.next_key, INTERVALS[series.interval]
                late_us = interval.closed_end(at_us, LATE_US)
                if first_us is not None and first_us < late_us:
                    sequence.pass_over(late_us)
                    mender.ask(Urgency.LIVE, series, first_us, late_us)
            self._settle(mender, since=loop.time() - SETTLE_SECONDS)

    def _settle(self, mender: Mender, *, since: float) -> None:
        """Write down the holes that were open before `since`, and have them filled."""
        for series in [series for series, at in self._open_since.items() if at <= since]:
            del self._open_since[series]
            for start_us, end_us in self._sequences[series].settle():
                self._gaps += 1
                log.warning("gap: %s from=%d to=%d", series, start_us, end_us)
                self._buffer.put([Lost(series, start_us, end_us)])
                mender.ask(Urgency.REPAIR, series, start_us, end_us)


def _covered_until(ranges: Sequence[CoverageRange]) -> int | None:
    """Where what the ledger knows to be there ends."""
    return max((known.end_us for known in ranges if known.state is State.COMPLETE), default=None)
