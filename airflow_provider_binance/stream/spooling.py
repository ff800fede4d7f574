"""`SpooledBuffer`: a buffer that has its oldest items in a spool on this machine's disk while the store is slow or
away. Whatever is killed then, what is in the spool is written by the next start."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from itertools import islice
from pathlib import Path

from airflow_provider_binance.errors import LocalStorageError
from airflow_provider_binance.stream.batches import packed, unpacked
from airflow_provider_binance.stream.buffer import Buffer, Item
from airflow_provider_binance.stream.spool import Spool
from airflow_provider_binance.stream.subscriptions import Shard

log = logging.getLogger(__name__)

#: How much disk a spool may take: some 5 million ticks.
SPOOL_BYTES = 1 << 30
#: Items of one batch of the spool.
BATCH_ITEMS = 5_000
#: A store that took so long over what it was given is taken to be away: then all that waits goes to the disk.
AWAY_SECONDS = 2.0
_LOOK_SECONDS = 0.2


def default_folder(store_url: str, shard: Shard) -> Path:
    """Where a sidecar spools that was given no folder: below the user's state, one folder for each store and shard."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    digest = hashlib.sha256(store_url.encode()).hexdigest()[:16]
    place = Path(state) / "airflow-provider-binance" / "spool" / f"{digest}-{shard.number}of{shard.count}"
    return place.expanduser().absolute()


class SpooledBuffer(Buffer):
    """A buffer in memory behind a spool: what is in the spool is older, and is taken first.

    A thread of its own moves the oldest items to the disk, those that were taken and are not written yet before them,
    when memory is half full, or the store does not answer. When the spool is full, too, memory fills, and `put` says
    so. `on_room` is told after each move. `hindrance`: why nothing more goes to the disk, or ''.
    """

    def __init__(self, most: int, spool: Spool) -> None:
        super().__init__(most)
        self.spool = spool
        self.hindrance = ""
        self._disk = threading.Lock()
        self._moving = False
        self._is_taken_spooled = False
        self._taken_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Begin to watch how much waits."""
        if len(self.spool):
            log.info("%d batches wait in the spool %s", len(self.spool), self.spool.folder)
        self._thread.start()

    def is_drained(self) -> bool:
        """Whether nothing waits on the disk."""
        return not len(self.spool)

    def has(self, count: int) -> bool:
        """Whether so many items wait to be taken; a spool that is not empty is many."""
        return len(self.spool) > self._is_taken_spooled or super().has(count)

    def take(self, most: int) -> list[Item]:
        """As a buffer's, the spool's oldest batch first.

        Raises:
            LocalStorageError: the disk fails.
        """
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._moving and (len(self.spool) or self._items or self._closed)
                )  # fmt: skip
                if not len(self.spool):
                    self._taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
                    self._is_taken_spooled, self._taken_at = False, time.monotonic()
                    return self._taken
            # What is moved meanwhile goes behind it.
            with self._disk:
                batch = self.spool.oldest()
            if batch is not None:
                items = unpacked(batch)
                with self._changed:
                    self._taken, self._is_taken_spooled, self._taken_at = items, True, time.monotonic()
                return items

    def done(self) -> None:
        """What was taken is in the store, and needs no room on the disk any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._moving)
            is_spooled = self._is_taken_spooled
            self._taken, self._is_taken_spooled = [], False
        if is_spooled:
            with self._disk:
                self.spool.drop()
            self._tell("")

    def keep(self) -> bool:
        """Move all that is left to the disk, once nobody takes any more; whether it was all kept.

        Raises:
            LocalStorageError: the disk fails.
        """
        self._ended.set()
        self._thread.join()
        while self._next_batch():
            if not self._move():
                return False
        return True

    def _run(self) -> None:
        # Looked at from time to time: to be woken by each event costs more than that.
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                while (self._is_crowded() or self._is_away()) and (batch := self._next_batch()):
                    if not self._move() or len(batch) < BATCH_ITEMS:
                        self._ended.wait(AWAY_SECONDS)  # little is moved seldom: each batch is a file
                        break
            except LocalStorageError as error:
                self._tell(str(error))
                self._ended.wait(AWAY_SECONDS)

    def _is_crowded(self) -> bool:
        return not self.is_low

    def _is_away(self) -> bool:
        return bool(self._taken) and time.monotonic() - self._taken_at >= AWAY_SECONDS

    def _next_batch(self) -> list[Item]:
        """What is to be moved next."""
        with self._changed:
            if self._taken and not self._is_taken_spooled:
                return self._taken
            return list(islice(self._items, BATCH_ITEMS))

    def _move(self) -> bool:
        """Move the oldest items to the disk; False if it has no room for them."""
        with self._changed:
            # From here on nobody takes, and nothing that was taken counts as done.
            self._moving = True
            is_taken = bool(self._taken) and not self._is_taken_spooled
            items = self._next_batch()
        kept = False
        try:
            with self._disk:
                kept = not items or self.spool.append(packed(items))
        finally:
            with self._changed:
                if kept and is_taken:
                    self._is_taken_spooled = True
                elif kept:
                    for _ in items:
                        self._items.popleft()
                self._moving = False
                self._changed.notify_all()
        self._tell("" if kept else f"the spool {self.spool.folder} is full: {self.spool.used_bytes} bytes")
        if kept:
            self.on_room()
        return kept

    def _tell(self, hindrance: str) -> None:
        if hindrance and not self.hindrance:
            log.warning("%s", hindrance)
        self.hindrance = hindrance
