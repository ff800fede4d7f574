"""`Reloading`: what is selected is read again when somebody asks, when its file changes, and every hour.

Every hour since a pattern means what trades now. What cannot be read or followed is told, and what was selected before
goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from airflow_provider_binance.errors import IngestError

log = logging.getLogger(__name__)

REFRESH_SECONDS = 3600.0
#: A file is looked at so often.
LOOK_SECONDS = 1.0

_Stamp = tuple[int, int, int] | None


class Reloading:
    """Calls `follow` whenever the selection may have changed; `file` is where it is, if it is in one.

    `follow` raises IngestError for what cannot be followed. `counts` are by outcome, `problem` is why the last one
    failed, or ''.
    """

    def __init__(self, follow: Callable[[], Awaitable[None]], file: Path | None = None) -> None:
        self.counts: Counter[str] = Counter({"followed": 0, "refused": 0})
        self.problem = ""
        self._follow = follow
        self._file = file
        self._stamp = self._look()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read it again soon; for a signal handler in the event loop."""
        self._asked.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            cause = await self._cause()
            try:
                await self._follow()
            except IngestError as error:
                self.counts["refused"] += 1
                self.problem = f"{cause}: {error}"
                log.error("not reloaded: cause=%s; what was selected before goes on: %s", cause, error)
            else:
                self.counts["followed"] += 1
                self.problem = ""
                log.info("reloaded: cause=%s", cause)

    async def _cause(self) -> str:
        """Wait for a reason, and name it."""
        loop = asyncio.get_running_loop()
        due = loop.time() + REFRESH_SECONDS
        while loop.time() < due:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            if self._asked.is_set():
                self._asked.clear()
                return "asked"
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                return "file"
        return "hour"

    def _look(self) -> _Stamp:
        """What tells one state of the file from the next, also where a link is set to another file."""
        with suppress(OSError):
            if self._file is not None:
                found = self._file.stat()
                return found.st_mtime_ns, found.st_size, found.st_ino
        return None
