"""`ArchiveFileTrigger`: waits in the triggerer until archive files are out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_binance.errors import IngestError


class ArchiveFileTrigger(BaseTrigger):
    """Fires once all of `paths` are out; asks for the first that is not, every `poke_interval` seconds.

    The event is `{"status": "success" or "error", "message": …}`; an error is what waiting cannot mend. An archive
    that is out of reach is asked again: the wait itself has a time-out.

    Args:
        binance_conn_id: connection of type `binance`.
        paths: files as the archive names them.
        poke_interval: seconds from one look to the next.
    """

    def __init__(self, *, binance_conn_id: str, paths: Sequence[str], poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.binance_conn_id = binance_conn_id
        self.paths = list(paths)
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The import path and the arguments."""
        return (
            "airflow_provider_binance.triggers.binance.ArchiveFileTrigger",
            {"binance_conn_id": self.binance_conn_id, "paths": self.paths, "poke_interval": self.poke_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        from airflow_provider_binance.hooks.binance import config_of
        from airflow_provider_binance.publication import published

        waiting = self.paths
        while True:
            try:
                config = config_of(await BaseHook.aget_connection(self.binance_conn_id))
                waiting = waiting[await asyncio.to_thread(published, config, waiting) :]
            except IngestError as error:
                if not error.retryable:
                    yield _event("error", f"{type(error).__name__}: {error}")
                    return
                self.log.warning("cannot tell yet whether %s is out: %s", waiting[0], error)
            if not waiting:
                yield _event("success")
                return
            self.log.info("waiting for %d archive files, first %s", len(waiting), waiting[0])
            await asyncio.sleep(self.poke_interval)


def _event(status: str, message: str = "") -> TriggerEvent:
    return TriggerEvent({"status": status, "message": message})  # type: ignore[no-untyped-call]
