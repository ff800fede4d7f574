"""Coverage: the overlay against a model that looks at every instant by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.coverage import missing, overlay, stretches
from airflow_provider_binance.records import SETTLED, CoverageRange, State

CELLS = 24
RANK = {
    "failed": 0,
    "unpublished": 1,
    "exchange_gap": 2,
    "not_listed": 2,
    "unavailable": 2,
    "retired": 3,
    "complete": 3,
}
#: With its next check to come, such a range is left alone.
WAITING = {"unpublished", "failed"}


def grid(start: int, end: int) -> int:
    return end - start


@st.composite
def ranges(draw: st.DrawFn) -> CoverageRange:
    start = draw(st.integers(0, CELLS - 1))
    end = draw(st.integers(start + 1, CELLS))
    state = draw(st.sampled_from(State))
    complete = state == State.COMPLETE
    return CoverageRange(
        start,
        end,
        state,
        row_count=end - start if complete else 0,
        confirmed_by=draw(st.sampled_from([None, "sha1", "sha2"])) if complete else None,
        evidence=draw(st.sampled_from(["", '{"a": 1}'])),
        checked_at_us=draw(st.integers(0, 5)),
        next_check_at_us=draw(st.sampled_from([None, 7, 9])) if state in WAITING else None,
    )


def model(incoming: list[CoverageRange]) -> dict[int, tuple[Any, ...]]:
    """What each instant is known as: state, confirmation, evidence, next check."""
    cells: dict[int, tuple[Any, ...]] = {}
    for new in incoming:
        for cell in range(new.start_us, new.end_us):
            old = cells.get(cell)
            if old is not None and RANK[new.state] < RANK[str(old[0])]:
                continue
            if old is not None and old[0] == new.state == "complete" and old[1] and not new.confirmed_by:
                continue
            cells[cell] = (new.state, new.confirmed_by, new.evidence, new.next_check_at_us)
    return cells


def cells_of(known: list[CoverageRange]) -> dict[int, tuple[Any, ...]]:
    return {
        cell: (r.state, r.confirmed_by, r.evidence, r.next_check_at_us)
        for r in known
        for cell in range(r.start_us, r.end_us)
    }


@given(st.lists(ranges(), max_size=8))
def test_overlay_is_the_model_of_every_instant(incoming: list[CoverageRange]) -> None:
    """Laid one after the other or all at once, each instant is known as the model says."""
    stepwise: list[CoverageRange] = []
    for new in incoming:
        stepwise = overlay(stepwise, [new], count=grid)
    for known in (stepwise, overlay([], incoming, count=grid)):
        assert cells_of(known) == model(incoming)
        for r in known:
            assert r.start_us < r.end_us
            assert r.row_count == (r.end_us - r.start_us if r.state == State.COMPLETE else 0)
        for a, b in pairwise(known):
            assert a.end_us <= b.start_us
            assert a.end_us < b.start_us or cells_of([a])[a.start_us] != cells_of([b])[b.start_us], "not merged"


@given(st.lists(ranges(), max_size=8), ranges())
def test_overlay_twice_is_overlay_once(incoming: list[CoverageRange], new: CoverageRange) -> None:
    once = overlay(overlay([], incoming, count=grid), [new], count=grid)
    assert overlay(once, [new], count=grid) == once


@given(st.lists(ranges(), max_size=8), st.integers(0, CELLS), st.integers(0, CELLS), st.integers(6, 10))
def test_missing_and_stretches_partition_the_window(incoming: list[CoverageRange], a: int, b: int, now: int) -> None:
    """What is missing, and how the window reads, cell by cell."""
    window = (min(a, b), max(a, b))
    known = overlay([], incoming, count=grid)
    cells = model(incoming)
    gaps = missing(window, known, now)
    wanted = {
        c for c in range(*window)
        if c not in cells or not (cells[c][0] in SETTLED or (cells[c][0] in WAITING and (cells[c][3] or 0) > now))
    }  # fmt: skip
    assert {c for start, end in gaps for c in range(start, end)} == wanted
    assert all(x[1] < y[0] for x, y in pairwise(gaps))

    told = stretches(window, known)
    assert [c for start, end, *_ in told for c in range(start, end)] == list(range(*window))
    for start, end, state, _ in told:
        assert {cells[c][0] if c in cells else "uncovered" for c in range(start, end)} == {state}
    assert all(x[2] != y[2] for x, y in pairwise(told))


COMPLETE = CoverageRange(0, 10, State.COMPLETE, 10, first_id=100, last_id=190, confirmed_by="sha", checked_at_us=5)


@pytest.mark.parametrize("state", ["unpublished", "failed", "exchange_gap", "not_listed", "unavailable"])
def test_complete_stays_complete(state: str) -> None:
    assert overlay([COMPLETE], [CoverageRange(3, 6, State(state))], count=grid) == [COMPLETE]


def test_a_split_counts_its_fragments_and_forgets_inner_ids() -> None:
    got = overlay([COMPLETE], [CoverageRange(4, 6, State.RETIRED)], count=lambda a, b: 1000 + b - a)
    assert got == [
        replace(COMPLETE, end_us=4, row_count=1004, last_id=None),
        CoverageRange(4, 6, State.RETIRED),
        replace(COMPLETE, start_us=6, row_count=1004, first_id=None),
    ]


def test_a_provisional_answer_leaves_the_confirmation_and_renews_the_check() -> None:
    again = CoverageRange(0, 10, State.COMPLETE, 10, evidence="rest", checked_at_us=8)
    assert overlay([COMPLETE], [again], count=grid) == [replace(COMPLETE, first_id=None, last_id=None, checked_at_us=8)]


def test_a_file_confirms_what_it_covers() -> None:
    provisional = CoverageRange(0, 10, State.COMPLETE, 10)
    got = overlay([provisional], [CoverageRange(2, 5, State.COMPLETE, 3, confirmed_by="sha")], count=grid)
    assert [(r.start_us, r.end_us, r.row_count, r.confirmed_by) for r in got] == [
        (0, 2, 2, None), (2, 5, 3, "sha"), (5, 10, 5, None),
    ]  # fmt: skip


def test_neighbours_merge_with_sums_and_the_newer_check() -> None:
    a = CoverageRange(0, 5, State.COMPLETE, 5, first_id=1, last_id=5, checked_at_us=3)
    b = CoverageRange(5, 9, State.COMPLETE, 4, first_id=6, last_id=9, checked_at_us=2)
    assert overlay([a], [b], count=grid) == [
        CoverageRange(0, 9, State.COMPLETE, 9, first_id=1, last_id=9, checked_at_us=3)
    ]


def test_merged_stretches_tell_every_evidence() -> None:
    known = [
        CoverageRange(0, 2, State.EXCHANGE_GAP, evidence='{"file": "a"}'),
        CoverageRange(2, 4, State.EXCHANGE_GAP, evidence='{"file": "b"}'),
        CoverageRange(4, 6, State.COMPLETE, 2, evidence="x"),
        CoverageRange(6, 8, State.COMPLETE, 2, evidence="x"),
    ]
    told = stretches((0, 10), known)
    assert [line[:3] for line in told] == [(0, 4, "exchange_gap"), (4, 8, "complete"), (8, 10, "uncovered")]
    assert json.loads(told[0][3]) == [{"file": "a"}, {"file": "b"}]
    assert told[1][3] == "x"
    assert told[2][3] == ""
