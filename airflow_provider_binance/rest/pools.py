"""What is known of a pool of request weight: values that travel as JSON between all who share an address.

Instants are milliseconds of the *server's* clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from airflow_provider_binance.errors import InputError


class Priority(IntEnum):
    """Who goes first."""

    LIVE = 0
    REPAIR = 1
    DAILY = 2
    BACKFILL = 3

    @classmethod
    def parse(cls, name: str | Priority) -> Priority:
        """The priority called `name`; raises InputError with the accepted names."""
        if isinstance(name, Priority):
            return name
        try:
            return cls[str(name).strip().upper()]
        except KeyError:
            accepted = ", ".join(p.name.lower() for p in cls)
            raise InputError(f"unknown priority {name!r}; use one of: {accepted}") from None


@dataclass(frozen=True, slots=True)
class Pool:
    """One counter of Binance: its documented limit per window, until the venue says otherwise."""

    name: str
    limit: int
    window_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Window:
    """What is known of one window.

    `used` is what we booked, in all and (`by`) by priority; `in_flight` is the part of it that is not answered yet, and
    `sure` the part that Binance surely has counted. Others who share the address used between `foreign` and
    `foreign_high`: an answer's report leaves open which of the requests in flight it has counted. The newest report was
    asked for `seen_ms` after the window's start, and a request went only to bring a new one `probe_ms` after it. An
    earlier one, of `then_ms` after it, had `then_foreign`: who began, or became faster, in the window shows by that.
    """

    used: int = 0
    in_flight: int = 0
    sure: int = 0
    foreign: int = 0
    foreign_high: int = 0
    seen_ms: int = 0
    probe_ms: int = 0
    then_ms: int = 0
    then_foreign: int = 0
    by: tuple[int, int, int, int] = (0, 0, 0, 0)

    def to_json(self) -> list[int]:
        """Thirteen integers."""
        return [
            self.used, self.in_flight, self.sure, self.foreign, self.foreign_high, self.seen_ms, self.probe_ms,
            self.then_ms, self.then_foreign, *self.by,
        ]  # fmt: skip

    @classmethod
    def from_json(cls, value: list[int]) -> Window:
        """What `to_json` wrote."""
        *known, live, repair, daily, backfill = map(int, value)
        used, in_flight, sure, foreign, foreign_high, seen_ms, probe_ms, then_ms, then_foreign = known
        by = (live, repair, daily, backfill)
        return cls(
            used, in_flight, sure, foreign, foreign_high, seen_ms, probe_ms, then_ms, then_foreign, by
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the queue, good until `until_ms`."""

    id: str
    priority: int
    cost: int
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """All that is known of a pool. `limit` is 0 until learned; `suspect` says that earlier knowledge was lost."""

    limit: int = 0
    hold_until_ms: int = 0
    hold_status: int = 0
    windows: Mapping[int, Window] = field(default_factory=dict)
    tickets: tuple[Ticket, ...] = ()
    asked_ms: tuple[int, int, int, int] = (0, 0, 0, 0)
    suspect: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and texts, short."""
        return {
            "limit": self.limit,
            "hold": [self.hold_until_ms, self.hold_status],
            "windows": {str(w): v.to_json() for w, v in self.windows.items()},
            "tickets": [[t.id, t.priority, t.cost, t.since_ms, t.until_ms] for t in self.tickets],
            "asked": list(self.asked_ms),
            "suspect": self.suspect,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> PoolState:
        """The state that `to_json` wrote. None is a fresh pool; anything else that is no state is a suspect one."""
        if value is None:
            return cls()
        try:
            windows = {int(w): Window.from_json(v) for w, v in value["windows"].items()}
            tickets = tuple(
                Ticket(str(i), int(p), int(c), int(since), int(until)) for i, p, c, since, until in value["tickets"]
            )
            live, repair, daily, backfill = (int(at) for at in value["asked"])
            hold_until, hold_status = (int(part) for part in value["hold"])
            return cls(
                int(value["limit"]), hold_until, hold_status, windows, tickets, (live, repair, daily, backfill),
                bool(value["suspect"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return cls(suspect=True)


@dataclass(frozen=True, slots=True)
class Grant:
    """The request may go now. To be given back to `settle` when its answer, or its failure, is there."""

    cost: int
    priority: Priority
    windows: tuple[int, ...]
    at_ms: int
    sure: int = 0  # of its window, when it was granted


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after `seconds`. `status` is 429 or 418 if Binance itself said so, else 0."""

    seconds: float
    status: int = 0
