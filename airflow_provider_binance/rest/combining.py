"""One hand at a pool's state: what the threads of a process want of it at the same time goes to the store in one step.

So a store that is slow is asked for more at a time, not more often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from airflow_provider_binance.errors import StoreUnavailableError
from airflow_provider_binance.rest.budget_stores import BudgetStore
from airflow_provider_binance.rest.pools import PoolState

Change = Callable[[PoolState], tuple[PoolState, Any]]

# Posted changes that wait for a store that is away; the oldest are of windows that are over.
MOST_POSTED = 1000


class _Job:
    """A change, and what became of it. Nobody waits for a posted one."""

    def __init__(self, change: Change, *, is_awaited: bool) -> None:
        self.change = change
        self.is_awaited = is_awaited
        self.is_done = False
        self.outcome: Any = None
        self.error: Exception | None = None


class Combiner:
    """Changes to the state under `key`, from any thread."""

    def __init__(self, store: BudgetStore, key: str) -> None:
        self._store = store
        self._key = key
        self._turn = threading.Condition()
        self._is_busy = False
        self._jobs: list[_Job] = []

    def run(self, changes: Sequence[Change]) -> list[Any]:
        """The outcomes of `changes`, made one after another in one step; an exception that one raised is its outcome.

        Raises:
            StoreUnavailableError: the store cannot be reached now.
            Exception: whatever else the store says.
        """
        jobs = [_Job(change, is_awaited=True) for change in changes]
        with self._turn:
            self._jobs += jobs
            while self._is_busy and not jobs[-1].is_done:
                self._turn.wait()
            batch = [] if jobs[-1].is_done else self._begun()
        if batch:
            self._carry_out(batch)
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.outcome for job in jobs]

    def post(self, change: Change) -> None:
        """Make `change` now, or with the next step of whoever is at it; while the store is away, when it is back."""
        with self._turn:
            self._jobs.append(_Job(change, is_awaited=False))
            if self._is_busy:
                return
            batch = self._begun()
        self._carry_out(batch)

    def _begun(self) -> list[_Job]:
        self._is_busy = True
        batch, self._jobs = self._jobs, []
        return batch

    def _carry_out(self, batch: list[_Job]) -> None:
        while batch:
            error: Exception | None = None
            try:
                self._store.transact(self._key, partial(_applied, tuple(batch)))
            except Exception as raised:  # noqa: BLE001  # told to whoever waits
                error = raised
            except BaseException:
                # This thread is to end. Whoever else waits goes on without it.
                self._finish((), batch)
                raise
            if error is not None:
                self._fail(batch, error)
                return
            self._finish(batch)
            batch = self._posted()

    def _fail(self, batch: list[_Job], error: Exception) -> None:
        """Tell who waits; what was posted stays while the store is away, and else is told to whoever posted it."""
        told = [job for job in batch if job.is_awaited]
        for job in told:
            job.error = error
        is_away = isinstance(error, StoreUnavailableError)
        self._finish(told, [job for job in batch if is_away and not job.is_awaited])
        if not told and not is_away:
            raise error

    def _finish(self, done: Sequence[_Job], left: Sequence[_Job] = ()) -> None:
        with self._turn:
            for job in done:
                job.is_done = True
            if left:
                self._jobs = [*left, *self._jobs][-MOST_POSTED:]
            self._is_busy = False
            self._turn.notify_all()

    def _posted(self) -> list[_Job]:
        """What was posted meanwhile and nobody who waits will take along."""
        with self._turn:
            if self._is_busy or not self._jobs or any(job.is_awaited for job in self._jobs):
                return []
            return self._begun()


def _applied(jobs: Sequence[_Job], value: Mapping[str, Any] | None) -> tuple[dict[str, Any], None]:
    state = PoolState.from_json(value)
    for job in jobs:
        try:
            state, job.outcome = job.change(state)
        except Exception as error:  # noqa: BLE001  # its own affair, not that of the others in the same step
            job.outcome = error
    return state.to_json(), None
