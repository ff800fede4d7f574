"""Where requests wait for the weight budget: the pure rule of `budget`, with the store, the clock and the sleep.

However many threads of a process wait for a pool, one of them sleeps and asks for all when the earliest wait is over.
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
from airflow_provider_binance.errors import BannedError, StoreUnavailableError, ThrottledError
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


class _Ask:
    """A request that wants to go, over all its tries."""

    def __init__(self, price: Charge, clock: ServerClock, priority: Priority, cap: int | None) -> None:
        self.price = price
        self._clock = clock
        self._priority = priority
        self._cap = cap if price.pool.window_ms == 60_000 else None
        self._ticket = uuid4().hex[:12]
        self.outcome: Any = None
        self.wake_ms = 0

    def change(self, state: PoolState) -> tuple[PoolState, Grant | Wait]:
        """Book it, or take a place in the queue."""
        return budget.acquire(
            state, self.price.pool, now_ms=self._clock.now_ms(), cost=self.price.weight, ticket=self._ticket,
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
            self.wake_ms = self._clock.now_ms() + round(outcome.seconds * 1000)


class _Gate:
    """One pool, as this process sees it: its state's combiner, who waits, and when one of them asks again."""

    def __init__(self, store: BudgetStore, key: str) -> None:
        self.combiner = Combiner(store, key)
        self.turn = threading.Condition()
        self.waiting: list[_Ask] = []
        self.sleeping: list[int] = []  # until when, by the server's clock
        self.is_asking = False

    def ask(self, asks: list[_Ask]) -> None:
        """Try to book all of `asks` in one step."""
        for ask, outcome in zip(asks, self.combiner.run([ask.change for ask in asks]), strict=True):
            ask.take(outcome)


class Turnstile:
    """Lets requests through as the budget allows, and tells it what their answers say."""

    def __init__(
        self,
        config: BinanceConfig,
        store: BudgetStore,
        priority: Priority,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._prefix = f"{config.environment}|%s|{config.egress}"
        self._cap = config.rate_limit_requests_per_minute
        self._store = store
        self._priority = priority
        self._sleep = sleep
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._announced_at: dict[str, int] = {}
        self._is_reached = False

    def enter(self, price: Charge, clock: ServerClock) -> Grant:
        """Wait until `price` may be spent.

        Raises:
            ThrottledError, BannedError: Binance told everyone to stay away for longer than a request should wait.
            InputError: the price never fits.
            StoreUnavailableError: the budget's store is away, for a minute if it answered before.
        """
        gate = self._gate(price.pool)
        ask = _Ask(price, clock, self._priority, self._cap)
        self._reached(gate, [ask])
        if not isinstance(ask.outcome, Wait):
            return self._granted(ask)
        if (error := self._too_long(ask)) is not None:
            raise error
        began = time.monotonic()
        with self._announced(price.pool, ask.outcome):
            self._wait(gate, ask)
        log.debug("waited for the weight budget: pool=%s seconds=%.1f", price.pool.name, time.monotonic() - began)
        return self._granted(ask)

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

    def _granted(self, ask: _Ask) -> Grant:
        if isinstance(ask.outcome, Exception):
            raise ask.outcome
        assert isinstance(ask.outcome, Grant)
        return ask.outcome

    def _wait(self, gate: _Gate, ask: _Ask) -> None:
        """Until `ask` has another outcome than to wait."""
        try:
            with gate.turn:
                gate.waiting.append(ask)
            while isinstance(ask.outcome, Wait):
                with gate.turn:
                    if gate.is_asking or any(wake_ms <= ask.wake_ms for wake_ms in gate.sleeping):
                        gate.turn.wait()  # another thread asks for this one too
                        continue
                    wake_ms = ask.wake_ms
                    gate.sleeping.append(wake_ms)
                try:
                    self._sleep(ask.remaining)
                except BaseException:
                    with gate.turn:
                        gate.sleeping.remove(wake_ms)
                    raise
                self._ask_for_all(gate, wake_ms)
        finally:
            with gate.turn:
                gate.waiting = [other for other in gate.waiting if other is not ask]
                gate.turn.notify_all()

    def _ask_for_all(self, gate: _Gate, wake_ms: int) -> None:
        """The sleep until `wake_ms` is over: ask for all who wait, unless another thread is just doing that."""
        with gate.turn:
            gate.sleeping.remove(wake_ms)
            if gate.is_asking:
                return
            gate.is_asking = True
            asks = [ask for ask in gate.waiting if isinstance(ask.outcome, Wait)]
        try:
            self._reached(gate, asks)
            for ask in asks:
                if (error := self._too_long(ask)) is not None:
                    ask.outcome = error
        except Exception as error:  # noqa: BLE001  # each of them raises it
            for ask in asks:
                ask.outcome = error
        finally:
            with gate.turn:
                gate.is_asking = False
                gate.turn.notify_all()

    def _reached(self, gate: _Gate, asks: list[_Ask]) -> None:
        """Ask the store, and wait for one that is away."""
        until, pause = time.monotonic() + OUTAGE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                gate.ask(asks)
            except StoreUnavailableError as error:
                if not self._is_reached or time.monotonic() + pause > until:
                    raise
                log.warning("nothing is sent until the weight budget answers again: %s", error)
            else:
                self._is_reached = True
                return
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

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
