"""The weight budget in Redis or Valkey: one key per pool, replaced only if it still is what the step was made from.

Nothing is locked, so nobody can die while holding a lock. Who was slower than another one starts again from the value
that the refusal brings: one round trip a try.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis import exceptions

from airflow_provider_binance.errors import ConfigError, StoreError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.masking import mask_url, mask_values
from airflow_provider_binance.rest.budget_stores import (
    CACHE_ENTRIES,
    CACHE_SECONDS,
    LOST,
    BudgetStore,
    Step,
    packed,
    unpacked,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_POOL = "binance-budget:pool:"
_CACHE = "binance-budget:cache:"
_CACHE_TIMES = "binance-budget:cache-times"
# Longer than any ban, of which nobody may lose the memory.
KEPT_SECONDS = 7 * 86_400
TIMEOUT_SECONDS = 5.0
# Some hundred a second are possible; who lost so often is not alone with a slow network, but cut off.
MOST_TRIES = 200

#: Replaces the value if it is the expected one ('' for none); returns the value that is there instead.
_SWAP = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return now end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return false
"""


class RedisBudgetStore(BudgetStore):
    """The budget of all who reach one Redis; `redis://`, `rediss://` (TLS) or `unix://`, as redis-py takes them.

    Raises:
        ConfigError: the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self.url = mask_url(url)
        try:
            self._password = urlsplit(url).password
            self._redis = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
            )
        except (ValueError, TypeError):
            raise ConfigError(
                f"the weight budget's URL {self.url!r} cannot be read; it looks like redis://:password@host:6379/0",
                field="rate_limit_store",
            ) from None
        self._swap = self._redis.register_script(_SWAP)
        # What was there when this process last looked: mostly right, and a wrong one costs one more try.
        self._last: dict[str, bytes] = {}

    def transact(self, key: str, step: Step[T]) -> T:
        name = _POOL + key
        known = self._last.get(name, b"")
        for attempt in range(MOST_TRIES):
            made, result = step(self._read(name, known))
            text = json.dumps(made, separators=(",", ":")).encode()
            with self._errors():
                other = self._swap(keys=[name], args=[known, text, KEPT_SECONDS])
            if other is None:
                self._last[name] = text
                return result
            known = other
            if attempt > 3:
                time.sleep(random.random() * 0.005)
        raise StoreUnavailableError(f"the weight budget in {self.url} changed under {MOST_TRIES} tries")

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        try:
            with self._errors():
                kept = self._redis.get(_CACHE + key)
        except StoreError as error:
            log.warning("cannot read the cache beside the weight budget: %s", error)
            return None
        if not isinstance(kept, bytes):
            return None
        put_at, _, value = kept.partition(b" ")
        try:
            too_old = time.time() - float(put_at) > max_age_seconds
        except ValueError:
            return None
        return None if too_old else unpacked(value)

    def cache_put(self, key: str, value: bytes) -> None:
        name, now = _CACHE + key, time.time()
        try:
            with self._errors():
                self._redis.set(name, b"%.3f " % now + packed(value), ex=int(CACHE_SECONDS))
                self._redis.zadd(_CACHE_TIMES, {name: now})
                self._redis.zremrangebyscore(_CACHE_TIMES, "-inf", now - CACHE_SECONDS)
                beyond: Any = self._redis.zpopmin(_CACHE_TIMES, max(0, self._cached() - CACHE_ENTRIES))
                if beyond:
                    self._redis.delete(*(each for each, _ in beyond))
        except StoreError as error:
            log.warning("cannot write the cache beside the weight budget: %s", error)

    def close(self) -> None:
        self._redis.close()

    def _cached(self) -> int:
        count: Any = self._redis.zcard(_CACHE_TIMES)
        return int(count)

    def _read(self, name: str, text: bytes) -> dict[str, Any] | None:
        """The value in `text`. One that is gone although this process knew it, was lost: by a restart, say."""
        if not text:
            return LOST if name in self._last else None
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else LOST

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            raise StoreRightsError(
                f"the weight budget in {self.url} refuses this user: {self._said(error)}. Way out: set "
                f"rate_limit_store (BINANCE_RATE_LIMIT_STORE) with a user and password that may use the keys "
                f"binance-budget:*"
            ) from None
        except exceptions.RedisError as error:
            raise StoreUnavailableError(
                f"the weight budget in {self.url} is not available now: {self._said(error)}"
            ) from None

    def _said(self, error: Exception) -> str:
        return mask_values(str(error), [self._password])
