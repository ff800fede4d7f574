"""Arithmetic of half-open stretches, ascending and disjoint. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_binance.market import Interval, grid_of

Span = tuple[int, int]

#: A row between two open times is shown as one millisecond long.
MOMENT_US = 1_000


def of_row(grid: Interval, at_us: int) -> Span:
    """The stretch of a row: to the next open time, or a moment if it opens at none."""
    return at_us, grid.next_open(at_us) if grid.floor(at_us) == at_us else at_us + MOMENT_US


def aligned(interval: str, start_us: int, end_us: int) -> Span:
    """The stretch, widened to open times; without an interval to milliseconds, which is as fine as every source is."""
    if interval:
        return grid_of(interval).floor(start_us), grid_of(interval).ceil(end_us)
    return start_us // MOMENT_US * MOMENT_US, -(-end_us // MOMENT_US) * MOMENT_US


def united(spans: Iterable[Span]) -> list[Span]:
    """The same instants in as few stretches as can be."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What of `spans` is in none of `taken`."""
    out: list[Span] = []
    holes = united(taken)
    first = 0
    for start, end in united(spans):
        while first < len(holes) and holes[first][1] <= start:
            first += 1
        at = start
        for low, high in holes[first:]:
            if low >= end:
                break
            if at < low:
                out.append((at, low))
            at = max(at, high)
        if at < end:
            out.append((at, end))
    return out


def common(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What of `spans` is in any of `others`."""
    return list(_common(united(spans), united(others)))


def _common(one: list[Span], other: list[Span]) -> Iterator[Span]:
    i = j = 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start < end:
            yield start, end
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1


def touch(span: Span, others: Iterable[Span]) -> bool:
    """Whether any of `others` overlaps `span`."""
    return any(start < span[1] and end > span[0] for start, end in others)
