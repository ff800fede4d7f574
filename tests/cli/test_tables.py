"""Reports as people read them."""

from __future__ import annotations

import pytest

from airflow_provider_binance.cli import tables
from airflow_provider_binance.market import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from airflow_provider_binance.records import State, WriteResult
from airflow_provider_binance.reports import (
    CoverageReport,
    LoadReport,
    PieceReport,
    PlanReport,
    SeriesCoverage,
    SeriesLoad,
    SeriesPlan,
)

from .conftest import BTC, ETH, a_load, stretch, us

NO_ANSWER = '{"rest": ["2024-02-01T00:00:00Z"]}'


def text_of(report: LoadReport) -> str:
    return "\n".join(tables.load_lines(report))


def test_a_load_is_a_table_and_a_verdict() -> None:
    """Rows by what became of them, sources, and one closing line."""
    lines = text_of(LoadReport((a_load(), a_load(series=ETH, inserted=0, unchanged=5)))).splitlines()
    assert lines[0].split() == ["series", "window", "(UTC)", "read", "inserted", "updated", "unchanged", "from"]
    assert "spot klines BTCUSDT 1m  2024-01-01 … 2024-02-01  44,640    44,640" in lines[1]
    assert lines[1].endswith("1 archive file, 1.2 MB; 1 REST request, weight 2")
    assert lines[-1] == "Complete: 44,640 rows inserted, 0 updated."


def test_a_second_run_says_that_there_was_nothing_to_do() -> None:
    """Also when the known gaps are shown again."""
    gap = stretch("2024-01-03", "2024-01-04", State.EXCHANGE_GAP)
    assert text_of(LoadReport((a_load(inserted=0),))).endswith("everything was there already; nothing was fetched.")
    assert text_of(LoadReport((a_load(gap, inserted=0),))).endswith("nothing was fetched.")


def test_explained_gaps_are_shown_with_their_reason() -> None:
    """What, how long, why, and who was asked."""
    evidence = '{"archive": ["BTCUSDT-1m-2024-01.zip"], "rest": ["2024-02-01T00:00:00Z"]}'
    gap = stretch("2024-01-03T12:40:00Z", "2024-01-03T14:00:00Z", State.EXCHANGE_GAP, evidence)
    text = text_of(LoadReport((a_load(gap),)))
    assert "2024-01-03 12:40 … 2024-01-03 14:00  80 min  exchange_gap: Binance has no rows there" in text
    assert "(not in BTCUSDT-1m-2024-01.zip; no rows by REST at 2024-02-01 00:00)" in text
    assert text.endswith("1 gap explained.")


def test_unexplained_gaps_say_which_and_when_to_try_again() -> None:
    """An unpublished gap names the time after which a new answer counts."""
    gap = stretch("2024-01-31", "2024-02-01", State.UNPUBLISHED, NO_ANSWER)
    verdict = text_of(LoadReport((a_load(gap),))).splitlines()[-1]
    assert verdict.startswith("Not finished: 1 gap unexplained (unpublished) in spot klines BTCUSDT 1m.")
    assert "again after 2024-02-01 00:15 UTC" in verdict
    failed = text_of(LoadReport((a_load(gap, stretch("2024-01-01", "2024-01-02", State.FAILED)),))).splitlines()[-1]
    assert "2 gaps unexplained (failed, unpublished)" in failed
    assert "Run the same command again after a quarter of an hour, or at once with --reload." in failed
    left = text_of(LoadReport((a_load(gap, stretch("2024-01-01", "2024-01-02", "uncovered")),))).splitlines()[-1]
    assert "Run the same command again; what is there already is not fetched again." in left


def test_unexplained_gaps_come_first_and_are_never_cut_off() -> None:
    """A thousand explained gaps do not hide the one that matters."""
    halts = [stretch(f"2024-01-01T{h:02}:{m:02}:00Z", f"2024-01-01T{h:02}:{m:02}:30Z", State.EXCHANGE_GAP)
             for h in range(10) for m in range(10)]  # fmt: skip
    text = text_of(LoadReport((a_load(*halts, stretch("2024-01-31", "2024-02-01", State.UNPUBLISHED)),)))
    gaps = text.split("gaps: 101\n")[1].splitlines()
    assert "unpublished" in gaps[0]
    assert "… and 51 more (--json has them all)" in text


def test_a_window_without_closed_klines_is_no_success_story() -> None:
    """Nothing was there, and nothing is claimed."""
    load = SeriesLoad(BTC, us("2024-01"), us("2024-01"))
    assert text_of(LoadReport((load,))).endswith("no kline of the window has closed yet.")
    assert text_of(LoadReport()).endswith("no series is selected.")


def test_kept_rows_are_told() -> None:
    """Precedence between sources is no secret."""
    load = SeriesLoad(BTC, us("2024-01"), us("2024-02"), WriteResult(10, 0, 0, 7, 3), 1)
    assert "3 rows differed from the source and were kept" in text_of(LoadReport((load,)))


def piece(source: str, files: int, requests: int) -> PieceReport:
    return PieceReport(us("2024-01"), us("2024-02"), source, "ref", files, 3_000_000 * files, requests, 2 * requests, 1)


def test_a_plan_is_its_pieces_and_their_cost() -> None:
    """Long plans are cut, totals are not."""
    pieces = (piece("archive", 1, 0), piece("rest", 0, 3))
    text = "\n".join(tables.plan_lines(PlanReport((SeriesPlan(BTC, us("2024-01"), us("2024-03"), pieces),), ("hm",))))
    assert "2024-01-01 … 2024-02-01  archive  ref  1 file, 3.0 MB" in text
    assert "rest     ref  3 requests, weight 6" in text
    assert "note: hm" in text
    assert "Total: 2 pieces; 1 archive file, 3.0 MB; 3 REST requests, weight 6; about 2 s." in text
    many = PlanReport((SeriesPlan(BTC, us("2017"), us("2024"), pieces * 50),))
    lines = list(tables.plan_lines(many))
    assert len(lines) < 40
    assert "  … and 71 more pieces (--json has them all)" in lines
    nothing = list(tables.plan_lines(PlanReport((SeriesPlan(BTC, us("2024-01"), us("2024-02")),))))
    assert nothing[-1] == "Nothing to fetch: everything is there already."


def test_coverage_is_rows_expected_and_gaps() -> None:
    """A share below 100 % is never rounded up to it."""
    entry = SeriesCoverage(
        BTC, us("2024-01"), us("2024-02"), 999_999, 1_000_000, (
            stretch("2024-01-01", "2024-01-02"), stretch("2024-01-02", "2024-02-01", "uncovered"),
        ),
    )  # fmt: skip
    text = "\n".join(tables.coverage_lines(CoverageReport((entry,))))
    assert "999,999  1,000,000    99.99%" in text
    assert "30 d  uncovered: not loaded yet" in text
    assert text.endswith("1 gap unexplained in spot klines BTCUSDT 1m: `load` with the same selection goes on there.")


@pytest.mark.parametrize(
    ("span_us", "said"),
    [(80 * MINUTE_US, "80 min"), (30 * SECOND_US, "30 s"), (36 * HOUR_US, "36 h"), (9 * DAY_US // 2, "4.5 d")],
)
def test_durations_are_said_in_one_unit(span_us: int, said: str) -> None:
    """As people do."""
    assert tables.duration(span_us) == said


def test_times_of_day_are_shown_where_there_are_any() -> None:
    """Exact, and no longer than needed."""
    assert tables.span(us("2024-01-01"), us("2024-02-01")) == "2024-01-01 … 2024-02-01"
    assert tables.span(us("2024-01-01"), us("2024-01-01T00:00:01Z")) == "2024-01-01 00:00 … 2024-01-01 00:00:01"
    assert tables.span(us("2024-01-01T00:00:00.5Z"), us("2024-01-02")) == "2024-01-01 00:00:00.5 … 2024-01-02 00:00"


def test_sizes_are_said_in_decimal_units() -> None:
    """Bytes stay bytes."""
    assert [tables.size(n) for n in (999, 1_500, 2_500_000, 3e9)] == ["999 B", "1.5 kB", "2.5 MB", "3.0 GB"]
