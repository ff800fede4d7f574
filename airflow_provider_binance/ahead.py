"""`one_ahead`: make the next item while the one before it is being used."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Generator[T]) -> Generator[T]:
    """The items, each made in a thread while the one before it is being written: what is read thus costs hardly more
    time than what the database does meanwhile (measured). Left early, it does not wait for the one being made."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="read")
    coming = thread.submit(next, items, None)
    is_through = False
    try:
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
        is_through = True
    finally:
        coming.add_done_callback(lambda _: items.close())
        thread.shutdown(wait=is_through)
