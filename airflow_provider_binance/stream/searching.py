"""Holes that nobody saw coming: what the ledger shows of the last days is looked at again while it streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.records import Series
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.stream.following import known_of
from airflow_provider_binance.stream.taking import Taking

log = logging.getLogger(__name__)

#: What a load left unpublished may be asked again after so long.
AGAIN_SECONDS = 900.0
#: The ledger is told of ticks with some delay.
_CLAIMED_SECONDS = 6.0
_LOOK_SECONDS = 0.5


class Searching:
    """Looks for holes once what an earlier run left behind is written (`is_drained`), and every quarter of an hour."""

    def __init__(
        self, runtime: Runtime, taking: Taking, streamed: Callable[[], Iterable[Series]], is_drained: Callable[[], bool]
    ) -> None:
        self._runtime = runtime
        self._taking = taking
        self._streamed = streamed
        self._is_drained = is_drained

    async def run(self) -> None:
        """Until this is cancelled."""
        loop = asyncio.get_running_loop()
        was_drained, due = self._is_drained(), loop.time() + AGAIN_SECONDS
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not was_drained and self._is_drained():
                was_drained, due = True, loop.time() + _CLAIMED_SECONDS
            if loop.time() >= due:
                await self._look()
                due = loop.time() + AGAIN_SECONDS

    async def _look(self) -> None:
        try:
            known = await asyncio.to_thread(known_of, self._runtime, sorted(self._streamed()))
        except IngestError as error:
            log.warning("not searched for holes: %s", error)
            return
        for one in known:
            self._taking.ask_holes(*one)
