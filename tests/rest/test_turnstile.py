"""Waiting for the budget: quietly, together, through an outage of its store; in a time that the tests move."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BannedError, InputError, StoreUnavailableError
from airflow_provider_binance.rest import turnstile as module
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.costs import SPOT, Charge
from airflow_provider_binance.rest.pools import Grant, PoolState, Priority, Window
from airflow_provider_binance.rest.turnstile import Turnstile
from tests.rest import waiting

MINUTE = 60_000
BEGAN_MS = 29_000_000 * MINUTE
PRICE = Charge(SPOT, 2, False)


class World:
    """A clock that only sleeping moves, and a store that counts."""

    def __init__(self, *, threads: int = 1, at_ms: int = 10_000, **window: int):
        self.now_ms = BEGAN_MS + at_ms
        self.threads = threads
        self.steps = 0
        self.granted: list[int] = []
        self.away = 0
        self.waits: list[float] = []
        self.lock = threading.Lock()
        self.store = MemoryBudgetStore()
        self.transact, self.store.transact = self.store.transact, self.counted
        self.clock = ServerClock(lambda: self.now_ms / 1000)
        self.clock.measure(self.now_ms, self.now_ms / 1000, self.now_ms / 1000)
        self.turnstile = Turnstile(BinanceConfig(), self.store, Priority.BACKFILL, self.sleep, waiting.by(self.sleep))
        self.wait = waiting.by(self.sleep)
        self.set(Window(**window))

    def set(self, window):
        state = PoolState(windows={29_000_000: window})
        self.transact("production|spot|direct", lambda _: (state.to_json(), None))

    def counted(self, key, step):
        with self.lock:
            self.steps += 1
            if self.away:
                self.away -= 1
                raise StoreUnavailableError("away")
        return self.transact(key, step)

    def sleep(self, seconds):
        until(lambda: self.steps >= self.threads)  # all have come before any time passes
        with self.lock:
            self.waits.append(seconds)
            self.now_ms += max(1, round(seconds * 1000))

    def enter(self):
        grant = self.turnstile.enter(PRICE, self.clock)
        self.granted.append(grant.windows[0] - 29_000_000)
        return grant


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("count", [1, 4, 32])
def test_of_all_threads_that_wait_one_asks(count):
    """Others have used much and may go on: each 5 seconds it is looked whether they do, whoever waits."""
    world = World(threads=count, at_ms=10_000, used=4500, foreign=500, foreign_high=500, seen_ms=10_000)
    threads = [threading.Thread(target=world.enter) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(world.granted) == count
    assert max(world.granted) <= 1, "in the next minute at the latest"
    assert world.steps - count <= 14, "besides the first try of each"


def test_a_full_minute_is_asked_about_once_at_its_end():
    world = World(threads=16, used=5820)
    threads = [threading.Thread(target=world.enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(world.granted) == {1}
    assert world.steps == 17


def test_a_ban_ends_all_waits_with_its_length():
    world = World(used=5820, at_ms=50_000)
    world.turnstile.hold(SPOT, world.now_ms + 300_000, 418)
    with pytest.raises(BannedError) as caught:
        world.enter()
    assert 299 <= caught.value.retry_after <= 300
    assert world.waits == []


def test_a_ban_that_comes_while_threads_wait_ends_all_of_them():
    world = World(threads=8, used=5820, at_ms=55_000)
    asleep, errors = world.sleep, []

    def sleep(seconds):
        world.turnstile.hold(SPOT, world.now_ms + 300_000, 418)
        asleep(seconds)

    world.turnstile._wait = waiting.by(sleep)

    def work():
        try:
            world.enter()
        except BannedError as error:
            errors.append(error.retry_after)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 8
    assert world.granted == []


def test_a_price_that_never_fits_does_not_wait():
    world = World()
    with pytest.raises(InputError):
        world.turnstile.enter(Charge(SPOT, 7000, False), world.clock)


def test_who_is_interrupted_hands_the_asking_over():
    world = World(threads=5, used=5820)
    asleep, first = world.sleep, []

    def sleep(seconds):
        if not first:
            first.append(threading.current_thread())
            asleep(0)
            raise KeyboardInterrupt
        asleep(seconds)

    world.turnstile._wait = waiting.by(sleep)

    def work():
        try:
            world.enter()
        except KeyboardInterrupt:
            pass

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len(world.granted) == 4


def test_a_store_that_is_away_is_waited_for():
    world = World()
    world.enter()
    world.away = 4
    assert isinstance(world.enter(), Grant)
    assert world.waits == [0.2, 0.4, 0.8, 1.6]


def test_but_not_for_ever_and_not_if_it_never_answered(monkeypatch):
    world = World()
    world.away = 10**6
    with pytest.raises(StoreUnavailableError):
        world.enter()
    assert world.waits == []
    world.away = 0
    world.enter()
    monkeypatch.setattr(module.time, "monotonic", lambda: world.now_ms / 1000)
    world.away = 10**6
    with pytest.raises(StoreUnavailableError):
        world.enter()
    assert 50 < sum(world.waits) <= 60


def test_the_reports_of_an_outage_are_handed_in_after_it():
    world = World()
    grant = world.enter()
    world.away = 1
    world.turnstile.leave(PRICE, grant, world.clock, used=1000)
    world.enter()
    window = PoolState.from_json(world.store._values["production|spot|direct"]).windows[29_000_000]
    assert (window.foreign, window.in_flight) == (998, 2)


# --- Told to go, and told to stop -----------------------------------------------------------------------------------


def window(world):
    return PoolState.from_json(world.store._values["production|spot|direct"]).windows[29_000_000]


def test_who_is_granted_by_another_thread_wakes_at_once():
    """One is to sleep for 50 seconds, another one for 5; that one finds room for both."""
    world = World(used=5820)
    waits = []

    def wait(condition, seconds):
        waits.append(seconds)
        if seconds > 10:
            return condition.wait(60)
        world.now_ms += 5_000
        world.set(Window())
        return False

    world.turnstile._wait = wait
    first = threading.Thread(target=world.enter)
    first.start()
    until(lambda: waits)
    world.set(Window(used=4500, foreign=500, foreign_high=500, seen_ms=10_000))
    world.enter()
    first.join(20)
    assert not first.is_alive()
    assert (waits, world.granted) == ([50.05, 5.0], [0, 0])
    assert window(world).used == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_who_is_interrupted_while_another_asks_gives_back_what_is_granted(error):
    """The store is slow, and says yes to two; one of them is gone by then."""
    world = World(threads=2, used=5820)
    at_store, answer, ends = threading.Event(), threading.Event(), threading.Event()

    def slow(key, step):
        if world.steps == 2:
            at_store.set()
            assert answer.wait(20)
        return world.counted(key, step)

    world.store.transact = slow

    def work():
        with pytest.raises(error):
            world.enter()
        ends.set()

    interrupted = threading.Thread(target=work)

    def wait(condition, seconds):
        if threading.current_thread() is interrupted:
            condition.wait_for(at_store.is_set, 20)
            raise error
        world.set(Window())
        return world.wait(condition, seconds)

    world.turnstile._wait = wait
    interrupted.start()
    until(lambda: world.turnstile._gates["spot"].waiting)
    world.set(Window(used=4500, foreign=500, foreign_high=500, seen_ms=10_000))
    other = threading.Thread(target=world.enter)
    other.start()
    assert at_store.wait(20)
    with world.turnstile._gates["spot"].turn:
        world.turnstile._gates["spot"].turn.notify_all()
    assert ends.wait(20)
    answer.set()
    other.join(20)
    interrupted.join(20)
    world.turnstile.learn(SPOT, 6000)  # after all that was posted
    assert world.granted == [0]
    assert (window(world).used, window(world).in_flight, window(world).by) == (2, 2, (0, 0, 0, 2))


def test_who_is_interrupted_leaves_the_queue():
    world = World(used=5820)

    def wait(condition, seconds):
        raise KeyboardInterrupt

    world.turnstile._wait = wait
    with pytest.raises(KeyboardInterrupt):
        world.enter()
    state = PoolState.from_json(world.store._values["production|spot|direct"])
    assert state.tickets == ()
    assert state.windows[29_000_000].used == 5820


def test_a_clock_that_is_set_back_makes_nobody_wait_longer():
    world = World(used=5820)

    def wait(condition, seconds):
        world.waits.append(seconds)
        world.now_ms -= 3_600_000
        world.set(Window())
        return False

    world.turnstile._wait = wait
    world.enter()
    assert world.waits == [50.05]
