"""Load several series side by side, each over a database connection of its own.

A series is written by one connection at a time, under its lock; different series know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Event, Lock

from airflow_provider_binance.loading import Loader
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.records import Series


def run(loader: Loader, tasks: Sequence[SeriesTask], connections: int) -> None:
    """What `loader.run` does, over as many connections as there are series and the store can have (SQLite: one).

    After an error the others stop at their next piece; the error is raised when they have. What was committed stays.
    """
    hands = dealt(tasks, connections)
    with ExitStack() as opened:
        stores = [loader.store]
        while len(stores) < len(hands) and (another := loader.store.another()) is not None:
            stores.append(opened.enter_context(another))
        if len(stores) == 1:
            loader.run(tasks)
            return
        hands = dealt(tasks, len(stores))
        sums = _Sums(loader, len(hands))
        shared = replace(loader, jobs=max(1, loader.jobs // len(hands)), stopped=Event())
        loaders = [replace(shared, store=store, on_unit=sums.teller(hand)) for hand, store in enumerate(stores)]
        with ThreadPoolExecutor(len(hands), thread_name_prefix="load") as threads:
            try:
                running = [threads.submit(one.run, hand) for one, hand in zip(loaders, hands, strict=True)]
                errors = [error for one in running if (error := one.exception()) is not None]
            except BaseException:
                shared.stopped.set()
                raise
        # Who was stopped by another's error says only that.
        errors.sort(key=lambda error: isinstance(error, CancelledError))
        if errors:
            raise errors[0]


def dealt(tasks: Sequence[SeriesTask], hands: int) -> list[list[SeriesTask]]:
    """The tasks in at most so many hands of about the same number of rows; a series is in one of them."""
    rows: dict[Series, int] = {}
    for task in tasks:
        count = sum(task.interval.count(stretch.start_us, stretch.end_us) for stretch in task.stretches)
        rows[task.series] = rows.get(task.series, 0) + count
    filled = [0] * max(1, min(hands, len(rows)))
    holder = {}
    for series in sorted(rows, key=lambda series: -rows[series]):
        holder[series] = least = filled.index(min(filled))
        filled[least] += rows[series]
    return [[task for task in tasks if holder[task.series] == hand] for hand in range(len(filled))]


class _Sums:
    """One progress of several loaders."""

    def __init__(self, loader: Loader, hands: int) -> None:
        self._tell = loader.on_unit
        self._lock = Lock()
        self._counts = [(0, 0)] * hands

    def teller(self, hand: int) -> Callable[[Series, int, int], None]:
        """What one of the loaders tells."""

        def tell(series: Series, done: int, total: int) -> None:
            with self._lock:
                self._counts[hand] = done, total
                self._tell(series, sum(done for done, _ in self._counts), sum(total for _, total in self._counts))

        return tell
