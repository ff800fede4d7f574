"""What is looked at again: a model of a series and its ledger, against the decision."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.integrations.drl_changes import Mark, Span, advanced, merged, pieces, without
from airflow_provider_binance.market import INTERVALS, MINUTE_US

_MINUTE = INTERVALS["1m"]
_SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=8)


def minutes(spans: list[Span]) -> set[int]:
    return {minute for start, end in spans for minute in range(start // MINUTE_US, end // MINUTE_US)}


def scaled(spans: list[Span]) -> list[Span]:
    return [(start * MINUTE_US, end * MINUTE_US) for start, end in spans]


@given(
    st.dictionaries(st.integers(0, 40), st.sampled_from("ab")),
    st.dictionaries(st.integers(0, 40), st.sampled_from("ab")),
)
def test_new_other_and_vanished_coverage_is_found_minute_by_minute(old: dict[int, str], new: dict[int, str]) -> None:
    """Whatever ranges say it."""

    def ranges(words: dict[int, str]) -> list[tuple[int, int, str]]:
        return [(at * MINUTE_US, (at + 1) * MINUTE_US, word) for at, word in sorted(words.items())]

    mark = advanced(Mark(coverage=ranges(old), line=1), [], ranges(new), [], _MINUTE)
    assert minutes(mark.prune) == {at for at in old if at not in new}
    assert minutes(mark.compare) | minutes(mark.prune) >= {at for at in new if old.get(at) != new[at]}
    again = advanced(Mark.from_dict(mark.to_dict()), [], ranges(new), [], _MINUTE)
    assert (again.compare, again.prune) == (mark.compare, mark.prune)
    assert advanced(Mark(coverage=ranges(new), line=1), [], ranges(new), [], _MINUTE).compare == []


@given(_SPANS, _SPANS, st.integers(1, 7))
def test_spans_are_merged_cut_and_split_without_loss(some: list[Span], others: list[Span], most: int) -> None:
    taken = merged(scaled(others), gap_us=0)
    whole = merged(scaled(some), gap_us=0)
    assert minutes(whole) == minutes(scaled(some))
    left = without(whole, taken)
    assert minutes(left) == minutes(whole) - minutes(taken)
    for span in left:
        cut = list(pieces(span, _MINUTE, most))
        assert [cut[0][0], *(end for _, end in cut)][-1] == span[1]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(cut))
        assert all(end - start <= most * MINUTE_US for start, end in cut)
