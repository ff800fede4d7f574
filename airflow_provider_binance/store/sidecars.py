"""What sidecars keep in the store: that they live, how far they came, and which series is whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from airflow_provider_binance.records import Series


class Sidecar(NamedTuple):
    """A running sidecar. Times are the database's; `silent_seconds` is how long ago its last beat was."""

    instance: str
    shard: str
    version: str
    started_at_us: int = 0
    beat_at_us: int = 0
    silent_seconds: float = 0.0
    age_seconds: float = 0.0


class Progress(NamedTuple):
    """How far a sidecar came with a dataset of a market: the newest event that is committed, when that was, and how
    long after the event."""

    instance: str
    market: str
    dataset: str
    event_us: int | None = None
    commit_us: int | None = None
    lag_seconds: float | None = None


class Lease(NamedTuple):
    """Who streams a series. `is_home`: it is in that sidecar's part; if not, `claimant` may want it back."""

    series: Series
    instance: str
    is_home: bool
    claimant: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """What a sidecar does about leases: take (as its own part or not), claim, give back to who claimed, and free."""

    take: tuple[tuple[Series, bool], ...] = ()
    claim: tuple[Series, ...] = ()
    give: tuple[tuple[Series, str], ...] = ()
    free: tuple[Series, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.take or self.claim or self.give or self.free)
