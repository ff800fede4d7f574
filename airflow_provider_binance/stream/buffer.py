"""What came and is not written yet, between the event loop and the thread that writes: `Buffer` in memory, bounded,
and `SpooledBuffer`, which has the oldest of it on the disk while the store is slow or away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record


class Lost(NamedTuple):
    """The stream did not bring what lies in `[start_us, end_us)`. `why`: what is known of it; `is_for_good`: no other
    source has it either.

    The items of a series come in its order: a `Lost` stands where the records are that it speaks of. Where records have
    ids, it goes from the instant of the record before to that of the record behind, both included, since what is
    missing may share either: no range that is complete may take in these instants.
    """

    series: Series
    start_us: int
    end_us: int
    why: str = ""
    is_for_good: bool = False


Item = Record | Lost


class Buffer:
    """A queue whose `put` never waits: from `most` items on it says that it is full, and reading has to stop until
    `is_low`. What was read by then is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._taken: list[Item] = []
        self._lock = threading.RLock()  # by itself it is held in half the time
        self._changed = threading.Condition(self._lock)
        self._closed = False
        #: Told when there is room that taking did not make.
        self.on_room: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch how much waits."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_low(self) -> bool:
        """Whether there is room again."""
        return len(self._items) <= self._most // 2

    def is_drained(self) -> bool:
        """Whether nothing waits but in memory."""
        return True

    def has(self, count: int) -> bool:
        """Whether so many items wait to be taken."""
        return len(self._items) >= count

    def put(self, items: Sequence[Item]) -> bool:
        """Take `items`; False if reading has to stop."""
        with self._lock:
            waiting = self._items
            if not waiting:  # else nobody waits for them
                self._changed.notify_all()
            waiting.extend(items)
            return len(waiting) < self._most

    def take(self, most: int) -> list[Item]:
        """Wait for something, and take up to `most` items; none once it is closed and empty. They stay the buffer's
        until they are `done`."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            self._taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            return self._taken

    def done(self) -> None:
        """What was taken is in the store."""
        with self._changed:
            self._taken = []
            self._changed.notify_all()

    def keep(self) -> bool:
        """Keep for the next start what nobody takes any more; whether nothing is lost."""
        return not (self._items or self._taken)

    def close(self) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
