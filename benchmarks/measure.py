"""One measurement, many of them, and what is said of many."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Took:
    """Wall time, and CPU time of this process (all its threads) and of a database server's backend."""

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float = 0.0


def timed(work: Callable[[], Any], backend: int | None = None) -> Took:
    before = _cpu_of(backend)
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Took(wall, cpu, _cpu_of(backend) - before)


def client_core() -> tuple[set[int], set[int]]:
    """A core for the client alone, and those for everybody else; empty where the system cannot be told."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextlib.contextmanager
def on_cores(cores: set[int], pid: int = 0) -> Iterator[None]:
    """Keep this thread, or the process `pid`, and what it starts meanwhile on `cores`."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(pid)
    os.sched_setaffinity(pid, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(pid, before)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median (least – most) of some values."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, form: str = "{:,.2f}") -> str:
        low, high = min(self.values), max(self.values)
        if form.format(low) == form.format(high):
            return form.format(self.median)
        return f"{form.format(self.median)} ({form.format(low)} – {form.format(high)})"


def _cpu_of(pid: int | None) -> float:
    """CPU seconds that a process has used, where the system tells (Linux), else 0."""
    if pid is None or not (stat := Path(f"/proc/{pid}/stat")).exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
