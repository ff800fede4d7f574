"""The picture of findings, looked at by its pixels."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_binance.findings import Blame, Checked, Finding, FindingKind, Status, VerifyReport
from airflow_provider_binance.market import DAY_US, MINUTE_US
from airflow_provider_binance.plot_findings import LOOKS, draw_findings
from airflow_provider_binance.records import Series
from tests.test_plot import Pixel, pixels

YEAR = 365 * DAY_US


def _colour(name: str) -> Pixel:
    text = LOOKS[name].colour
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _report(lanes: int, *found: tuple[int, FindingKind, Blame, Status]) -> VerifyReport:
    series = [Series("spot", "klines", f"SYM{n}USDT", "1m") for n in range(lanes)]
    findings = [Finding(series[lane], YEAR // 2, YEAR // 2 + MINUTE_US, *what) for lane, *what in found]  # type: ignore[arg-type]
    return VerifyReport(tuple(findings), tuple(Checked(one, 0, YEAR, 525_600) for one in series))


def test_each_class_has_its_colour_however_short_the_finding(tmp_path: Path) -> None:
    """A minute in a year can be seen, in a picture of fifty symbols."""
    picture = tmp_path / "findings.png"
    kinds = [
        (3, FindingKind.VALUE, Blame.OURS, Status.OPEN),
        (7, FindingKind.ROWS_MISSING, Blame.OURS, Status.FIXED),
        (11, FindingKind.REPUBLISHED, Blame.BINANCE, Status.OPEN),
        (20, FindingKind.HALT, Blame.BINANCE, Status.EXPLAINED),
        (49, FindingKind.ROLLUP, Blame.UNKNOWN, Status.OPEN),
    ]
    draw_findings(_report(50, *kinds), picture)
    # The legend has the colours as well: below the last lane.
    drawn = {colour for line in pixels(picture)[: -len(pixels(picture)) // 8] for colour in line}
    for look in LOOKS:
        assert _colour(look) in drawn, look


def test_a_sound_store_is_one_colour(tmp_path: Path) -> None:
    picture = tmp_path / "findings.png"
    draw_findings(_report(2), picture)
    drawn = {colour for line in pixels(picture) for colour in line}
    assert _colour("sound") in drawn
    # The grey of "unknown" is among the shades of the text's edges.
    assert not {_colour(look) for look in LOOKS if look not in ("sound", Blame.UNKNOWN)} & drawn


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    draw_findings(VerifyReport(), tmp_path / "findings.png")
    assert (tmp_path / "findings.png").stat().st_size > 0
