"""How one knows that nothing of a stretch is missing, by the rule of its dataset: a grid of open times, or ids. Pure.

Both scans take a stretch's rows in any number of blocks, and then tell which parts of it are filled and which are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from airflow_provider_binance.evidence import ContinuityScan
from airflow_provider_binance.market import Interval, Market, grid_of
from airflow_provider_binance.normalize import SeriesRows
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Continuity
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.tick_rows import TickRows

#: Said of a part whose rows the store is to count.
UNCOUNTED = -1
#: So many holes of one stretch are told one by one; of more, those that are nearest to each other become one.
_MOST_HOLES = 64


@dataclass(frozen=True, slots=True)
class Filled:
    """A part of a stretch from which nothing is missing."""

    start_us: int
    end_us: int
    row_count: int
    first_id: int | None = None
    last_id: int | None = None


class Scan(Protocol):
    """Finds what is missing."""

    def feed(self, rows: SeriesRows) -> None:
        """Take some rows of the stretch."""

    def holes(self) -> list[tuple[int, int]]:
        """The parts with rows missing, once all rows were fed."""

    def filled(self) -> list[Filled]:
        """The parts without."""


def scan_of(series: Series, start_us: int, end_us: int) -> GridScan | IdScan:
    """The scan of a stretch of `series`."""
    entry = registered(series.dataset)
    if entry.continuity is Continuity.GRID:
        return GridScan(grid_of(series.interval), start_us, end_us)
    return IdScan(start_us, end_us, is_contiguous=Market(series.market) in entry.contiguous)


class GridScan:
    """Every open time of a stretch has its row."""

    def __init__(self, interval: Interval, start_us: int, end_us: int) -> None:
        self._interval = interval
        self._scan = ContinuityScan(interval, start_us, end_us)

    def feed(self, rows: SeriesRows) -> None:
        """Take the next rows, ascending."""
        self._scan.feed(list(rows.times_us()))

    def holes(self) -> list[tuple[int, int]]:
        """The stretches without rows."""
        return self._scan.holes()

    def filled(self) -> list[Filled]:
        """The stretches with every row."""
        return [Filled(start, end, self._interval.count(start, end)) for start, end in self._scan.complete()]


@dataclass(frozen=True, slots=True)
class IdRun:
    """Rows whose ids follow one another, and the time that they take; `rows` is 0 for those of another stretch."""

    first_id: int
    last_id: int
    first_us: int
    last_us: int
    rows: int = 0


class IdScan:
    """Ids of a stretch follow one another, where ids of the market are contiguous at all.

    A hole goes from the row before the missing ids to the row behind them, both included: what is missing may share the
    instant of either. Rows beyond the stretch that are known of (`join`) tell whether its ends lack any, and so may
    reach a hole beyond it. A stretch without any row is filled only if that is proven: by `prove`, or by the ids on
    either side.
    """

    def __init__(self, start_us: int, end_us: int, *, is_contiguous: bool) -> None:
        self._start, self._end, self._is_contiguous = start_us, end_us, is_contiguous
        self._runs: list[IdRun] = []
        self._is_proven = False
        self._sides = 0

    def feed(self, rows: SeriesRows) -> None:
        """Take some rows of the stretch, in any order."""
        assert isinstance(rows, TickRows)
        if not len(rows):
            return
        import numpy as np

        ids, times = rows.ids, rows.times
        breaks = np.flatnonzero(np.diff(ids) > 1) + 1 if self._is_contiguous else np.empty(0, np.int64)
        edges = [0, *breaks.tolist(), len(ids)]
        for low, high in pairwise(edges):
            part = times[low:high]
            first_us, last_us = int(part.min()), int(part.max())
            self._runs.append(IdRun(int(ids[low]), int(ids[high - 1]), first_us, last_us, high - low))

    def join(self, run: IdRun | None) -> None:
        """There are such rows right before or behind the stretch."""
        if run is not None and self._is_contiguous:
            self._runs.append(run)
            self._sides += 1

    def prove(self) -> None:
        """The source said what comes behind the stretch, so that it lacks nothing at its end."""
        self._is_proven = True

    @property
    def rows(self) -> int:
        """How many rows were fed."""
        return sum(run.rows for run in self._runs)

    def ends(self) -> tuple[IdRun, IdRun] | None:
        """The first and the last run of the rows fed, None if there were none."""
        runs = sorted((run for run in self._runs if run.rows), key=lambda run: run.first_id)
        return (runs[0], runs[-1]) if runs else None

    def holes(self) -> list[tuple[int, int]]:
        """Where ids are missing, ascending, disjoint; the whole stretch if it has no rows and nobody proves why."""
        if not self.rows and not self._is_proven and self._sides < 2:
            return [(self._start, self._end)]
        found = []
        runs = _joined(self._runs) if self._is_contiguous else []
        for before, behind in pairwise(runs):
            low, high = sorted((before.last_us, behind.first_us))
            found.append((low, high + 1))
        return _fewer(found)

    def filled(self) -> list[Filled]:
        """The parts of the stretch outside the holes."""
        holes = [(max(low, self._start), min(high, self._end)) for low, high in self.holes()]
        holes = [(low, high) for low, high in holes if low < high]
        if not holes:
            ends = self.ends()
            ids = (ends[0].first_id, ends[1].last_id) if ends else (None, None)
            return [Filled(self._start, self._end, self.rows, *ids)]
        parts, at = [], self._start
        for low, high in [*holes, (self._end, self._end)]:
            if at < low:
                parts.append(Filled(at, low, UNCOUNTED))
            at = max(at, high)
        return parts


def _joined(runs: Iterable[IdRun]) -> list[IdRun]:
    """The runs, ascending, those that follow one another as one."""
    out: list[IdRun] = []
    for run in sorted(runs, key=lambda run: run.first_id):
        if out and run.first_id <= out[-1].last_id + 1:
            last = out[-1]
            later = run if run.last_id > last.last_id else last
            out[-1] = replace(last, last_id=later.last_id, last_us=later.last_us)
        else:
            out.append(run)
    return out


def _fewer(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The holes, ascending and disjoint, and no more than a ledger should have of one stretch."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(holes):
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    if len(out) <= _MOST_HOLES:
        return out
    widths = sorted(behind[0] - before[1] for before, behind in pairwise(out))
    widest = widths[-(_MOST_HOLES - 1)]
    joined = [out[0]]
    for low, high in out[1:]:
        if low - joined[-1][1] < widest:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
