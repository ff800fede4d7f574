"""The threads of a process have one hand at a pool's state."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace

import pytest

from airflow_provider_binance.errors import StoreError, StoreUnavailableError
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.combining import Combiner
from airflow_provider_binance.rest.pools import PoolState


class Gated(MemoryBudgetStore):
    """A store that can be slow, and away."""

    def __init__(self):
        super().__init__()
        self.steps = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.error: BaseException | None = None

    def transact(self, key, step):
        self.steps += 1
        self.entered.set()
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return super().transact(key, step)

    def limit(self):
        return PoolState.from_json(self._values.get("k")).limit


def more(state):
    """Counts in `limit`."""
    return replace(state, limit=state.limit + 1), state.limit + 1


def less(state, outcome):
    return replace(state, limit=state.limit - 1)


def interrupt_when(condition):
    """Ctrl-C in the main thread, once `condition` is met."""

    def work():
        until(condition)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def busy(store, combiner):
    """A thread that is at the store, which does not answer."""
    store.open.clear()
    store.entered.clear()
    thread = threading.Thread(target=lambda: combiner.run([more]))
    thread.start()
    assert store.entered.wait(10)
    return thread


def test_what_comes_while_the_store_is_busy_goes_in_one_step():
    store = Gated()
    combiner = Combiner(store, "k")
    first = busy(store, combiner)
    outcomes: list[int] = []
    threads = [threading.Thread(target=lambda: outcomes.extend(combiner.run([more]))) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: len(combiner._jobs) == 20)
    combiner.post(more)
    store.open.set()
    for thread in [first, *threads]:
        thread.join()
    assert sorted(outcomes) == list(range(2, 22))
    assert store.steps == 2
    assert store.limit() == 22


def test_posted_changes_are_taken_along_by_whoever_is_busy():
    store = Gated()
    combiner = Combiner(store, "k")
    first = busy(store, combiner)
    for _ in range(5):
        combiner.post(more)
    store.open.set()
    first.join()
    assert (store.limit(), store.steps) == (6, 2)


def test_a_change_that_raises_spoils_its_own_outcome_only():
    combiner = Combiner(Gated(), "k")
    one, error, two = combiner.run([more, lambda state: 1 / 0, more])
    assert (one, two) == (1, 2)
    assert isinstance(error, ZeroDivisionError)


def test_posted_changes_wait_for_a_store_that_is_away():
    store = Gated()
    combiner = Combiner(store, "k")
    store.error = StoreUnavailableError("away")
    combiner.post(more)
    with pytest.raises(StoreUnavailableError):
        combiner.run([more])
    store.error = None
    assert combiner.run([more]) == [2], "the posted one came first, the refused one is not made later"


def test_any_other_error_is_told_to_who_posts_too():
    store = Gated()
    combiner = Combiner(store, "k")
    store.error = StoreError("no rights")
    with pytest.raises(StoreError):
        combiner.post(more)
    store.error = None
    assert combiner.run([more]) == [1]


def test_who_is_interrupted_at_the_store_leaves_the_others_unharmed():
    store = Gated()
    combiner = Combiner(store, "k")
    combiner.post(more)
    store.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        combiner.run([more])
    store.error = None
    assert combiner.run([more]) == [2], "the posted one came first, nobody waits for the other"


def test_what_an_interrupted_thread_waits_for_is_not_made():
    store = Gated()
    combiner = Combiner(store, "k")
    first = busy(store, combiner)
    ctrl_c = interrupt_when(lambda: combiner._jobs)
    with pytest.raises(KeyboardInterrupt):
        combiner.run([more, more], less)
    store.open.set()
    for thread in (first, ctrl_c):
        thread.join()
    assert (store.limit(), store.steps) == (1, 1)


class Doors(MemoryBudgetStore):
    """A store whose first two steps each wait for a door."""

    def __init__(self):
        super().__init__()
        self.doors = [threading.Event(), threading.Event()]
        self.carriers: list[threading.Thread] = []

    def transact(self, key, step):
        self.carriers.append(threading.current_thread())
        if len(self.carriers) <= 2:
            assert self.doors[len(self.carriers) - 1].wait(10)
        return super().transact(key, step)


def test_what_is_under_way_for_an_interrupted_thread_is_taken_back():
    """Whether another thread or this one is at the store for both just then."""
    for _ in range(20):
        store = Doors()
        combiner = Combiner(store, "k")
        first = threading.Thread(target=lambda combiner=combiner: combiner.run([more]))
        other = threading.Thread(target=lambda combiner=combiner: combiner.run([more], less))
        first.start()
        until(lambda store=store: store.carriers)
        other.start()
        until(lambda combiner=combiner: combiner._jobs)

        def both_under_way(store=store, combiner=combiner):
            if len(combiner._jobs) == 2:
                store.doors[0].set()
            return len(store.carriers) == 2

        ctrl_c = interrupt_when(both_under_way)
        with pytest.raises(KeyboardInterrupt):
            combiner.run([more], less)
        store.doors[1].set()
        for thread in (first, other, ctrl_c):
            thread.join()
        assert PoolState.from_json(store._values["k"]).limit == 2
        assert not combiner._jobs
