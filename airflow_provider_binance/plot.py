"""Pictures of series × time: a lane for each, what is calm in one colour, everything else in the colour of its kind.

`draw_coverage` draws what is there, every gap in the colour of its reason; other pictures bring lanes and looks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, HOUR_US
from airflow_provider_binance.records import Series, State
from airflow_provider_binance.reports import UNCOVERED, CoverageReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Look:
    """How a kind of stretch is drawn; what stands later in a mapping of looks is drawn over what stands before.

    What is `calm` keeps its width however narrow it is, and the grid lies over it.
    """

    colour: str
    label: str
    calm: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """One series in a picture: its stretches (start, end, name of the look), and two short texts at the right."""

    series: Series
    start_us: int
    end_us: int
    stretches: Sequence[tuple[int, int, str]] = ()
    texts: tuple[str, str] = ("", "")
    is_bold: bool = False


#: Told apart by colour-blind eyes and in print: light and dark alternate, and red never meets green.
LOOKS: Final[dict[str, Look]] = {
    State.COMPLETE: Look("#7FB8DA", "complete", calm=True),
    State.NOT_LISTED: Look("#E4E4E4", "not listed then", calm=True),
    State.UNAVAILABLE: Look("#A8A8A8", "Binance offers it nowhere"),
    State.RETIRED: Look("#8C6D46", "given up on purpose"),
    State.EXCHANGE_GAP: Look("#F28E00", "exchange gap: Binance has no rows"),
    UNCOVERED: Look("#2B2B2B", "not loaded yet"),
    State.UNPUBLISHED: Look("#B14A9B", "unpublished: no rows yet, unconfirmed"),
    State.FAILED: Look("#B2182B", "failed"),
}
_UNKNOWN = Look("#000000", "unknown state")

_DPI: Final = 120
_PLOT_INCHES: Final = 9.0
#: A gap narrower than this is drawn as wide as this: 80 minutes in four years are a twentieth of a pixel.
_LEAST_PIXELS: Final = 2.5
_INCHES_PER_ROW: Final = ((8, 0.34), (25, 0.27), (60, 0.22), (200, 0.16))
_MOST_INCHES: Final = 100.0
_FALLBACK_FONTS: Final = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")


def draw_coverage(report: CoverageReport, path: str | Path, *, title: str | None = None) -> None:
    """Write the picture of `report` to `path` as a PNG; raises InputError where that cannot be written.

    One row per series in the order of the report, with its share of the expected rows and its row count at the right.
    """
    lanes = [
        Lane(
            entry.series,
            entry.start_us,
            entry.end_us,
            [(stretch.start_us, stretch.end_us, str(stretch.state)) for stretch in entry.ranges],
            (share := percent(entry.rows, entry.expected), f"{entry.rows:,}"),
            share not in ("100%", "-"),
        )
        for entry in report.coverage
    ]
    draw(lanes, LOOKS, ("complete", "rows"), path, title=title or _title("Coverage", lanes))


def draw(
    lanes: Sequence[Lane], looks: Mapping[str, Look], heads: tuple[str, str], path: str | Path, *, title: str = ""
) -> None:
    """Write a picture of `lanes`, one row each, to `path` as a PNG; raises InputError where that cannot be written.

    `heads` are the words above the two texts at the right; a `title` that ends in a colon gets what all series share.
    """
    # The object API has no global state, so this is safe in any thread and beside anybody's pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows_inches = min(max(len(lanes), 1) * _row_inches(len(lanes)), _MOST_INCHES)
    figure, axes = _frame(lanes, rows_inches)
    start_us, end_us = _window(lanes)
    _axis_of_time(axes, start_us, end_us)
    drawn = _bars(axes, lanes, looks, (end_us - start_us) / (_PLOT_INCHES * _DPI))
    _labels(axes, lanes, heads, rows_inches)
    _legend(axes, drawn, looks, rows_inches)
    axes.set_title(_plain(_title(title[:-1], lanes) if title.endswith(":") else title), loc="left", fontsize=11, pad=22)
    draft = Path(f"{path}.part")
    try:
        FigureCanvasAgg(figure)
        figure.savefig(draft, format="png", bbox_inches="tight", pad_inches=0.15)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot write the picture {str(path)!r}: {error.strerror or error}") from error


def percent(rows: int, expected: int | None) -> str:
    """`99.98%`; never 100% while a row is missing; `-` where nobody knows how many there should be."""
    if expected is None:
        return "-"
    return "100%" if rows >= expected else f"{min(100 * rows / expected, 99.99):.2f}%"


def _row_inches(count: int) -> float:
    return next((inches for most, inches in _INCHES_PER_ROW if count <= most), 0.12)


def _frame(entries: Sequence[Lane], rows_inches: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    # The axes fill the figure: `bbox_inches="tight"` grows it by what the labels need.
    figure = Figure(figsize=(_PLOT_INCHES, rows_inches), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_ylim(max(len(entries), 1) - 0.5, -0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#888888")
    if not entries:
        axes.text(0.5, 0.5, "nothing is there", transform=axes.transAxes, ha="center", va="center", color="#666666")
    return figure, axes


def _window(entries: Sequence[Lane]) -> tuple[int, int]:
    start_us = min((entry.start_us for entry in entries), default=0)
    return start_us, max([start_us + HOUR_US, *(entry.end_us for entry in entries)])


def _days(at_us: float) -> float:
    return at_us / DAY_US  # matplotlib's dates: days since 1970


def _axis_of_time(axes: Axes, start_us: int, end_us: int) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=10)  # type: ignore[no-untyped-call]
    axes.set_xlim(_days(start_us), _days(end_us))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.tick_params(axis="x", labelsize=8, colors="#444444")
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.grid(visible=True, axis="x", color="#FFFFFF", linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(False)


def _bars(axes: Axes, lanes: Sequence[Lane], looks: Mapping[str, Look], us_per_pixel: float) -> list[str]:
    """Draw every stretch; returns the looks drawn, in the order of the legend."""
    least_us = _LEAST_PIXELS * us_per_pixel
    by_look: dict[str, list[tuple[int, float, float]]] = {}
    for row, lane in enumerate(lanes):
        for from_us, to_us, name in lane.stretches:
            start, end = max(from_us, lane.start_us), min(to_us, lane.end_us)
            if start >= end:
                continue
            width: float = end - start
            first: float = start
            if width < least_us and not looks.get(name, _UNKNOWN).calm:
                first = max(lane.start_us, min(start + width / 2 - least_us / 2, lane.end_us - least_us))
                width = least_us
            by_look.setdefault(name, []).append((row, first, width))
    order = [*looks, *sorted(set(by_look) - set(looks))]
    drawn = [name for name in order if name in by_look]
    for depth, name in enumerate(drawn):
        # The grid (2.5) lies over what is long and calm, and under the gaps.
        look = looks.get(name, _UNKNOWN)
        _rectangles(axes, by_look[name], look.colour, (1 if look.calm else 3) + depth / 100)
    return drawn


def _rectangles(axes: Axes, stretches: list[tuple[int, float, float]], colour: str, zorder: float) -> None:
    from matplotlib.collections import PolyCollection

    corners = []
    for row, first, width in stretches:
        x0, x1 = _days(first), _days(first + width)
        corners.append([(x0, row - 0.4), (x0, row + 0.4), (x1, row + 0.4), (x1, row - 0.4)])
    # Without smoothing, neighbours meet at a pixel's edge and no hairline shows between them.
    axes.add_collection(
        PolyCollection(corners, facecolors=colour, linewidths=0, antialiaseds=False, zorder=zorder), autolim=False
    )


def _labels(axes: Axes, lanes: Sequence[Lane], heads: tuple[str, str], rows_inches: float) -> None:
    points_per_row = 72 * rows_inches / max(len(lanes), 1)
    size = max(min(points_per_row * 0.62, 9.0), 5.0)
    every = max(1, round(size * 1.15 / points_per_row + 0.49))
    rows = range(0, len(lanes), every)
    shared = _shared(lanes)
    names = [_plain(_name(lanes[row], shared)) for row in rows]
    axes.set_yticks(list(rows), names, fontsize=size, fontfamily=_fonts(names))
    axes.tick_params(axis="y", length=0, pad=6)
    beside = axes.get_yaxis_transform()
    # Two columns, right-aligned, as a table would have them.
    for row in rows:
        first, second = lanes[row].texts
        weight = "bold" if lanes[row].is_bold else "normal"
        axes.text(1.068, row, first, transform=beside, ha="right", va="center", fontsize=size, fontweight=weight)
        axes.text(1.18, row, second, transform=beside, ha="right", va="center", fontsize=size)
    if lanes:
        for x, head in zip((1.068, 1.18), heads, strict=True):
            axes.annotate(
                head, (x, 1), (0, 4), "axes fraction", textcoords="offset points", ha="right", fontsize=7,
                color="#666666",
            )  # fmt: skip


def _legend(axes: Axes, drawn: Sequence[str], looks: Mapping[str, Look], rows_inches: float) -> None:
    from matplotlib.patches import Patch

    if not drawn:
        return
    handles = [Patch(facecolor=looks.get(n, _UNKNOWN).colour, label=looks[n].label if n in looks else n) for n in drawn]
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.42 / rows_inches),  # below the tick labels, whatever the height
        ncols=min(len(handles), 4),
        fontsize=8,
        frameon=False,
        borderaxespad=0.0,
        handlelength=1.2,
        columnspacing=1.6,
    )


_PARTS: Final = ("market", "dataset", "symbol", "interval")


def _shared(entries: Sequence[Lane]) -> dict[str, str]:
    """What all series have in common (market, dataset, interval): said once, in the title."""
    shared = {}
    for part in ("market", "dataset", "interval"):
        values = {getattr(entry.series, part) for entry in entries}
        if len(values) == 1 and (value := values.pop()):
            shared[part] = value
    return shared


def _name(entry: Lane, shared: dict[str, str]) -> str:
    return " ".join(text for part in _PARTS if part not in shared and (text := getattr(entry.series, part)))


def _title(what: str, lanes: Sequence[Lane]) -> str:
    words = " ".join(_shared(lanes).values())
    return f"{what}: {words} (UTC)" if words else f"{what} (UTC)"


def _fonts(names: Sequence[str]) -> list[str]:
    from matplotlib import font_manager

    if all(name.isascii() for name in names):
        return ["DejaVu Sans"]
    known = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in _FALLBACK_FONTS if font in known)]


def _plain(text: str) -> str:
    r"""`text` as it can be drawn: without TeX, and what no font here has (say, 币) as `\u5e01`."""
    from matplotlib import font_manager

    text = text.replace("$", r"\$")
    if text.isascii() or len(_fonts([text])) > 1:
        return text
    with warnings.catch_warnings():
        charmap = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in charmap else c.encode("ascii", "backslashreplace").decode() for c in text)
