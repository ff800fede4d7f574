"""Where requests wait for the weight budget: the pure rule of `budget`, with the store, the clock and the sleep."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BannedError, ThrottledError
from airflow_provider_binance.rest import budget, failures
from airflow_provider_binance.rest.budget import Grant, Pool, PoolState, Priority
from airflow_provider_binance.rest.budget_stores import BudgetStore
from airflow_provider_binance.rest.clock import ServerClock
from airflow_provider_binance.rest.costs import Charge

log = logging.getLogger(__name__)


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
        self._waiting: dict[str, int] = {}

    def enter(self, price: Charge, clock: ServerClock) -> Grant:
        """Wait until `price` may be spent.

        Raises:
            ThrottledError, BannedError: Binance told everyone to stay away for longer than a request should wait.
            InputError: the price never fits.
        """
        ticket = uuid4().hex[:12]
        outcome = self._try(price, clock, ticket)
        if isinstance(outcome, Grant):
            return outcome
        self._refuse_long_hold(price.pool, outcome)
        began = time.monotonic()
        with self._announced(price.pool, outcome):
            while not isinstance(outcome, Grant):
                self._sleep(outcome.seconds)
                outcome = self._try(price, clock, ticket)
                if not isinstance(outcome, Grant):
                    self._refuse_long_hold(price.pool, outcome)
        log.debug("waited for the weight budget: pool=%s seconds=%.1f", price.pool.name, time.monotonic() - began)
        return outcome

    def leave(self, price: Charge, grant: Grant, clock: ServerClock, used: int | None) -> None:
        """The request is over; `used` is what its answer reported."""
        now_ms, guard_ms = clock.now_ms(), clock.guard_ms
        self._update(
            price.pool,
            lambda state: budget.settle(state, price.pool, grant, now_ms=now_ms, guard_ms=guard_ms, used=used),
        )

    def hold(self, pool: Pool, until_ms: int, status: int) -> None:
        """Nobody sends to `pool` before `until_ms`."""
        self._update(pool, lambda state: budget.hold(state, until_ms, status))

    def learn(self, pool: Pool, limit: int) -> None:
        """The venue announced the pool's limit."""
        self._update(pool, lambda state: budget.learn(state, limit))

    def _try(self, price: Charge, clock: ServerClock, ticket: str) -> Grant | budget.Wait:
        def step(value: Mapping[str, Any] | None) -> tuple[dict[str, Any], Grant | budget.Wait]:
            state, outcome = budget.acquire(
                PoolState.from_json(value), price.pool, now_ms=clock.now_ms(), cost=price.weight, ticket=ticket,
                priority=self._priority, guard_ms=clock.guard_ms,
                cap=self._cap if price.pool.window_ms == 60_000 else None,
            )  # fmt: skip
            return state.to_json(), outcome

        return self._store.transact(self._prefix % price.pool.name, step)

    def _update(self, pool: Pool, change: Callable[[PoolState], PoolState]) -> None:
        def step(value: Mapping[str, Any] | None) -> tuple[dict[str, Any], None]:
            return change(PoolState.from_json(value)).to_json(), None

        self._store.transact(self._prefix % pool.name, step)

    def _refuse_long_hold(self, pool: Pool, wait: budget.Wait) -> None:
        if wait.status and wait.seconds > failures.LONGEST_HOLD_SECONDS:
            kind = BannedError if wait.status == 418 else ThrottledError
            word = "banned this address" if wait.status == 418 else "asked for a pause"
            raise kind(
                f"Binance {word} (HTTP {wait.status}); nothing is sent to pool {pool.name} for another "
                f"{wait.seconds:.0f} s",
                retry_after=wait.seconds, status=wait.status,
            )  # fmt: skip

    @contextmanager
    def _announced(self, pool: Pool, wait: budget.Wait) -> Iterator[None]:
        """One line when the first thread begins to wait and one when the last one goes on, not one per request."""
        with self._lock:
            first = not self._waiting.get(pool.name)
            self._waiting[pool.name] = self._waiting.get(pool.name, 0) + 1
        if first:
            reason = f"HTTP {wait.status}" if wait.status else "the minute's weight is used"
            log.info("throttling starts: pool=%s reason=%s seconds=%.1f", pool.name, reason, wait.seconds)
        try:
            yield
        finally:
            with self._lock:
                self._waiting[pool.name] -= 1
                last = not self._waiting[pool.name]
            if last:
                log.info("throttling ends: pool=%s", pool.name)
