"""Stored rows beside a source's: fetched as a load fetches, compared page by page, written nowhere."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import islice
from threading import Event
from typing import Any

from airflow_provider_binance.ahead import OneAhead
from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.errors import BinanceError, CorruptArchiveError
from airflow_provider_binance.market import INTERVALS, Interval, iso_or_number
from airflow_provider_binance.pipeline import (
    Part,
    Reader,
    Ready,
    SeriesTask,
    Unit,
    parts_of,
    set_on_error,
    units_of,
)
from airflow_provider_binance.planner import ArchivePiece, plan_stretches
from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import Rows, Series, Source
from airflow_provider_binance.registry import Dataset, Kind, dataset
from airflow_provider_binance.rest.fetching import Pages
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.upkeep.mending import OnProgress
from airflow_provider_binance.upkeep.spans import Span, of_row, without

log = logging.getLogger(__name__)

#: Rows compared at a time; bounds the memory.
_PAGE_ROWS = 20_000
#: Rows of a run that are shown with their values.
_SHOWN_ROWS = 3
#: Runs of one series that are told one by one; what comes behind them is one run, whatever differs in it.
MOST_RUNS = 5_000

Row = Sequence[int | str | None]


class Way(StrEnum):
    """How a run of rows differs."""

    DIFFERS = "differs"
    LACKING = "lacking"  # the source has them, the store has not
    EXTRA = "extra"  # the store has them, the source has not


@dataclass(frozen=True, slots=True)
class Told:
    """Who said it: a source, what of it, and the hash of a file."""

    source: Source
    ref: str
    sha256: str | None = None


@dataclass(slots=True)
class Run:
    """Neighbouring rows that differ in the same way from what one source told."""

    series: Series
    start_us: int
    end_us: int
    way: Way
    told: Told
    rows: int = 0
    columns: set[str] = field(default_factory=set)
    shown: list[dict[str, Any]] = field(default_factory=list)
    carried: tuple[int, ...] = ()  # the columns that the source has, by their place
    digest: Any = field(default_factory=hashlib.sha256)
    is_rest: bool = False  # everything behind the last run that is told by itself

    @property
    def span(self) -> Span:
        """Its stretch."""
        return self.start_us, self.end_us

    @property
    def times(self) -> list[int]:
        """The rows that the source has not."""
        grid = INTERVALS[self.series.interval]
        if self.way is not Way.EXTRA:
            return []
        is_on_grid = grid.floor(self.start_us) == self.start_us
        return list(grid.opens(self.start_us, self.end_us)) if is_on_grid else [self.start_us]

    def is_mended(self, store: Store) -> bool:
        """Whether the store says now what the source said."""
        now = hashlib.sha256()
        for row in store.rows(self.series.dataset, self.series, self.start_us, self.end_us):
            now.update(_bytes(row, self.carried))
        return bool(now.digest() == self.digest.digest())

    def take(self, entry: Dataset, at: int, columns: set[str], mine: Row | None, its: Row | None) -> None:
        """One more row."""
        self.rows += 1
        if its is not None and not self.is_rest:
            self.digest.update(_bytes(its, self.carried))
        if len(self.shown) < _SHOWN_ROWS:
            self.shown.append(_shown(entry, at, columns, mine, its))


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
    runtime: Runtime, tasks: Sequence[SeriesTask], cuts: dict[Series, list[int]], jobs: int, on_progress: OnProgress
) -> Comparison:
    """Ask the tasks' sources once and compare. No run reaches over any of `cuts`, the edges of what the ledger says."""
    units: list[Unit] = []
    found = Comparison()
    for task in tasks:
        pieces = plan_stretches(task.series, task.stretches, task.sources, task.now_us)
        units += units_of(task, pieces)
        taken = [(s.start_us, s.end_us) for piece in pieces for s in piece.stretches]
        left = without([(s.start_us, s.end_us) for s in task.stretches], taken)
        found.unanswered.setdefault(task.series, []).extend(left)
    comparer = _Comparer(runtime, found, cuts)
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


class _Comparer:
    def __init__(self, runtime: Runtime, found: Comparison, cuts: dict[Series, list[int]]) -> None:
        self._runtime = runtime
        self._found = found
        self._cuts = cuts
        self._counts: Counter[Series] = Counter()

    def take(self, unit: Unit, coming: Iterator[Ready]) -> None:
        """Compare what a unit brings."""
        first = next(coming)
        series, interval = unit.task.series, unit.task.interval
        if isinstance(first.fetched, Pages):
            if first.fetched.refusal is not None:
                self._unanswered(series, [(s.start_us, s.end_us) for s in unit.stretches])
                return
            told = Told(Source.REST, dataset(series.dataset).name)
            for stretch in unit.stretches:
                rows = first.fetched.rows.between(stretch.start_us, stretch.end_us)
                self._compare(series, interval, (stretch.start_us, stretch.end_us), rows, told)
            return
        if not isinstance(unit.piece, ArchivePiece):
            assert first.error is not None
            raise first.error
        spans = [(s.start_us, s.end_us) for s in unit.piece.stretches]
        parts = parts_of(first, coming)
        try:
            if not isinstance(first.fetched, FetchedFile):
                next(parts)
            else:
                self._compare_file(unit, unit.piece, first.fetched, parts, spans)
        except BinanceError as error:
            log.warning("%s; %s is not compared with it", error, series)
            self._unanswered(series, spans)
            with suppress(CorruptArchiveError):
                deque(parts, maxlen=0)

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
                    self._compare(series, interval, (at[index], upto), rows.between(at[index], upto), told)
                    at[index] = upto
        self._unanswered(series, [(max(start, made_us), end) for start, end in spans if end > made_us])
        self._found.files += [(series, (start, min(end, made_us)), told) for start, end in spans if start < made_us]

    def _unanswered(self, series: Series, spans: Iterable[Span]) -> None:
        self._found.unanswered.setdefault(series, []).extend(spans)

    def _compare(self, series: Series, interval: Interval, span: Span, rows: Rows, told: Told) -> None:
        """Both sides of one stretch, a bounded number of rows at a time."""
        entry = dataset(series.dataset)
        key = series, told.source
        self._found.rows[key] = self._found.rows.get(key, 0) + len(rows)
        time = entry.column_names.index(entry.time_column)
        # Where a database takes anything for a time, what is none was told of by itself.
        rows_there = self._runtime.store.rows(series.dataset, series, *span)
        stored = (row for row in rows_there if isinstance(row[time], int))
        slots = [entry.column_names.index(name) for name in rows.columns]
        theirs = (_full(row, slots, len(entry.columns)) for row in rows.tuples())
        edges = set(self._cuts.get(series, ()))
        carried = [i for i in slots if entry.columns[i].name not in entry.key]
        rest: Run | None = None
        for ours, other in _pages(stored, theirs, time):
            if rest is None and self._counts[series] >= MOST_RUNS and ours != other:
                rest = self._rest(series, interval, min(_at(side[0], time) for side in (ours, other) if side), told)
                rest.carried = tuple(slots)
            if rest is not None:
                rest.end_us = span[1]
                for row in other:
                    rest.digest.update(_bytes(row, rest.carried))
            if ours == other:
                continue
            for at, mine, its in _beside(ours, other, time):
                if mine is None or its is None:
                    way, columns = (Way.LACKING if mine is None else Way.EXTRA), set[str]()
                else:
                    columns = {entry.columns[i].name for i in carried if _differs(entry, i, mine[i], its[i])}
                    if not columns:
                        continue
                    way = Way.DIFFERS
                run = rest or self._run(series, interval, at, way, told, edges, columns)
                run.columns |= columns
                run.carried = tuple(slots)
                run.take(entry, at, columns, mine, its)

    def _run(
        self, series: Series, interval: Interval, at: int, way: Way, told: Told, edges: set[int], columns: set[str]
    ) -> Run:
        """The run before a row, if that goes on there, or a new one; it ends with the row."""
        is_on_grid = interval.floor(at) == at
        _, end = of_row(interval, at)
        last = self._found.runs[-1] if self._found.runs else None
        if (
            last is None or (last.series, last.way, last.told) != (series, way, told) or last.end_us != at
            or at in edges or not is_on_grid or (way is Way.DIFFERS and last.columns != columns)
        ):  # fmt: skip
            last = Run(series, at, end, way, told)
            self._found.runs.append(last)
            self._counts[series] += 1
        last.end_us = end
        return last

    def _rest(self, series: Series, interval: Interval, at: int, told: Told) -> Run:
        """A run of what differs from `at` to the end of the stretch, with sound rows in between."""
        run = Run(series, interval.floor(at), at, Way.DIFFERS, told, is_rest=True)
        self._found.runs.append(run)
        return run


def _full(row: Row, slots: Sequence[int], width: int) -> tuple[int | str | None, ...]:
    """A row that a source carries as one of all columns, with None in those that it does not carry."""
    full: list[int | str | None] = [None] * width
    for slot, value in zip(slots, row, strict=True):
        full[slot] = value
    return tuple(full)


def _pages(stored: Iterator[Row], theirs: Iterator[Row], time: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """Both sides in pages that end at the same time."""
    ours: list[Row] = []
    other: list[Row] = []
    while True:
        ours += islice(stored, max(0, _PAGE_ROWS - len(ours)))
        other += islice(theirs, max(0, _PAGE_ROWS - len(other)))
        if not ours and not other:
            return
        ends = [_at(side[-1], time) for side in (ours, other) if len(side) >= _PAGE_ROWS]
        if not ends:  # both are at their end, or one is and the other fits
            yield ours, other
            return
        upto = min(ends)
        cut = [next((i for i, row in enumerate(side) if _at(row, time) > upto), len(side)) for side in (ours, other)]
        yield ours[: cut[0]], other[: cut[1]]
        ours, other = ours[cut[0] :], other[cut[1] :]


def _beside(ours: list[Row], other: list[Row], time: int) -> Iterator[tuple[int, Row | None, Row | None]]:
    """The rows of both sides by their time, where they are not the same."""
    mine = {_at(row, time): row for row in ours}
    its = {_at(row, time): row for row in other}
    for at in sorted({*mine, *its}):
        one, another = mine.get(at), its.get(at)
        if one != another:
            yield at, one, another


def _at(row: Row, time: int) -> int:
    at = row[time]
    assert isinstance(at, int)
    return at


def _differs(entry: Dataset, i: int, mine: int | str | None, its: int | str | None) -> bool:
    if mine == its:
        return False
    if entry.columns[i].kind is Kind.DECIMAL and mine is not None and its is not None:
        try:
            return Decimal(mine) != Decimal(its)
        except (InvalidOperation, TypeError):  # InvalidOperation: no number; TypeError: bytes
            return True
    return True


def _bytes(row: Row, carried: Sequence[int]) -> bytes:
    return "\x1f".join(str(row[i]) for i in carried).encode() + b"\n"


def _shown(entry: Dataset, at: int, columns: set[str], mine: Row | None, its: Row | None) -> dict[str, Any]:
    """A row for people: its time, and by column what is stored and what the source says."""
    names = entry.column_names

    def text(row: Row | None, name: str) -> str | None:
        value = None if row is None else row[names.index(name)]
        return (
            iso_or_number(value) if isinstance(value, int) and entry.column(name).kind is Kind.TIME else _or_none(value)
        )

    picked = [name for name in names if name in columns] or [name for name in names if name in ("close", "volume")]
    return {"at": iso_or_number(at)} | {
        name: {"stored": text(mine, name), "source": text(its, name)} for name in picked
    }


def _or_none(value: int | str | None) -> str | None:
    return None if value is None else str(value)
