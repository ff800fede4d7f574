"""Where requests wait for the weight budget: the pure rule of `budget`, with the store, the clock and the sleep.

However many threads of a process wait for a pool, the one whose wait is over first asks for all, and wakes those who
may go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BannedError, IngestError, StoreUnavailableError, ThrottledError
from airflow_provider_binance.rest import budget, failures
from airflow_provider_binance.rest.budget_stores import BudgetStore
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.combining import Combiner
from airflow_provider_binance.rest.costs import Charge
from airflow_provider_binance.rest.pools import Grant, Pool, PoolState, Priority, Wait

log = logging.getLogger(__name__)

# A store that answered before and is away (a restart, a failover) is waited for, and nothing is sent meanwhile.
OUTAGE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

#: Waits for a condition, so many seconds at most, and says whether it was told, as `threading.Condition.wait` does.
Waiter = Callable[[threading.Condition, float], bool]


class _Ask:
    """A request that wants to go, over all its tries."""

    def __init__(self, price: Charge, clock: ServerClock, priority: Priority, cap: int | None) -> None:
        self.price = price
        self.ticket = uuid4().hex[:12]
        self.is_queued = False
        self.is_left = False  # nobody will send it
        self._clock = clock
        self._priority = priority
        self._cap = cap if price.pool.window_ms == 60_000 else None
        self.outcome: Any = None
        self.wake_ms = 0

    def change(self, state: PoolState) -> tuple[PoolState, Grant | Wait]:
        """Book it, or take a place in the queue."""
        return budget.acquire(
            state, self.price.pool, now_ms=self._clock.now_ms(), cost=self.price.weight, ticket=self.ticket,
            priority=self._priority, guard_ms=self._clock.guard_ms, cap=self._cap,
        )  # fmt: skip

    @property
    def remaining(self) -> float:
        """Seconds until it may be tried again; never more than it was told, whatever became of the clock."""
        seconds = self.outcome.seconds if isinstance(self.outcome, Wait) else 0.0
        return min(seconds, max(0.0, (self.wake_ms - self._clock.now_ms()) / 1000))

    def take(self, outcome: Any) -> None:
        """Note what came of a try: a Grant, a Wait, or the exception that it raised."""
        self.outcome = outcome
        if isinstance(outcome, Wait):
            self.is_queued = True
            self.wake_ms = self._clock.now_ms() + round(outcome.seconds * 1000)


class _Gate:
    """One pool, as this process sees it: its state's combiner, who waits, and who asks for them."""

    def __init__(self, store: BudgetStore, key: str) -> None:
        self.combiner = Combiner(store, key)
        self.turn = threading.Condition()
        self.waiting: list[_Ask] = []
        self.asking: _Ask | None = None  # its thread is at the store, for all

    def due(self, ask: _Ask, wait: Waiter) -> list[_Ask]:
        """Sleep until `ask` has its answer: then nobody. Or until it is time for its thread to ask: for these."""
        over: Any = None
        with self.turn:
            while isinstance(ask.outcome, Wait):
                asks = [other for other in self.waiting if isinstance(other.outcome, Wait)]
                if self.asking is not None or min(asks, key=lambda other: other.wake_ms) is not ask:
                    self.turn.wait()  # another thread asks for this one too
                elif over is ask.outcome:
                    self.asking = ask
                    return asks
                elif not wait(self.turn, ask.remaining):
                    over = ask.outcome
        return []


class Turnstile:
    """Lets requests through as the budget allows, and tells it what their answers say."""

    def __init__(
        self,
        config: BinanceConfig,
        store: BudgetStore,
        priority: Priority,
        sleep: Callable[[float], None] = time.sleep,
        wait: Waiter = threading.Condition.wait,
    ) -> None:
        self._prefix = f"{config.environment}|%s|{config.egress}"
        self._cap = config.rate_limit_requests_per_minute
        self._store = store
        self._priority = priority
        self._sleep = sleep
        self._wait = wait
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._announced_at: dict[str, int] = {}
        self._is_reached = False

    def enter(self, price: Charge, clock: ServerClock) -> Grant:
        """Wait until `price` may be spent. Who is interrupted gives back what was booked, and the place in the queue.

        Raises:
            ThrottledError, BannedError: Binance told everyone to stay away for longer than a request should wait.
            InputError: the price never fits.
            StoreUnavailableError: the budget's store is away, for a minute if it answered before.
        """
        gate = self._gate(price.pool)
        ask = _Ask(price, clock, self._priority, self._cap)
        try:
            self._ask_for(gate, [ask])
            if isinstance(ask.outcome, Wait):
                self._queue(gate, ask)
            if isinstance(ask.outcome, Exception):
                raise ask.outcome
        except BaseException as error:
            self._quit(gate, ask, error)
            raise
        assert isinstance(ask.outcome, Grant)
        return ask.outcome

    def leave(self, price: Charge, grant: Grant, clock: ServerClock, used: int | None) -> None:
        """The request is over; `used` is what its answer reported."""
        now_ms, guard_ms = clock.now_ms(), clock.guard_ms
        self._post(
            price.pool,
            lambda state: budget.settle(state, price.pool, grant, now_ms=now_ms, guard_ms=guard_ms, used=used),
        )

    def hold(self, pool: Pool, until_ms: int, status: int) -> None:
        """Nobody sends to `pool` before `until_ms`."""
        self._post(pool, lambda state: budget.hold(state, until_ms, status))

    def learn(self, pool: Pool, limit: int) -> None:
        """The venue announced the pool's limit."""
        self._post(pool, lambda state: budget.learn(state, limit))

    def _gate(self, pool: Pool) -> _Gate:
        with self._lock:
            if pool.name not in self._gates:
                self._gates[pool.name] = _Gate(self._store, self._prefix % pool.name)
            return self._gates[pool.name]

    def _post(self, pool: Pool, change: Callable[[PoolState], PoolState]) -> None:
        self._gate(pool).combiner.post(lambda state: (change(state), None))

    def _queue(self, gate: _Gate, ask: _Ask) -> None:
        """Until `ask` has another outcome than to wait."""
        began = time.monotonic()
        with self._announced(ask.price.pool, ask.outcome):
            with gate.turn:
                gate.waiting.append(ask)
            try:
                while asks := gate.due(ask, self._wait):
                    self._ask_for(gate, asks)
                    with gate.turn:
                        gate.asking = None
                        gate.turn.notify_all()
            finally:
                with gate.turn:
                    gate.waiting.remove(ask)
                    if gate.asking is ask:
                        gate.asking = None
                    gate.turn.notify_all()
        log.debug("waited for the weight budget: pool=%s seconds=%.1f", ask.price.pool.name, time.monotonic() - began)

    def _ask_for(self, gate: _Gate, asks: list[_Ask]) -> None:
        """Try to book all of `asks` in one step, and note what came of it."""
        outcomes: list[Any]
        try:
            outcomes = self._reached(gate, asks)
        except Exception as error:  # noqa: BLE001  # each of them raises it
            outcomes = [error] * len(asks)
        with gate.turn:
            for ask, outcome in zip(asks, outcomes, strict=True):
                ask.take(outcome)
                if (too_long := self._too_long(ask)) is not None:
                    ask.outcome = too_long
            left = [(ask, ask.outcome) for ask in asks if ask.is_left]
        for ask, outcome in left:
            self._withdraw(gate, ask, outcome)

    def _reached(self, gate: _Gate, asks: list[_Ask]) -> list[Any]:
        """What the store says to `asks`; one that is away is waited for."""
        until, pause = time.monotonic() + OUTAGE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                outcomes = gate.combiner.run([ask.change for ask in asks], _undone)
            except StoreUnavailableError as error:
                if not self._is_reached or time.monotonic() + pause > until:
                    raise
                log.warning("nothing is sent until the weight budget answers again: %s", error)
            else:
                self._is_reached = True
                return outcomes
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _quit(self, gate: _Gate, ask: _Ask, error: BaseException) -> None:
        """Nobody will send `ask`, which ended in `error`: the others need not leave anything to it."""
        with gate.turn:
            ask.is_left, outcome = True, ask.outcome
        if ask.is_queued or not isinstance(error, Exception):
            self._withdraw(gate, ask, outcome)

    def _withdraw(self, gate: _Gate, ask: _Ask, outcome: Any) -> None:
        try:
            gate.combiner.post(lambda state: (budget.forgo(_undone(state, outcome), ask.ticket), None))
        except IngestError as error:  # the load has ended by another one
            log.warning("what nobody will send stays booked in the weight budget: %s", error)

    def _too_long(self, ask: _Ask) -> BannedError | ThrottledError | None:
        """The error of a request that Binance makes wait for longer than a request should."""
        wait = ask.outcome
        if not isinstance(wait, Wait) or not wait.status or wait.seconds <= failures.LONGEST_HOLD_SECONDS:
            return None
        kind = BannedError if wait.status == 418 else ThrottledError
        word = "banned this address" if wait.status == 418 else "asked for a pause"
        return kind(
            f"Binance {word} (HTTP {wait.status}); nothing is sent to pool {ask.price.pool.name} for another "
            f"{wait.seconds:.0f} s",
            retry_after=wait.seconds, status=wait.status,
        )  # fmt: skip

    @contextmanager
    def _announced(self, pool: Pool, wait: Wait) -> Iterator[None]:
        """One line when the first thread begins to wait and one when the last one goes on, not one per request."""
        with self._lock:
            first = not self._announced_at.get(pool.name)
            self._announced_at[pool.name] = self._announced_at.get(pool.name, 0) + 1
        if first:
            reason = f"HTTP {wait.status}" if wait.status else "the minute's weight is used"
            log.info("throttling starts: pool=%s reason=%s seconds=%.1f", pool.name, reason, wait.seconds)
        try:
            yield
        finally:
            with self._lock:
                self._announced_at[pool.name] -= 1
                last = not self._announced_at[pool.name]
            if last:
                log.info("throttling ends: pool=%s", pool.name)


def _undone(state: PoolState, outcome: Any) -> PoolState:
    return budget.give_back(state, outcome) if isinstance(outcome, Grant) else state
