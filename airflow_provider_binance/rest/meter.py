"""Counting what a load spends: requests, weight and bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Meter:
    """A sum of requests, weight and bytes; several threads may count into one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.weight = 0
        self.bytes = 0

    def add(self, *, requests: int = 0, weight: int = 0, bytes: int = 0) -> None:
        """Count."""
        with self._lock:
            self.requests += requests
            self.weight += weight
            self.bytes += bytes

    def __repr__(self) -> str:
        return f"Meter(requests={self.requests}, weight={self.weight}, bytes={self.bytes})"


_meters: ContextVar[tuple[Meter, ...]] = ContextVar("meters", default=())


@contextmanager
def measured(meter: Meter | None = None) -> Iterator[Meter]:
    """Count what is requested within, in this thread, into `meter` (a new one if None); may be nested."""
    meter = meter or Meter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


def count(*, requests: int = 0, weight: int = 0, bytes: int = 0) -> None:
    """Count into every meter of this thread."""
    for meter in _meters.get():
        meter.add(requests=requests, weight=weight, bytes=bytes)
