"""What follows from answers without rows."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.evidence import ContinuityScan, Evidence, Stretch, next_check, settle
from airflow_provider_binance.market import DAY_US, HOUR_US, INTERVALS, MINUTE_US
from airflow_provider_binance.records import State

NOW = 1_700_000_000_000_000


def _settled(evidence: Evidence, *, is_gone: bool = False) -> State:
    return settle(Stretch(0, MINUTE_US, evidence), NOW, is_gone=is_gone).state


def test_a_halt_is_believed_when_archive_and_rest_agree():
    """Either alone is not enough."""
    archive, rest = Evidence().with_archive("a.zip"), Evidence().with_rest(NOW)
    assert _settled(archive) is State.UNPUBLISHED
    assert _settled(rest) is State.UNPUBLISHED
    assert _settled(archive.with_rest(NOW)) is State.EXCHANGE_GAP


def test_a_halt_is_believed_when_two_rest_answers_lie_a_day_apart():
    """Less than a day is not enough, however often it is asked."""
    first = Evidence().with_rest(NOW - DAY_US)
    assert _settled(first.with_rest(NOW)) is State.EXCHANGE_GAP
    assert _settled(first.with_rest(NOW - HOUR_US).with_rest(NOW - 1)) is State.UNPUBLISHED


def test_what_binance_offers_nowhere_is_unavailable():
    """The archive lacks it and REST serves the symbol no more."""
    assert _settled(Evidence().with_archive("a.zip"), is_gone=True) is State.UNAVAILABLE
    assert _settled(Evidence(), is_gone=True) is State.UNPUBLISHED


def test_an_unreadable_file_that_nobody_replaces_has_failed():
    """It is tried again soon."""
    known = settle(Stretch(0, 1, Evidence().with_corrupt("a.zip")), NOW, is_gone=True)
    assert known.state is State.FAILED
    assert known.next_check_at_us is not None


def test_the_next_check_comes_soon_at_first_and_never_after_a_day():
    """The pause grows, and the second answer that would be believed is not missed."""
    assert next_check(Evidence(), NOW) == NOW + 15 * MINUTE_US
    assert next_check(Evidence(rest=(NOW,)), NOW) == NOW + 15 * MINUTE_US
    assert next_check(Evidence(rest=(NOW - HOUR_US, NOW)), NOW) == NOW + 3 * HOUR_US
    assert next_check(Evidence(rest=(NOW - 20 * HOUR_US, NOW)), NOW) == NOW + 4 * HOUR_US
    assert next_check(Evidence(rest=(NOW - 9 * DAY_US, NOW)), NOW) == NOW + DAY_US


@given(
    st.lists(st.text(min_size=1, max_size=9), max_size=3, unique=True),
    st.lists(st.integers(0, NOW), max_size=2),
    st.text(max_size=9),
)
def test_evidence_reads_back_what_it_wrote(names, times, note):
    """The ledger's text is the evidence."""
    evidence = Evidence(tuple(names), (), tuple(times), note)
    assert Evidence.parse(str(evidence)) == evidence


def test_evidence_of_another_hand_is_kept_as_note():
    """Users may write into the ledger."""
    assert Evidence.parse("checked by hand") == Evidence(note="checked by hand")
    assert Evidence.parse("[1]").note == "[1]"


@given(
    st.sampled_from(["1s", "1m", "4h", "3d", "1w", "1M"]),
    st.sets(st.integers(0, 39)),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_the_scan_finds_exactly_the_missing_opens_in_any_blocks(name, present, cuts):
    """Blocks may be cut anywhere, and rows off the grid fill no hole."""
    interval = INTERVALS[name]
    start = interval.floor(NOW)
    opens = [interval.advance(start, n) for n in range(40)]
    end = interval.advance(start, 40)
    rows = [opens[n] for n in sorted(present)]
    scan = ContinuityScan(interval, start, end)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for low, high in itertools.pairwise(bounds):
        scan.feed(rows[low:high])
    missing = [at for a, b in scan.holes() for at in interval.opens(a, b)]
    complete = [at for a, b in scan.complete() for at in interval.opens(a, b)]
    assert missing == [at for n, at in enumerate(opens) if n not in present]
    assert complete == rows


def test_rows_off_the_grid_neither_fill_nor_make_a_hole():
    """They are kept in the table all the same."""
    scan = ContinuityScan(INTERVALS["1m"], 0, 3 * MINUTE_US)
    scan.feed([0, MINUTE_US + 500, 2 * MINUTE_US])
    assert scan.holes() == [(MINUTE_US, 2 * MINUTE_US)]
