"""`LiveStream`: streams for a Python program. Connections → order, gaps filled by REST → a bounded buffer → records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Self

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BufferFullError
from airflow_provider_binance.market import INTERVALS, SECOND_US
from airflow_provider_binance.market_data import Cause, MarketData
from airflow_provider_binance.proxies import way_to
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.arrivals import made
from airflow_provider_binance.stream.asking import Asked
from airflow_provider_binance.stream.filling import Filler
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.ordering import OVERLAP_HOLD_SECONDS, Held, KeyLine, Line, Piece, RecentLine
from airflow_provider_binance.stream.outbox import OnFull, Outbox
from airflow_provider_binance.stream.refilling import Refilling
from airflow_provider_binance.stream.sequences import KeySequence, sequence_of
from airflow_provider_binance.stream.silence import Rows, Silence
from airflow_provider_binance.stream.subscriptions import Carried, plan

log = logging.getLogger(__name__)

#: A kline whose close did not come so long after its end is asked for: without a trade the stream sends none.
LATE_US = 5 * SECOND_US
#: A hole stays open so long for the records of a slower connection.
SETTLE_SECONDS = 1.0
#: What waits for REST, in all series: some 500 bytes each. Beyond it the series that holds most goes on with a gap.
MOST_HELD = 100_000
_TICK_SECONDS = 0.25


class LiveStream:
    """What is `asked`, record after record, until `close`.

    Use `open`; `take` is for one task. Everything lives in the event loop, but for REST, which has threads.
    """

    def __init__(self, config: BinanceConfig, asked: Asked) -> None:
        self._config = config
        self._asked = asked
        self._filler = Filler(config)
        self._outbox = Outbox()
        self._held = Held()
        self._lines: dict[Series, Line] = {}
        self._keepers: dict[Series, Keeper] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()
        self._refilling = Refilling(self._filler, self._now_us, self._taken.wait, self._put)
        self._error: BaseException | None = None

    @classmethod
    async def open(cls, config: BinanceConfig, asked: Asked) -> Self:
        """Look up what is asked, and begin to connect.

        Raises:
            InputError: unknown symbols.
            BinanceError: Binance is unreachable, refuses or bans.
        """
        stream = cls(config, asked)
        try:
            await stream._begin()
        except BaseException:
            await stream.close()
            raise
        return stream

    async def take(self) -> MarketData:
        """The next record or gap.

        Raises:
            BufferFullError: the buffer was full, and that is what was asked for.
            BinanceError: the streams cannot go on.
        """
        while (piece := self._outbox.pop()) is None:
            if self._error is not None:
                raise self._error
            self._came.clear()
            await self._came.wait()
        if not self._taken.is_set() and len(self._outbox) <= self._asked.buffer // 2:
            self._taken.set()
            self._pause(False)
        return made(piece)

    async def close(self) -> None:
        """Close all connections, and end all tasks and threads; see `Filler.close`."""
        tasks = [*self._tasks, *self._refilling.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._filler.close()

    async def _begin(self) -> None:
        wanted = await self._filler.in_thread(self._asked.series, self._filler.resolve)
        now_us = await self._filler.in_thread(self._filler.ask_time, self._asked.market)
        self._silence = Silence(self._filler, lambda line: self._keepers[line.series].is_connected, self._offer, now_us)
        for series in wanted:
            if not isinstance(sequence_of(series), KeySequence):
                self._lines[series] = RecentLine(series, self._held)
                continue
            line = self._lines[series] = KeyLine(series, self._held)
            if series.interval:
                line.begin(INTERVALS[series.interval].floor(now_us))
        ticks = [line for line in self._lines.values() if isinstance(line, KeyLine) and not line.series.interval]
        self._silence.watch(ticks, self._loop.time())
        for carried in plan(wanted):
            keeper = self._keeper(carried)
            self._keepers.update(dict.fromkeys(carried.streams.values(), keeper))
            self._run(keeper.run())
        self._run(self._look_after())
        if self._asked.fill_gaps:
            self._run(self._silence.run())

    def _keeper(self, carried: Carried) -> Keeper:
        url = str(getattr(self._config, f"{carried.route[0]}_stream_url"))

        def take(records: Sequence[Record]) -> None:
            self._take(records, overlaps=keeper.overlaps)

        keeper = Keeper(
            carried, url, admit=self._filler.admit, on_records=take, on_cut=self._cut,
            proxy=way_to(url, self._config.proxies),
        )  # fmt: skip
        return keeper

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Have `work` done beside; what ends it ends the stream."""

        async def watched() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  # raised by `take`
                self._end(error)

        self._tasks.append(asyncio.create_task(watched()))

    def _end(self, error: Exception) -> None:
        """Nothing comes any more; what came is still to be had."""
        if self._error is None:
            self._error = error
            for task in self._tasks:
                task.cancel()
        self._came.set()

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _take(self, records: Sequence[Record], *, overlaps: bool) -> None:
        at = self._loop.time()
        for record in records:
            line = self._lines.get(record.series)
            if isinstance(line, KeyLine):
                key = record.values[0]
                assert isinstance(key, int)
                self._put(line.take(key, record, at), is_live=True)
                if not line.series.interval:
                    self._silence.heard(line, at)
            elif line is not None:
                self._put(line.take(record, at, overlaps=overlaps), is_live=True)

    def _cut(self, carried: Carried) -> None:
        lines = [self._lines[series] for series in carried.streams.values()]
        ticks = [line for line in lines if isinstance(line, KeyLine) and not line.series.interval]
        self._silence.watch(ticks, self._loop.time())
        for line in lines:
            if isinstance(line, RecentLine):
                line.cut()

    def _offer(self, line: KeyLine, rows: Rows) -> int:
        """Ticks that REST has and the stream did not send."""
        pieces = [piece for key, record in rows for piece in line.take(key, record, self._loop.time())]
        self._put(pieces)
        return len(pieces)

    def _put(self, pieces: Sequence[Piece], *, is_live: bool = False) -> None:
        """Hand on, as far as there is room."""
        if self._error is not None or not pieces:
            return
        self._outbox.put(pieces)
        self._came.set()
        most = self._asked.buffer
        if len(self._outbox) < most or not self._taken.is_set():
            return
        # What was held, or fetched, comes in a lump and is no sign of a slow consumer.
        if self._asked.on_full is OnFull.WAIT or not is_live or len(pieces) > 1:
            self._taken.clear()
            self._pause(True)
        elif len(self._outbox) > most and self._asked.on_full is OnFull.RAISE:
            self._end(BufferFullError(
                f"{most} records wait to be taken: take them faster, give more room (buffer=…), or say "
                f"on_full='wait' or 'drop_oldest'"
            ))  # fmt: skip
        else:
            while len(self._outbox) > most:
                self._outbox.drop_oldest()

    # --- beside -------------------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """See to what is late, and to holes that stay open."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            at, now_us = self._loop.time(), self._now_us()
            for line in self._lines.values():
                if isinstance(line, RecentLine):
                    held_since = at if not self._keepers[line.series].overlaps else at - OVERLAP_HOLD_SECONDS
                    self._put(line.release(held_since))
                    continue
                if self._asked.fill_gaps and line.series.interval:
                    line.expect(INTERVALS[line.series.interval].closed_end(now_us, LATE_US))
                if line.open_since is not None and line.open_since <= at - SETTLE_SECONDS:
                    self._settle(line)
                self._refilling.start(line)
            while self._held.count > MOST_HELD:
                self._let_go(max(self._lines.values(), key=len))

    def _settle(self, line: KeyLine) -> None:
        if self._asked.fill_gaps:
            line.settle()
        else:
            self._put(line.give_up(Cause.NOT_ASKED))

    def _let_go(self, line: Line) -> None:
        log.warning("%d records wait for REST: %s goes on with a gap", self._held.count, line.series)
        self._put(line.give_up(Cause.BUFFER_FULL) if isinstance(line, KeyLine) else line.release(self._loop.time()))

    def _now_us(self) -> int:
        """The server's time: by its clock as it was asked once, or as events show it."""
        newest_us = max((keeper.frames.newest_us for keeper in set(self._keepers.values())), default=0)
        return max(self._filler.now_us(self._asked.market), newest_us)

    def _pause(self, paused: bool) -> None:
        for keeper in set(self._keepers.values()):
            keeper.pause(paused)
