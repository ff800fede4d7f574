"""The coverage picture, looked at by its pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, MINUTE_US
from airflow_provider_binance.plot import LOOKS, draw_coverage, percent
from airflow_provider_binance.records import Series, State
from airflow_provider_binance.reports import CoverageReport, RangeReport, SeriesCoverage
from airflow_provider_binance.windows import parse_instant

Pixel = tuple[int, int, int]


def us(text: str) -> int:
    at = parse_instant(text)
    assert isinstance(at, int)
    return at


START, END = us("2021"), us("2025")
HALT = RangeReport(us("2023-03-24T12:40:00Z"), us("2023-03-24T14:00:00Z"), State.EXCHANGE_GAP)


def entry(*gaps: RangeReport, symbol: str = "BTCUSDT", market: str = "spot", end: int = END) -> SeriesCoverage:
    """A series that is complete but for `gaps`."""
    ranges, at = [], START
    for gap in gaps:
        if at < gap.start_us:
            ranges.append(RangeReport(at, gap.start_us, State.COMPLETE))
        ranges.append(gap)
        at = gap.end_us
    if at < end:
        ranges.append(RangeReport(at, end, State.COMPLETE))
    return SeriesCoverage(Series(market, "klines", symbol, "1m"), START, end, 2_103_760, 2_103_760, tuple(ranges))


def pixels(path: Path) -> list[list[Pixel]]:
    """The colours of a PNG, row by row."""
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        wide, data = image.width, image.convert("RGB").tobytes()
    reds, greens, blues = (data[part::3] for part in range(3))
    colours = list(zip(reds, greens, blues, strict=True))
    return [colours[at : at + wide] for at in range(0, len(colours), wide)]


def colour(state: str) -> Pixel:
    text = LOOKS[state].colour
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def widest(rows: list[list[Pixel]], wanted: Pixel) -> int:
    """The most neighbouring pixels of a colour in one row."""
    most = 0
    for row in rows:
        run = 0
        for pixel in row:
            run = run + 1 if pixel == wanted else 0
            most = max(most, run)
    return most


def test_eighty_minutes_in_four_years_can_be_seen(tmp_path: Path) -> None:
    """A twentieth of a pixel is drawn two or three pixels wide, and what is around it stays complete."""
    draw_coverage(CoverageReport((entry(HALT),)), tmp_path / "c.png")
    rows = pixels(tmp_path / "c.png")
    bar = [row for row in rows if row.count(colour(State.COMPLETE)) > 500]
    assert len(bar) > 20
    assert widest(bar, colour(State.EXCHANGE_GAP)) in (2, 3)
    assert all(row.count(colour(State.COMPLETE)) > 1000 for row in bar)


def test_every_state_has_its_colour(tmp_path: Path) -> None:
    """All reasons can be told apart, and a gap that is wide enough is drawn as wide as it is."""
    gaps = [RangeReport(START + n * 100 * DAY_US, START + (n + 1) * 100 * DAY_US, state)
            for n, state in enumerate(state for state in LOOKS if state != State.COMPLETE)]  # fmt: skip
    draw_coverage(CoverageReport((entry(*gaps),)), tmp_path / "c.png")
    rows = pixels(tmp_path / "c.png")
    for state in LOOKS:
        assert widest(rows, colour(state)) > 60, state
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS) == len(State) + 1


@pytest.mark.parametrize("where", [START, END - MINUTE_US])
def test_gaps_at_the_edges_stay_inside_the_window(tmp_path: Path, where: int) -> None:
    """The first and the last minute are seen too."""
    draw_coverage(CoverageReport((entry(RangeReport(where, where + MINUTE_US, State.FAILED)),)), tmp_path / "c.png")
    bar = [row for row in pixels(tmp_path / "c.png") if row.count(colour(State.COMPLETE)) > 500]
    assert widest(bar, colour(State.FAILED)) >= 2


def test_fifty_symbols_have_fifty_bars(tmp_path: Path) -> None:
    """Each with air around it."""
    report = CoverageReport(tuple(entry(HALT, symbol=f"SYM{n}USDT") for n in range(50)))
    draw_coverage(report, tmp_path / "c.png")
    rows = pixels(tmp_path / "c.png")
    full = [row.count(colour(State.COMPLETE)) > 500 for row in rows]
    assert sum(now and not before for before, now in zip([False, *full], full, strict=False)) == 50
    assert len(rows) < 2_000


@pytest.mark.parametrize(
    "report",
    [
        CoverageReport(),
        CoverageReport((SeriesCoverage(Series("spot", "klines", "A", "1m"), START, START, 0, 0),)),
        CoverageReport((entry(symbol="币安人生USDT"), entry(symbol="$A_$B", market="cm", end=us("2022")))),
        CoverageReport((SeriesCoverage(Series("um", "agg_trades", "A"), START, END, 7, None, (HALT,)),)),
        CoverageReport((entry(RangeReport(START, END, "a state of tomorrow")),)),
    ],
    ids=["nothing", "empty window", "odd names", "no grid", "unknown state"],
)
def test_odd_reports_are_drawn_without_a_warning(tmp_path: Path, report: CoverageReport) -> None:
    """No glyph is missing, nothing is divided by nothing."""
    draw_coverage(report, tmp_path / "c.png", title="a title with $ and 币")
    assert pixels(tmp_path / "c.png")


def test_a_picture_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    """And nothing half-done is left."""
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="cannot write the picture"):
        draw_coverage(CoverageReport(), tmp_path / "folder.png")
    with pytest.raises(InputError, match="cannot write the picture"):
        draw_coverage(CoverageReport(), tmp_path / "none" / "c.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_the_share_is_never_rounded_up_to_all() -> None:
    """One missing row in ten million is not 100 %."""
    assert [percent(*pair) for pair in ((10, 10), (0, 0), (9_999_999, 10_000_000), (1, 3), (5, None))] == [
        "100%", "100%", "99.99%", "33.33%", "-",
    ]  # fmt: skip


def test_importing_is_cheap_and_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    """matplotlib comes with the first picture, and no global figure is made."""
    code = (
        "import sys; from airflow_provider_binance import plot, reports\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot.draw_coverage(reports.CoverageReport(), {str(tmp_path / 'c.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
