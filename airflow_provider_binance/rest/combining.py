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
#: Given the state and the outcome of a change that nobody will learn of, takes the change back.
Undo = Callable[[PoolState, Any], PoolState]

# Posted changes that wait for a store that is away; the oldest are of windows that are over.
MOST_POSTED = 1000


class _Job:
    """A change, and what became of it. Nobody waits for a posted one, nor for one that was abandoned."""

    def __init__(self, change: Change, *, is_awaited: bool, undo: Undo | None = None) -> None:
        self.change = change
        self.undo = undo
        self.is_awaited = is_awaited
        self.is_abandoned = False
        self.is_done = False
        self.outcome: Any = None
        self.error: Exception | None = None

    def undone(self) -> list[_Job]:
        """The job that takes this one back, if it was done and nobody will learn of it."""
        undo = self.undo
        if undo is None or not (self.is_done and self.is_abandoned) or self.error is not None:
            return []
        return [_Job(lambda state: (undo(state, self.outcome), None), is_awaited=False)]


class Combiner:
    """Changes to the state under `key`, from any thread."""

    def __init__(self, store: BudgetStore, key: str) -> None:
        self._store = store
        self._key = key
        self._turn = threading.Condition()
        self._is_busy = False
        self._jobs: list[_Job] = []

    def run(self, changes: Sequence[Change], undo: Undo | None = None) -> list[Any]:
        """The outcomes of `changes`, made one after another in one step; an exception that one raised is its outcome.

        If this thread is interrupted, what is not under way yet is not made, and the rest is taken back by `undo`.

        Raises:
            StoreUnavailableError: the store cannot be reached now.
            Exception: whatever else the store says.
        """
        jobs = [_Job(change, is_awaited=True, undo=undo) for change in changes]
        try:
            with self._turn:
                self._jobs += jobs
                while self._is_busy and not jobs[-1].is_done:
                    self._turn.wait()
                batch = [] if jobs[-1].is_done else self._begun()
            if batch:
                self._carry_out(batch)
        except BaseException:
            self._abandon(jobs)
            raise
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.outcome for job in jobs]

    def post(self, change: Change) -> None:
        """Make `change` now, or with the next step of whoever is at it; while the store is away, when it is back."""
        self._add([_Job(change, is_awaited=False)])

    def _add(self, posted: list[_Job]) -> None:
        with self._turn:
            self._jobs += posted
            if self._is_busy or not self._jobs:
                return
            batch = self._begun()
        self._carry_out(batch)

    def _abandon(self, jobs: list[_Job]) -> None:
        """Nobody waits for `jobs` any more; one that is under way is taken back by whoever carries it out."""
        with self._turn:
            self._jobs = [job for job in self._jobs if job not in jobs]
            for job in jobs:
                job.is_abandoned = True
            undone = [undo for job in jobs for undo in job.undone()]
        self._add(undone)

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
                self._jobs += job.undone()
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
