"""What waits in the triggerer: `ArchiveFileTrigger` for archive files, `FreshnessTrigger` for a sidecar's data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_binance.errors import IngestError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_binance.freshness import Awaited


class ArchiveFileTrigger(BaseTrigger):
    """Fires once all files of a window are out; asks for the first that is not, every `poke_interval` seconds.

    The event is `{"status": "success" or "error", "message": …}`; an error is what waiting cannot mend. An archive
    that is out of reach, or a connection that cannot be read now, is asked again: the wait itself has a time-out.

    Args:
        binance_conn_id: connection of type `binance`.
        files: which ones, as arguments of `publication.awaited_files`. Airflow keeps them in its database, where a
            window of many symbols would be many paths.
        first: the first path that was not out; those before it are not asked for again.
        poke_interval: seconds from one look to the next.
    """

    def __init__(self, *, binance_conn_id: str, files: Mapping[str, Any], first: str, poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.binance_conn_id = binance_conn_id
        self.files = dict(files)
        self.first = first
        self.poke_interval = poke_interval
        self._waiting: list[str] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The import path and the arguments."""
        return (
            "airflow_provider_binance.triggers.binance.ArchiveFileTrigger",
            {
                "binance_conn_id": self.binance_conn_id,
                "files": self.files,
                "first": self.first,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        while True:
            first = self._waiting[0] if self._waiting else self.first
            try:
                if (connection := await _connection_now(self.binance_conn_id, self.log)) is not None:
                    # In a thread: reading the settings may read a key file.
                    waiting = await asyncio.to_thread(self._look, connection)
                    if not waiting:
                        yield _event("success")
                        return
                    self.log.info("waiting for %d archive files, first %s", len(waiting), waiting[0])
            except AirflowNotFoundException as error:
                yield _event("error", str(error))
                return
            except IngestError as error:
                if not error.retryable:
                    yield _event("error", f"{type(error).__name__}: {error}")
                    return
                self.log.warning("cannot tell yet whether %s is out: %s", first, error)
            await asyncio.sleep(self.poke_interval)

    def _look(self, connection: Connection) -> list[str]:
        """The files from the first that is not out."""
        from airflow_provider_binance.hooks.binance import config_of
        from airflow_provider_binance.publication import awaited_files, published

        config = config_of(connection)
        if self._waiting is None:
            paths = awaited_files(**self.files, config=config)
            self._waiting = paths[paths.index(self.first) :] if self.first in paths else paths
        self._waiting = self._waiting[published(config, self._waiting) :]
        return self._waiting


class FreshnessTrigger(BaseTrigger):
    """Fires once a sidecar's data are fresh; looks every `poke_interval` seconds.

    The event is as `ArchiveFileTrigger`'s. A store that is away is looked at again.

    Args:
        store_conn_id: connection of type `postgres` or `sqlite`.
        awaited: what is to be fresh, as arguments of `freshness.Awaited.checked`.
        poke_interval: seconds from one look to the next.
    """

    def __init__(self, *, store_conn_id: str, awaited: Mapping[str, Any], poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.store_conn_id = store_conn_id
        self.awaited = dict(awaited)
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The import path and the arguments."""
        return (
            "airflow_provider_binance.triggers.binance.FreshnessTrigger",
            {"store_conn_id": self.store_conn_id, "awaited": self.awaited, "poke_interval": self.poke_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        from airflow_provider_binance.freshness import Awaited

        while True:
            try:
                if (connection := await _connection_now(self.store_conn_id, self.log)) is not None:
                    awaited = Awaited.checked(**self.awaited)
                    problems = await asyncio.to_thread(look_at_freshness, connection, awaited)
                    if not problems:
                        yield _event("success")
                        return
                    self.log.info("not fresh: %s", "; ".join(problems))
            except AirflowNotFoundException as error:
                yield _event("error", str(error))
                return
            except IngestError as error:
                if not error.retryable:
                    yield _event("error", f"{type(error).__name__}: {error}")
                    return
                self.log.warning("cannot tell yet: %s", error)
            await asyncio.sleep(self.poke_interval)


def look_at_freshness(connection: Connection, awaited: Awaited) -> list[str]:
    """What is not fresh in the store that the connection names; raises IngestError. It waits for the store."""
    from airflow_provider_binance.airflow_connections import store_target
    from airflow_provider_binance.freshness import staleness
    from airflow_provider_binance.store.base import open_store

    target = store_target(connection)
    with open_store(target.url, schema=target.schema, create=False) as store:
        return staleness(store, awaited)


async def _connection_now(conn_id: str, log: Any) -> Connection | None:
    """The connection as it is now; None if Airflow cannot tell now."""
    try:
        return await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise
    except Exception as error:  # noqa: BLE001  # its API server, a secrets backend: whatever these may raise
        log.warning("cannot read connection %s now: %s", conn_id, type(error).__name__)
        return None


def _event(status: str, message: str = "") -> TriggerEvent:
    return TriggerEvent({"status": status, "message": message})  # type: ignore[no-untyped-call]
