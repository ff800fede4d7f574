"""Stored rows beside a source's: fetched as a load fetches, compared page by page, written nowhere."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from threading import Event

from airflow_provider_binance.ahead import OneAhead
from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.errors import BinanceError, CorruptArchiveError
from airflow_provider_binance.market import Interval
from airflow_provider_binance.pipeline import (
    Part,
    Reader,
    Ready,
    SeriesTask,
    Unit,
    pages_of,
    parts_of,
    set_on_error,
    units_of,
)
from airflow_provider_binance.planner import ArchivePiece, plan_stretches
from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.rest.by_id import TickPages
from airflow_provider_binance.rest.fetching import Pages
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.upkeep.mending import OnProgress
from airflow_provider_binance.upkeep.runs import Place, Row, Run, Told, Way, differing, place_in
from airflow_provider_binance.upkeep.spans import Span, of_row, touch, without

log = logging.getLogger(__name__)

#: Rows compared at a time; bounds the memory.
_PAGE_ROWS = 20_000
#: So far from its place a row may stand in a file, or in a table that is read by time.
_DISORDER_ROWS = 5_000
#: Runs of one series that are told one by one; what comes behind them is one run, whatever differs in it.
MOST_RUNS = 5_000


@dataclass(frozen=True, slots=True)
class Marks:
    """What the ledger says of a series: no run reaches over any of `edges` (ascending), and rows between any of `ids`
    do not belong where they are."""

    edges: Sequence[int] = ()
    ids: Sequence[tuple[int, int]] = ()


@dataclass(slots=True)
class Comparison:
    """What comparing brought: the runs that differ, which files were read, what nobody could be asked about, how many
    rows of each series were compared, and what ended it before all were."""

    runs: list[Run] = field(default_factory=list)
    files: list[tuple[Series, Span, Told]] = field(default_factory=list)
    unanswered: dict[Series, list[Span]] = field(default_factory=dict)
    rows: dict[tuple[Series, Source], int] = field(default_factory=dict)
    error: BinanceError | None = None


def compare(
    runtime: Runtime, tasks: Sequence[SeriesTask], marks: Mapping[Series, Marks], jobs: int, on_progress: OnProgress
) -> Comparison:
    """Ask the tasks' sources once and compare."""
    units: list[Unit] = []
    found = Comparison()
    for task in tasks:
        pieces = plan_stretches(task.series, task.stretches, task.sources, task.now_us)
        units += units_of(task, pieces)
        taken = [(s.start_us, s.end_us) for piece in pieces for s in piece.stretches]
        left = without([(s.start_us, s.end_us) for s in task.stretches], taken)
        found.unanswered.setdefault(task.series, []).extend(left)
    comparer = _Comparer(runtime, found, marks)
    stopped = Event()
    reader = Reader(runtime.rest, runtime.fetch_file, jobs)
    done = 0
    try:
        with set_on_error(stopped), closing(OneAhead(reader.read(units, stopped))) as coming:
            for unit in units:
                comparer.take(unit, coming)
                done += 1
                if on_progress is not None:
                    on_progress(Progress(unit.task.series, done, len(units)))
    except BinanceError as error:
        # What was heard till then counts.
        found.error = error
        for unit in units[done:]:
            stretches = unit.piece.stretches if isinstance(unit.piece, ArchivePiece) else unit.stretches
            found.unanswered.setdefault(unit.task.series, []).extend((s.start_us, s.end_us) for s in stretches)
    return found


class _DisorderError(Exception):
    """Rows so far from their place that they cannot be compared page by page."""


class _Comparer:
    def __init__(self, runtime: Runtime, found: Comparison, marks: Mapping[Series, Marks]) -> None:
        self._runtime = runtime
        self._found = found
        self._marks = marks
        self._counts: Counter[Series] = Counter()

    def take(self, unit: Unit, coming: Iterator[Ready]) -> None:
        """Compare what a unit brings."""
        first = next(coming)
        series = unit.task.series
        if isinstance(first.fetched, Pages):
            if first.fetched.refusal is not None:
                self._unanswered(series, [(s.start_us, s.end_us) for s in unit.stretches])
                return
            for stretch in unit.stretches:
                rows = first.fetched.rows.between(stretch.start_us, stretch.end_us)
                self._compare(unit, (stretch.start_us, stretch.end_us), rows.columns, rows.tuples(), _rest(series))
            return
        if isinstance(first.fetched, TickPages):
            self._compare_walk(unit, pages_of(first, coming))
            return
        if not isinstance(unit.piece, ArchivePiece):
            assert first.error is not None
            raise first.error
        spans = [(s.start_us, s.end_us) for s in unit.piece.stretches]
        parts = parts_of(first, coming)
        compare_file = self._compare_file if series.interval else self._compare_ids
        try:
            if not isinstance(first.fetched, FetchedFile):
                next(parts)
            else:
                compare_file(unit, unit.piece, first.fetched, parts, spans)
        except BinanceError as error:
            log.warning("%s; %s is not compared with it", error, series)
            self._unanswered(series, spans)
            with suppress(CorruptArchiveError):
                deque(parts, maxlen=0)

    def _compare_walk(self, unit: Unit, walk: Iterator[TickPages]) -> None:
        """What a walk from id to id brings; each time all rows before an instant."""
        series = unit.task.series
        for pages in walk:
            span = pages.start_us, pages.end_us
            if pages.refusal is not None or not pages.is_proven:
                self._unanswered(series, [span])
            elif span[0] < span[1]:
                rows = pages.rows
                if not self._compare_ticks(unit, span, rows.columns, rows.tuples(), _rest(series)):
                    self._unanswered(series, [span])

    def _compare_file(
        self, unit: Unit, piece: ArchivePiece, file: FetchedFile, parts: Iterator[Part], spans: Sequence[Span]
    ) -> None:
        series, interval = unit.task.series, unit.task.interval
        told = Told(Source.ARCHIVE, piece.file.path, file.sha256)
        # A kline that was not closed when the file was made is not in it, whatever its line says.
        made_us = interval.floor(file.last_modified_us)
        at = [start for start, _ in spans]
        for part, number, rows in parts:
            for index, (_, end) in enumerate(spans):
                upto = min(end, made_us)
                if part < number:
                    upto = min(upto, interval.next_open(rows.last_us)) if len(rows) else at[index]
                if at[index] < upto:
                    within = rows.between(at[index], upto)
                    self._compare(unit, (at[index], upto), within.columns, within.tuples(), told)
                    at[index] = upto
        self._read(series, spans, made_us, told)

    def _compare_ids(
        self, unit: Unit, piece: ArchivePiece, file: FetchedFile, parts: Iterator[Part], spans: Sequence[Span]
    ) -> None:
        """A file of ticks, compared in one go: where its parts meet, times may overlap."""
        series, made_us = unit.task.series, file.last_modified_us
        told = Told(Source.ARCHIVE, piece.file.path, file.sha256)
        whole = spans[0][0], min(spans[-1][1], made_us)
        first, before, is_compared = next(parts), len(self._found.runs), True
        if whole[0] < whole[1]:
            theirs = (row for _, _, rows in chain([first], parts) for row in rows.between(*whole).tuples())
            is_compared = self._compare_ticks(unit, whole, first[2].columns, theirs, told)
            # What lies between the spans was not asked about.
            self._found.runs[before:] = [run for run in self._found.runs[before:] if touch(run.span, spans)]
        deque(parts, maxlen=0)
        if not is_compared:
            self._unanswered(series, spans)
            return
        self._read(series, spans, made_us, told)

    def _compare_ticks(
        self, unit: Unit, span: Span, columns: Sequence[str], rows: Iterable[Row], told: Told
    ) -> bool:  # fmt: skip
        """As `_compare`; false, and nothing found, where rows are too much out of order for it."""
        before = len(self._found.runs)
        try:
            self._compare(unit, span, columns, rows, told)
        except _DisorderError:
            log.warning("%s is out of order; %s is not compared with it", told.ref, unit.task.series)
            del self._found.runs[before:]
            return False
        return True

    def _read(self, series: Series, spans: Sequence[Span], made_us: int, told: Told) -> None:
        """A file was read to its end."""
        self._unanswered(series, [(max(start, made_us), end) for start, end in spans if end > made_us])
        self._found.files += [(series, (start, min(end, made_us)), told) for start, end in spans if start < made_us]

    def _unanswered(self, series: Series, spans: Iterable[Span]) -> None:
        self._found.unanswered.setdefault(series, []).extend(spans)

    def _compare(self, unit: Unit, span: Span, columns: Sequence[str], rows: Iterable[Row], told: Told) -> None:
        """Both sides of one stretch, a bounded number of rows at a time."""
        series, interval = unit.task.series, unit.task.interval
        entry, marks = dataset(series.dataset), self._marks.get(series, Marks())
        key = series, told.source
        time = entry.column_names.index(entry.time_column)
        row_id = None if series.interval else entry.column_names.index(entry.key[0])
        place, late = place_in(entry), list[Row]()
        slots = [entry.column_names.index(name) for name in columns]
        # Where a database takes anything for a time, what is none was told of by itself.
        rows_there = self._runtime.store.rows(series.dataset, series, *span)
        stored: Iterator[Row] = (row for row in rows_there if isinstance(row[time], int))
        theirs: Iterator[Row] = (_full(row, slots, len(entry.columns)) for row in rows)
        if row_id is not None:
            stored = _in_order((_carried(row, slots, len(entry.columns)) for row in stored), place, late)
            theirs = _in_order(theirs, place)
        late_pages = (([row], list[Row]()) for row in late)
        carried = [i for i in slots if entry.columns[i].name not in entry.key]
        rest: Run | None = None
        last, number = -1, 0
        for ours, other in chain(_pages(stored, theirs, place), late_pages):
            self._found.rows[key] = self._found.rows.get(key, 0) + len(other)
            if rest is None and self._counts[series] >= MOST_RUNS and ours != other:
                first = min((side[0] for side in (ours, other) if side), key=place)
                rest = self._rest(series, interval, _int(first[time]), told, None if row_id is None else first[row_id])
                rest.carried = tuple(slots)
            if rest is not None:
                rest.end_us = span[1]
                for row in other:
                    rest.heard(entry, row)
            if ours == other:
                number += len(ours)
                continue
            for each, mine, its in _beside(ours, other, place):
                number += 1
                named: set[str] = set()
                way = Way.LACKING if mine is None else Way.EXTRA
                if mine is not None and its is not None:
                    way, named = Way.DIFFERS, differing(entry, carried, mine, its)
                if mine is its or (way is Way.DIFFERS and not named):
                    continue
                times = [_int(row[time]) for row in (mine, its) if row is not None]
                run = rest
                if run is None:
                    ids = None if row_id is None else (each[1], number == last + 1)
                    run = self._run(series, interval, min(times), way, told, marks, named, ids)
                if row_id is not None:
                    run.end_us, last = max(run.end_us, max(times) + 1), number
                    run.start_us = min(run.start_us, *times)
                run.columns |= named
                run.carried = tuple(slots)
                run.take(entry, times[0], named, mine, its)

    def _run(
        self, series: Series, interval: Interval, at: int, way: Way, told: Told, marks: Marks, columns: set[str],
        ids: tuple[int, bool] | None,
    ) -> Run:  # fmt: skip
        """The run before a row, if that goes on there, or a new one. `ids`: the row's id, and whether the row before it
        is the last of that run."""
        last = self._found.runs[-1] if self._found.runs else None
        is_stray = interval.floor(at) != at if ids is None else any(low <= ids[0] <= high for low, high in marks.ids)
        if last is not None and (
            (last.series, last.way, last.told, last.is_stray) != (series, way, told, is_stray)
            or (ids is None and (last.end_us != at or is_stray))
            or (ids is not None and not (ids[1] and last.last_id is not None and last.last_id < ids[0]))
            or bisect_right(marks.edges, at) != bisect_right(marks.edges, last.end_us - 1)
            or (way is Way.DIFFERS and last.columns != columns)
        ):
            last = None
        if last is None:
            end = at + 1 if ids is not None else of_row(interval, at)[1]
            last = Run(series, at, end, way, told, is_stray=is_stray, first_id=ids and ids[0])
            self._found.runs.append(last)
            self._counts[series] += 1
        if ids is None:
            last.end_us = of_row(interval, at)[1]
        else:
            last.last_id = ids[0]
        return last

    def _rest(self, series: Series, interval: Interval, at: int, told: Told, first_id: int | str | None) -> Run:
        """A run of what differs from `at` to the end of the stretch, with sound rows in between."""
        run = Run(series, interval.floor(at), at, Way.DIFFERS, told, is_rest=True)
        run.first_id = None if first_id is None else _int(first_id)
        self._found.runs.append(run)
        return run


def _rest(series: Series) -> Told:
    return Told(Source.REST, series.dataset)


def _full(row: Row, slots: Sequence[int], width: int) -> Row:
    """A row that a source carries as one of all columns, with None in those that it does not carry."""
    full: list[int | str | None] = [None] * width
    for slot, value in zip(slots, row, strict=True):
        full[slot] = value
    return tuple(full)


def _carried(row: Row, slots: Sequence[int], width: int) -> Row:
    """A stored row without what the source does not carry."""
    return tuple(row) if len(slots) == width else _full([row[slot] for slot in slots], slots, width)


def _in_order(
    rows: Iterator[Row], place: Callable[[Row], Place], late: list[Row] | None = None
) -> Iterator[Row]:  # fmt: skip
    """The rows in the order of their places, from which they are not far. Those that come too late go into `late`;
    without it `_DisorderError` is raised."""
    held: list[Row] = []
    last: Place | None = None
    while True:
        page = list(islice(rows, _PAGE_ROWS))
        held = sorted([*held, *page], key=place)
        ready, held = (held[:-_DISORDER_ROWS], held[-_DISORDER_ROWS:]) if page else (held, [])
        if ready:
            while ready and last is not None and place(ready[0]) < last:
                if late is None:
                    raise _DisorderError
                late.append(ready.pop(0))
        if ready:
            last = place(ready[-1])
            yield from ready
        if not page:
            return


def _pages(
    stored: Iterator[Row], theirs: Iterator[Row], place: Callable[[Row], Place]
) -> Iterator[tuple[list[Row], list[Row]]]:
    """Both sides in pages that end at the same place."""
    ours: list[Row] = []
    other: list[Row] = []
    while True:
        ours += islice(stored, max(0, _PAGE_ROWS - len(ours)))
        other += islice(theirs, max(0, _PAGE_ROWS - len(other)))
        if not ours and not other:
            return
        ends = [place(side[-1]) for side in (ours, other) if len(side) >= _PAGE_ROWS]
        if not ends:  # both are at their end, or one is and the other fits
            yield ours, other
            return
        upto = min(ends)
        cut = [bisect_right(side, upto, key=place) for side in (ours, other)]
        yield ours[: cut[0]], other[: cut[1]]
        ours, other = ours[cut[0] :], other[cut[1] :]


def _beside(
    ours: list[Row], other: list[Row], place: Callable[[Row], Place]
) -> Iterator[tuple[Place, Row | None, Row | None]]:
    """The rows of both sides by their places; where they are the same, the same object twice."""
    mine = {place(row): row for row in ours}
    its = {place(row): row for row in other}
    for at in sorted({*mine, *its}):
        one, another = mine.get(at), its.get(at)
        yield at, one, one if one == another else another


def _int(value: int | str | None) -> int:
    assert isinstance(value, int)
    return value
