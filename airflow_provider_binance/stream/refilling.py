"""`Refilling`: has REST bring what lines of a live stream lack, page by page, without holding up any other line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from airflow_provider_binance.errors import IngestError, RequestRejectedError
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.stream.filling import Filler
from airflow_provider_binance.stream.ordering import KeyLine, Piece, Work

log = logging.getLogger(__name__)

#: REST that fails is tried again for so long; then the hole is told.
MOST_SECONDS = 120.0
#: What a stream has sent, REST may have a moment later.
BEHIND_SECONDS = 1.0
BEHIND_TRIES = 5


class Refilling:
    """One task for each line that lacks something.

    Args:
        filler: asks REST.
        now_us: the server's time.
        room: returns when the user has taken enough.
        put: takes what may go on.
    """

    def __init__(
        self,
        filler: Filler,
        now_us: Callable[[], int],
        room: Callable[[], Awaitable[object]],
        put: Callable[[list[Piece]], None],
    ) -> None:
        self._filler = filler
        self._now_us = now_us
        self._room = room
        self._put = put
        self._tasks: dict[KeyLine, asyncio.Task[None]] = {}

    def start(self, line: KeyLine) -> None:
        """Have what the line lacks fetched, if that is not under way."""
        if line.work and line not in self._tasks:
            task = self._tasks[line] = asyncio.create_task(self._refill(line))
            task.add_done_callback(lambda _: self._tasks.pop(line, None))

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return list(self._tasks.values())

    async def _refill(self, line: KeyLine) -> None:
        while line.work:
            work = line.work[0]
            log.info("filling: %s from=%d to=%d late=%s", line.series, work.start, work.end, work.is_late)
            cause = await self._carry_out(line, work)
            if cause is not None and line.work:
                rest = line.work[0]
                log.warning("gap: %s from=%d to=%d cause=%s", line.series, rest.start, rest.end, cause)
                self._put(line.give_up(cause, rest))

    async def _carry_out(self, line: KeyLine, work: Work) -> Cause | None:
        """Fetch until the work is through, or why it will not be."""
        loop = asyncio.get_running_loop()
        end, behind, failing_since, pause = work.end, 0, loop.time(), BEHIND_SECONDS
        while line.work and (work := line.work[0]).end == end:
            await self._room()
            try:
                found = await self._filler.in_thread(
                    self._filler.between,
                    line.series,
                    work.start,
                    work.end,
                    is_late=work.is_late,
                    now_us=self._now_us(),
                )
            except IngestError as error:
                wait = max(pause, error.retry_after or 0.0)
                if not error.retryable or loop.time() + wait - failing_since > MOST_SECONDS:
                    log.warning("not filled: %s: %s", line.series, error)
                    return Cause.NOT_SERVED if isinstance(error, RequestRejectedError) else Cause.UNREACHABLE
                await asyncio.sleep(wait)
                pause *= 2
                continue
            failing_since, pause = loop.time(), BEHIND_SECONDS
            if found.upto > work.start:
                behind = 0
                self._put(line.filled(work, found.upto, found.rows))
                continue
            behind += 1
            if behind == BEHIND_TRIES:
                return Cause.NOT_SERVED
            await asyncio.sleep(BEHIND_SECONDS)
        return None
