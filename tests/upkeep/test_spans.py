"""Arithmetic of stretches, against sets of instants."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_binance.records import Series
from airflow_provider_binance.upkeep.known import KNOWN, known_defect
from airflow_provider_binance.upkeep.spans import Span, common, touch, united, without
from airflow_provider_binance.windows import parse_instant

spans = some.lists(some.tuples(some.integers(0, 30), some.integers(0, 30)).map(lambda pair: (min(pair), max(pair))))


def instants(stretches: list[Span]) -> set[int]:
    return {at for start, end in stretches for at in range(start, end)}


def is_tidy(stretches: list[Span]) -> bool:
    """Ascending, not empty, and none that touches the next."""
    edges = [edge for stretch in stretches for edge in stretch]
    return all(a < b for a, b in pairwise(edges))


@given(spans, spans)
def test_spans_are_sets_of_instants(one: list[Span], other: list[Span]) -> None:
    assert instants(united(one)) == instants(one)
    assert instants(without(one, other)) == instants(one) - instants(other)
    assert instants(common(one, other)) == instants(one) & instants(other)
    assert all(map(is_tidy, (united(one), without(one, other), common(united(one), other))))


@given(some.tuples(some.integers(0, 30), some.integers(1, 5)), spans)
def test_touching_is_having_an_instant_in_common(pair: tuple[int, int], others: list[Span]) -> None:
    span = pair[0], pair[0] + pair[1]
    assert touch(span, [o for o in others if o[0] < o[1]]) == bool(instants([span]) & instants(others))


def test_known_defects_are_told_of_whom_they_concern() -> None:
    """Every entry can be read; a halt of spot is none of futures, and one symbol's defect none of another's."""

    def note(market: str, symbol: str, interval: str, start: str, end: str) -> str:
        window = [parse_instant(text) for text in (start, end)]
        assert isinstance(window[0], int)
        assert isinstance(window[1], int)
        return known_defect(Series(market, "klines", symbol, interval), window[0], window[1])

    assert all(parse_instant(entry.start) < parse_instant(entry.end) for entry in KNOWN)  # type: ignore[operator]
    halt = "2023-03-24T12:40:00Z", "2023-03-24T14:00:00Z"
    assert "12:40" in note("spot", "BTCUSDT", "1m", *halt)
    assert note("um", "BTCUSDT", "1m", *halt) == ""
    assert "#440" in note("spot", "SOLUSDT", "5m", "2025-10-05T01:00:00Z", "2025-10-05T02:00:00Z")
    assert note("spot", "BTCUSDT", "5m", "2025-10-05T01:00:00Z", "2025-10-05T02:00:00Z") == ""
