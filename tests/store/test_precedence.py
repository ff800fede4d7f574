"""Which source a stored row came from, as the ledger tells it."""

from __future__ import annotations

from airflow_provider_binance.records import CoverageRange, Source, State
from airflow_provider_binance.store.precedence import Line, Origins, Span, file_standings, sources, standing

ARCHIVE, REST, STREAM = Source.ARCHIVE, Source.REST, Source.STREAM
DAILY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip"
MONTHLY = "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip"


def line(start: int, end: int, source: Source, published: int | None = None, sha: str | None = None) -> Line:
    return Line(start, end, source, standing(source, MONTHLY, published), sha)


def told(spans: list[Span]) -> list[tuple[int, int, Source]]:
    return [span[:3] for span in spans]


def test_confirmed_is_the_archives_and_the_rest_is_the_newest_lines() -> None:
    coverage = [
        CoverageRange(0, 10, State.COMPLETE, confirmed_by="sha"),
        CoverageRange(10, 20, State.COMPLETE),
    ]
    lines = [line(5, 15, REST), line(0, 30, ARCHIVE), line(12, 40, STREAM)]
    assert told(sources(0, 50, coverage, lines)) == [
        (0, 10, ARCHIVE), (10, 15, REST), (15, 20, STREAM), (20, 30, ARCHIVE), (30, 40, STREAM),
    ]  # fmt: skip


def test_the_stream_does_not_hide_rest() -> None:
    assert told(sources(0, 10, [], [line(0, 10, REST), line(0, 10, STREAM)])) == [(0, 10, REST)]


def test_what_a_file_confirmed_stands_as_that_file_does() -> None:
    """Not as the newest file that was asked about the stretch, and perhaps lacked it."""
    coverage = [CoverageRange(0, 10, State.COMPLETE, confirmed_by="old")]
    lines = [line(0, 10, ARCHIVE, 100, "old"), line(0, 10, ARCHIVE, 200, "new"), line(0, 5, ARCHIVE, 150, "old")]
    [span] = sources(0, 10, coverage, lines)
    assert span.standing == standing(ARCHIVE, MONTHLY, 150)
    assert file_standings(lines)["new"] > span.standing


def test_rows_of_a_file_that_was_cut_short_are_the_newest_files() -> None:
    [first, second] = sources(0, 10, [], [line(0, 5, ARCHIVE, 300, "new"), line(0, 10, ARCHIVE, 100, "old")])
    assert (first[:3], first.standing.published_us) == ((0, 5, ARCHIVE), 300)
    assert (second[:3], second.standing.published_us) == ((5, 10, ARCHIVE), 100)


def test_nothing_is_told_of_what_the_ledger_has_not() -> None:
    origins = Origins(sources(0, 10, [], [line(3, 5, REST)]))
    assert [span and span.source for span in map(origins.at, range(2, 7))] == [None, REST, REST, None, None]
    assert Origins([]).at(1) is None


def test_standings() -> None:
    """Each one outranks those before it; files of unknown date are equal, so that the one that comes last wins."""
    ranked = [
        standing(STREAM),
        standing(REST),
        standing(ARCHIVE, DAILY),
        standing(ARCHIVE, MONTHLY, 1),
        standing(ARCHIVE, DAILY, 1),
        standing(ARCHIVE, MONTHLY, 2),
    ]
    assert sorted(ranked) == ranked
    assert len(set(ranked)) == len(ranked)
    assert standing(ARCHIVE, DAILY) == standing(ARCHIVE, MONTHLY)
