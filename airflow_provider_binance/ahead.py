"""`OneAhead`: make the next item while the one before it is being used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

#: A signal that comes just before a thread falls asleep does not wake it (CPython); so long it then waits to be seen.
_LOOK_SECONDS = 0.5


class OneAhead(Iterator[T]):
    """The items, each made in a thread while the one before it is being written: what is read thus costs hardly more
    time than what the database does meanwhile (measured). Closed early, it does not wait for the one being made."""

    def __init__(self, items: Generator[T], before_waiting: Callable[[], None] = lambda: None) -> None:
        """`before_waiting` is called where the next item is asked for and not there yet."""
        self._items = items
        self._before_waiting = before_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._coming: Future[T | None] = self._thread.submit(next, items, None)

    def __next__(self) -> T:
        if not self._coming.done():
            self._before_waiting()
        while not wait([self._coming], timeout=_LOOK_SECONDS).done:
            pass
        item = self._coming.result()
        if item is None:
            raise StopIteration
        self._coming = self._thread.submit(next, self._items, None)
        return item

    def close(self) -> None:
        """Make no more of them."""
        is_idle = self._coming.done()
        self._coming.add_done_callback(lambda _: self._items.close())
        self._thread.shutdown(wait=is_idle)
