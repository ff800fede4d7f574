"""Runs of ticks whose ids follow one another, and the times from which nothing is missing because of that. Pure.

Several ticks share an instant, in which the ids of one flush may end and those of the next begin. So a run claims
neither its first nor its last instant, until the ids on the other side are there too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from airflow_provider_binance.continuity import UNCOUNTED

#: So many runs of a series are remembered, the newest: what comes late joins them.
MOST_RUNS = 8

_time = itemgetter(1)


class Claim(NamedTuple):
    """Nothing is missing from `[start_us, end_us)`."""

    start_us: int
    end_us: int
    row_count: int
    first_id: int | None = None
    last_id: int | None = None


class Run(NamedTuple):
    """Ticks with ids `first_id` … `last_id`, and their first and last time. `head_id` is the last one of the first
    instant, `tail_id` the first one of the last; None: times did not ascend with the ids, only the store can tell.
    """

    first_id: int
    last_id: int
    first_us: int
    last_us: int
    head_id: int | None
    tail_id: int | None

    @classmethod
    def of(cls, ticks: Sequence[tuple[int, int]]) -> Run:
        """The run of some (id, time), ascending by id."""
        first_id, last_id, times = ticks[0][0], ticks[-1][0], [at for _, at in ticks]
        if sorted(times) != times:
            return cls(first_id, last_id, min(times), max(times), None, None)
        first_us, last_us = times[0], times[-1]
        # The next instant begins behind the first one's last tick.
        head_id = first_id + bisect_left(times, first_us + 1) - 1
        return cls(first_id, last_id, first_us, last_us, head_id, first_id + bisect_left(times, last_us))

    @property
    def inside(self) -> list[Claim]:
        """What it claims by itself."""
        behind_head = None if self.head_id is None else self.head_id + 1
        return _claim(self.first_us + 1, self.last_us, behind_head, self.tail_id)

    def seam(self, other: Run) -> list[Claim]:
        """What is claimed because `other` follows: the instants from this one's last to that one's first."""
        if other.first_us < self.last_us:  # times go back: what was claimed has more rows than were counted
            first_us = max(other.first_us, self.first_us + 1)
            return _claim(first_us, max(self.last_us, other.last_us), None, None)
        start_us, first_id = self.last_us, self.tail_id
        if self.first_us == self.last_us:
            start_us, first_id = self.last_us + 1, other.first_id
        end_us, behind_id = other.first_us, other.first_id
        if other.first_us < other.last_us:
            end_us += 1
            behind_id = None if other.head_id is None else other.head_id + 1  # type: ignore[assignment]
        return _claim(start_us, end_us, first_id, behind_id)

    def followed_by(self, other: Run) -> Run:
        """Both as one."""
        first_us, last_us = min(self.first_us, other.first_us), max(self.last_us, other.last_us)
        head_id, tail_id = self.head_id, other.tail_id
        if other.first_us < self.last_us:
            head_id = self.head_id if self.first_us < other.first_us else None
            tail_id = other.tail_id if self.last_us < other.last_us else None
        elif self.last_us == other.first_us:
            # All of one of them may be of the instant in which they meet.
            head_id = other.head_id if self.first_us == self.last_us else self.head_id
            tail_id = self.tail_id if other.first_us == other.last_us else other.tail_id
        return Run(self.first_id, other.last_id, first_us, last_us, head_id, tail_id)


def joined(known: Sequence[Run], fresh: Iterable[Run]) -> tuple[list[Run], list[Claim]]:
    """The runs when `fresh` ones have come, ascending, and what is claimed that was not before."""
    fresh = list(fresh)
    if known and len(fresh) == 1 and fresh[0].first_id == known[-1].last_id + 1:  # as nearly always
        last, [run] = known[-1], fresh
        return [*known[:-1], last.followed_by(run)], merged([*last.seam(run), *run.inside])
    claims: list[Claim] = []
    runs: list[Run] = []
    old = set(known)
    for run in sorted([*known, *fresh]):
        if run not in old:
            claims += run.inside
        if runs and run.last_id <= runs[-1].last_id:
            continue  # it was there
        if runs and run.first_id <= runs[-1].last_id + 1:
            claims += runs[-1].seam(run)
            runs[-1] = runs[-1].followed_by(run)
        else:
            runs.append(run)
    return runs[-MOST_RUNS:], merged(claims)


def _claim(start_us: int, end_us: int, first_id: int | None, behind_id: int | None) -> list[Claim]:
    """The claim of a stretch whose ids are those from `first_id` to the one before `behind_id`; none if it is empty."""
    if start_us >= end_us:
        return []
    if first_id is None or behind_id is None:
        return [Claim(start_us, end_us, UNCOUNTED)]
    if behind_id <= first_id:
        return [Claim(start_us, end_us, 0)]
    return [Claim(start_us, end_us, behind_id - first_id, first_id, behind_id - 1)]


def merged(claims: list[Claim]) -> list[Claim]:
    """The claims, ascending, neighbours as one where both are counted."""
    if len(claims) < 2:
        return claims
    out: list[Claim] = []
    for claim in sorted(claims, key=itemgetter(0, 1)):
        before = out[-1] if out else None
        if before and before.end_us == claim.start_us and UNCOUNTED not in (before.row_count, claim.row_count):
            ids = [one for one in (*before[3:], *claim[3:]) if one is not None]
            out[-1] = Claim(
                before.start_us, claim.end_us, before.row_count + claim.row_count, ids[0] if ids else None,
                ids[-1] if ids else None,
            )  # fmt: skip
        else:
            out.append(claim)
    return out
