"""`Holding`: this sidecar's beats and leases, over a connection to the store of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from airflow_provider_binance import __version__
from airflow_provider_binance.errors import StoreError
from airflow_provider_binance.records import Series
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Progress, Sidecar
from airflow_provider_binance.stream import leases
from airflow_provider_binance.stream.leases import decide, gone, instance_name
from airflow_provider_binance.stream.subscriptions import Shard

log = logging.getLogger(__name__)

#: Who was silent for so long is taken out of the tables by whoever begins next.
_FORGOTTEN_AFTER_SECONDS = 7 * 86400.0


class Holding:
    """Holds leases from the beginning to the end of its `with` block. Its methods wait for the store: call them in a
    thread.

    Args:
        store: closed at the end.
        wanted: the series that are selected, of all parts.
        progress: how far the streams came, for the heartbeat.

    `held` are the series that are this sidecar's to stream. `instance` is its name in the store.
    """

    def __init__(
        self,
        store: Store,
        shard: Shard,
        wanted: Iterable[Series],
        progress: Callable[[str], list[Progress]] = lambda instance: [],
    ) -> None:
        self.instance = instance_name()
        self.held: frozenset[Series] = frozenset()
        self._store = store
        self._shard = shard
        self._wanted = frozenset(wanted)
        self._progress = progress
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        now = self._store.sidecars()
        silent = [one.instance for one in now if one.silent_seconds > _FORGOTTEN_AFTER_SECONDS]
        if over := sorted({*silent, *gone(self.instance, now)}):
            log.info("sidecars that are no more: %s", " ".join(over))
            self._store.forget_sidecars(over)
        self.renew()
        if self._wanted and not self.held:
            log.info("standing by: others stream all %d series", len(self._wanted))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whose store is away is found dead in time.
        with contextlib.suppress(StoreError), contextlib.closing(self._store):
            self._store.forget_sidecars([self.instance])

    def want(self, wanted: Iterable[Series]) -> None:
        """These are selected from now on."""
        self._wanted = frozenset(wanted)

    def renew(self) -> frozenset[Series]:
        """Say that this sidecar lives, and take and give leases; what is held then.

        Raises:
            StoreError: it is not known who holds what. What was held is, until somebody says otherwise.
        """
        with self._mutex:
            me = Sidecar(self.instance, f"{self._shard.number}/{self._shard.count}", __version__)
            if not self._store.beat(me, self._progress(self.instance), ttl_seconds=leases.TTL_SECONDS) and self.held:
                log.warning("silent for more than %.0f s: others may have taken over", leases.TTL_SECONDS)
            found: list[Lease] = []

            def choose(now: list[Lease], sidecars: list[Sidecar]) -> LeaseChange:
                found[:] = now
                return decide(self.instance, self._shard, self._wanted, now, sidecars, leases.TTL_SECONDS)

            change = self._store.change_leases(self.instance, choose)
            held = {lease.series for lease in found if lease.instance == self.instance}
            held |= {series for series, _ in change.take}
            held -= {*change.free, *(series for series, _ in change.give)}
            if held != self.held:
                log.info("leases: held=%d taken=%d given_back=%d freed=%d lost=%d", len(held), len(change.take),
                         len(change.give), len(change.free), len(self.held - held))  # fmt: skip
            self.held = frozenset(held)
            return self.held
