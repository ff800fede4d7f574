"""Which source a stored row came from, as the ledger tells it."""

from __future__ import annotations

from airflow_provider_binance.records import CoverageRange, Source, State
from airflow_provider_binance.store.precedence import Origins, Span, outranks, sources

ARCHIVE, REST, STREAM = Source.ARCHIVE, Source.REST, Source.STREAM


def test_confirmed_is_the_archives_and_the_rest_is_the_newest_lines() -> None:
    coverage = [
        CoverageRange(0, 10, State.COMPLETE, confirmed_by="sha"),
        CoverageRange(10, 20, State.COMPLETE),
    ]
    lines = [Span(5, 15, REST), Span(0, 30, ARCHIVE), Span(12, 40, STREAM)]
    assert sources(0, 50, coverage, lines) == [
        (0, 10, ARCHIVE), (10, 15, REST), (15, 20, STREAM), (20, 30, ARCHIVE), (30, 40, STREAM),
    ]  # fmt: skip


def test_the_stream_does_not_hide_rest() -> None:
    assert sources(0, 10, [], [Span(0, 10, REST), Span(0, 10, STREAM)]) == [(0, 10, REST)]


def test_nothing_is_told_of_what_the_ledger_has_not() -> None:
    origins = Origins(sources(0, 10, [], [Span(3, 5, REST)]))
    assert [origins.at(i) for i in range(2, 7)] == [None, REST, REST, None, None]
    assert Origins([]).at(1) is None


def test_ranks() -> None:
    ranked = [STREAM, REST, ARCHIVE]
    assert [(a, b) for a in ranked for b in ranked if outranks(a, b)] == [
        (REST, STREAM), (ARCHIVE, STREAM), (ARCHIVE, REST),
    ]  # fmt: skip
