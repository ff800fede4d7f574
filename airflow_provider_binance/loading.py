"""Carry out a plan: fetch its pieces ahead, write them in order, ask the next source about each hole, settle the rest.

Rows, their ledger line and what the ledger then knows commit together, piece by piece. A load that is cut goes on
from the ledger: a hole that the first source left is `unpublished` and due at once until every source has answered.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.errors import ArchiveFileMissingError, CorruptArchiveError
from airflow_provider_binance.evidence import ContinuityScan, Evidence, Stretch, hole, settle
from airflow_provider_binance.market import INTERVALS, Interval, Market, from_us
from airflow_provider_binance.normalize import KlineRows
from airflow_provider_binance.planner import ArchivePiece, Piece, Sources, plan_stretches
from airflow_provider_binance.records import (
    Batch,
    CoverageRange,
    LedgerLine,
    Series,
    Source,
    State,
    WriteResult,
)
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.rest.fetching import Pages, PageSource, fetch_pages
from airflow_provider_binance.rest.pages import Page
from airflow_provider_binance.store.base import Store

log = logging.getLogger(__name__)

#: Pages of one transaction: 20,000 klines of spot are a second of the weight budget.
_PAGES_A_BATCH = 20
#: Month, days, REST, and once more after a file that vanished; then what is left is settled as it stands.
_MOST_ROUNDS = 6


@dataclass(slots=True)
class Tally:
    """What one series' load did so far; `seconds` went by waiting for its pieces and writing them."""

    counts: WriteResult = field(default_factory=WriteResult)
    archive_files: int = 0
    rest_requests: int = 0
    weight_used: int = 0
    bytes_downloaded: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class SeriesTask:
    """One series to be loaded: its stretches, where they may come from, and the tally.

    `life_start_us` and `life_end_us` are given where the symbol's life is known to the day only: what is without rows
    from or up to there is `not_listed`, no gap. `confirms`: the rows are there, files only confirm them. `is_gone`: the
    symbol's life has ended and REST has forgotten it. `forced`: the one source that is allowed, or ''.
    """

    series: Series
    stretches: list[Stretch]
    sources: Sources
    now_us: int
    life_start_us: int | None = None
    life_end_us: int | None = None
    confirms: bool = False
    is_gone: bool = False
    forced: str = ""
    tally: Tally = field(default_factory=Tally)
    left: list[Stretch] = field(default_factory=list)

    @property
    def interval(self) -> Interval:
        """The series' interval."""
        return INTERVALS[self.series.interval]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one fetch brings and one or more transactions write."""

    task: SeriesTask
    piece: Piece
    pages: tuple[Page, ...] = ()
    stretches: tuple[Stretch, ...] = ()


_Part = tuple[int, int, KlineRows]


@dataclass(frozen=True, slots=True)
class _Ready:
    """Read and checked, ready to be written: pages, or a part of a file; or `error`, which ends the unit."""

    fetched: FetchedFile | Pages | None
    part: _Part | None = None
    error: ArchiveFileMissingError | CorruptArchiveError | None = None


@dataclass(frozen=True, slots=True)
class Loader:
    """Carries out tasks. `jobs` fetches run ahead in threads, one reads what they brought, and the caller's writes."""

    store: Store
    rest: PageSource
    fetch_file: Callable[[ArchiveFile], FetchedFile]
    forget_file: Callable[[ArchiveFile], None]
    jobs: int = 4
    run_ref: str = ""
    on_unit: Callable[[Series, int, int], None] = lambda series, done, total: None

    def run(self, tasks: Sequence[SeriesTask]) -> None:
        """Load all tasks: all first rounds in one pipeline, then each series' holes."""
        pieces = [(task, plan_stretches(task.series, task.stretches, task.sources, task.now_us)) for task in tasks]
        for task, planned in pieces:
            task.left = _without(task.stretches, planned)
        self._carry_out([unit for task, planned in pieces for unit in _units(task, planned)])
        for task in tasks:
            if task.confirms:
                continue  # the rows are there already: what a file lacks of them is kept
            for _ in range(_MOST_ROUNDS):
                planned = plan_stretches(task.series, task.left, task.sources, task.now_us)
                if not planned:
                    break
                task.left = _without(task.left, planned)
                self._carry_out(list(_units(task, planned)))
            self._settle(task)

    def _carry_out(self, units: list[_Unit]) -> None:
        with closing(_one_ahead(self._read(units))) as coming:
            for done, unit in enumerate(units, 1):
                begun = time.monotonic()
                self._write(unit, coming)
                unit.task.tally.seconds += time.monotonic() - begun
                self.on_unit(unit.task.series, done, len(units))

    def _read(self, units: Iterable[_Unit]) -> Generator[_Ready]:
        """What every unit brings, in order; fetches run ahead in threads of their own."""
        pool = ThreadPoolExecutor(self.jobs, thread_name_prefix="fetch")
        ahead: deque[tuple[_Unit, Future[FetchedFile | Pages]]] = deque()
        waiting = iter(units)
        try:
            while True:
                while len(ahead) <= self.jobs and (unit := next(waiting, None)) is not None:
                    ahead.append((unit, pool.submit(self._fetch, unit)))
                if not ahead:
                    return
                unit, future = ahead.popleft()
                yield from _read_unit(unit, future)
        finally:
            # After an error or an interrupt the fetches under way end on their own: nobody waits for them.
            pool.shutdown(wait=not ahead, cancel_futures=True)
            for _, future in ahead:
                future.add_done_callback(_let_go)

    def _fetch(self, unit: _Unit) -> FetchedFile | Pages:
        if isinstance(unit.piece, ArchivePiece):
            return self.fetch_file(unit.piece.file)
        return fetch_pages(self.rest, unit.task.series, unit.pages)

    def _write(self, unit: _Unit, coming: Iterator[_Ready]) -> None:
        task = unit.task
        piece = unit.piece
        first = next(coming)
        if isinstance(first.fetched, Pages):
            self._write_pages(unit, first.fetched)
            return
        assert isinstance(piece, ArchivePiece)
        parts = _parts(first, coming)
        try:
            if first.fetched is not None:
                self._write_file(task, piece, first.fetched, parts)
            else:
                next(parts)
        except ArchiveFileMissingError:
            log.warning("archive %s: listed, yet not there; planning %s anew", piece.file.path, task.series)
            self.forget_file(piece.file)
            task.left += piece.stretches
        except CorruptArchiveError as error:
            log.warning("%s; %s goes to REST", error, task.series)
            task.left += [
                replace(stretch, evidence=stretch.evidence.with_corrupt(piece.file.name)) for stretch in piece.stretches
            ]
            with suppress(CorruptArchiveError):
                deque(parts, maxlen=0)  # what else the file has is passed over

    def _write_file(
        self, task: SeriesTask, piece: ArchivePiece, archive: FetchedFile, parts_of_file: Iterator[_Part]
    ) -> None:
        """All parts of a file; coverage turns complete with the last."""
        task.tally.archive_files += 1
        task.tally.bytes_downloaded += archive.bytes_downloaded
        interval = task.interval
        # A kline that was not closed when the file was made is not in it, whatever its line says.
        made_us = interval.floor(archive.last_modified_us)
        stretches = [
            replace(stretch, end_us=min(stretch.end_us, made_us))
            for stretch in piece.stretches
            if stretch.start_us < made_us
        ]
        unmade = [
            replace(stretch, start_us=max(stretch.start_us, made_us))
            for stretch in piece.stretches
            if stretch.end_us > made_us
        ]
        scans = [ContinuityScan(interval, stretch.start_us, stretch.end_us) for stretch in stretches]
        bounds = [(stretch.start_us, stretch.end_us) for stretch in stretches]
        started_us = task.now_us
        for part, parts, rows in parts_of_file:
            rows = rows.within(bounds) if bounds else rows.between(0, 0)
            for scan, (start_us, end_us) in zip(scans, bounds, strict=True):
                scan.feed(list(rows.between(start_us, end_us).times_us()))
            line = LedgerLine(Source.ARCHIVE, piece.file.path, started_us, self.run_ref, archive.sha256, part, parts)
            coverage: list[CoverageRange] = []
            if part == parts:
                for scan, stretch in zip(scans, stretches, strict=True):
                    lacking = stretch.evidence.with_archive(piece.file.name)
                    coverage += _found(scan, stretch, lacking, task, confirmed_by=archive.sha256)
            span = (rows.first_us, interval.next_open(rows.last_us)) if len(rows) else (piece.start_us, piece.end_us)
            start_us, end_us = (piece.start_us, min(piece.end_us, made_us)) if parts == 1 else span
            self._commit(task, start_us, max(end_us, start_us + 1), rows, line, coverage)
        task.left += [replace(s, evidence=s.evidence.with_early(piece.file.name)) for s in unmade]

    def _write_pages(self, unit: _Unit, fetched: Pages) -> None:
        task = unit.task
        task.tally.rest_requests += fetched.requests
        task.tally.weight_used += fetched.weight
        task.tally.bytes_downloaded += fetched.size
        if fetched.refusal is not None:
            log.warning("REST does not serve %s: %s", task.series, fetched.refusal)
            task.sources = replace(task.sources, rest=False)
            task.left += unit.stretches
            return
        rows = fetched.rows.within([(stretch.start_us, stretch.end_us) for stretch in unit.stretches])
        coverage: list[CoverageRange] = []
        for stretch in unit.stretches:
            scan = ContinuityScan(task.interval, stretch.start_us, stretch.end_us)
            scan.feed(list(rows.between(stretch.start_us, stretch.end_us).times_us()))
            coverage += _found(scan, stretch, stretch.evidence.with_rest(task.now_us), task, confirmed_by=None)
        path = dataset(task.series.dataset).rest[Market(task.series.market)].path
        line = LedgerLine(Source.REST, f"{path} requests={fetched.requests}", task.now_us, self.run_ref)
        self._commit(task, unit.stretches[0].start_us, unit.stretches[-1].end_us, rows, line, coverage)

    def _commit(
        self,
        task: SeriesTask,
        start_us: int,
        end_us: int,
        rows: KlineRows,
        line: LedgerLine,
        coverage: Sequence[CoverageRange],
    ) -> None:
        entry = dataset(task.series.dataset)
        result = self.store.write(
            Batch(entry, task.series, start_us, end_us, rows if len(rows) else None, line, coverage)
        )
        task.tally.counts += result
        log.info(
            "%s %s … %s from %s: %d read, %d inserted, %d updated",
            task.series, from_us(start_us), from_us(end_us), line.source_ref,
            result.rows_read, result.rows_inserted, result.rows_updated,
        )  # fmt: skip

    def _settle(self, task: SeriesTask) -> None:
        """Write down what no source that may be asked could bring."""
        ranges = []
        for stretch in task.left:
            note = _beyond_life(task, stretch)
            if note:
                evidence = str(replace(stretch.evidence, note=note))
                bounds = stretch.start_us, stretch.end_us
                ranges.append(CoverageRange(*bounds, State.NOT_LISTED, evidence=evidence, checked_at_us=task.now_us))
            else:
                stretch = replace(stretch, evidence=replace(stretch.evidence, forced=task.forced))
                ranges.append(settle(stretch, task.now_us, is_gone=task.is_gone))
        if ranges:
            self.store.record_coverage(task.series.dataset, task.series, ranges)
        task.left = []


def _read_unit(unit: _Unit, future: Future[FetchedFile | Pages]) -> Iterator[_Ready]:
    """What the unit brings, as it is read; raises whatever else than a bad file keeps the fetch from it."""
    fetched: FetchedFile | Pages | None = None
    try:
        fetched = future.result()
        if isinstance(fetched, Pages):
            yield _Ready(fetched)
            return
        for part in fetched.rows(Market(unit.task.series.market), unit.task.interval):
            yield _Ready(fetched, part)
    except (ArchiveFileMissingError, CorruptArchiveError) as error:
        yield _Ready(fetched, error=error)
    finally:
        if isinstance(fetched, FetchedFile):
            fetched.close()


def _parts(ready: _Ready, coming: Iterator[_Ready]) -> Iterator[_Part]:
    """The parts of the file that begins with `ready`; raises what is wrong with it."""
    while True:
        if ready.error is not None:
            raise ready.error
        assert ready.part is not None
        yield ready.part
        if ready.part[0] == ready.part[1]:
            return
        ready = next(coming)


def _one_ahead(items: Generator[_Ready]) -> Generator[_Ready]:
    """The items, each made in a thread while the one before it is being written: reading costs half as much time as
    the database's work, which thus hides it (measured)."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        coming = thread.submit(next, items, None)
        try:
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        finally:
            wait([coming])
            items.close()


def _let_go(future: Future[FetchedFile | Pages]) -> None:
    """Free what a fetch brought that nobody will write."""
    if not future.cancelled() and future.exception() is None and isinstance(fetched := future.result(), FetchedFile):
        fetched.close()


def _beyond_life(task: SeriesTask, stretch: Stretch) -> str:
    """Why the stretch without rows lies outside the symbol's life, or ''."""
    if not (stretch.evidence.read or stretch.evidence.rest):
        return ""
    if task.life_start_us is not None and stretch.start_us <= task.life_start_us:
        return "before the first kline"
    if task.life_end_us is not None and stretch.end_us >= task.life_end_us:
        return "after the last kline of a delisted symbol"
    return ""


def _found(
    scan: ContinuityScan, stretch: Stretch, lacking: Evidence, task: SeriesTask, *, confirmed_by: str | None
) -> Iterator[CoverageRange]:
    """What the ledger knows after a stretch's rows were seen; its holes go on to the next source."""
    # An unreadable file is not forgotten with the rows that REST brought in its place.
    witness = str(Evidence(corrupt=stretch.evidence.corrupt))
    for start_us, end_us in scan.complete():
        count = task.interval.count(start_us, end_us)
        yield CoverageRange(
            start_us, end_us, State.COMPLETE, count, confirmed_by=confirmed_by, evidence=witness,
            checked_at_us=task.now_us,
        )  # fmt: skip
    for start_us, end_us in scan.holes():
        gap = Stretch(start_us, end_us, lacking)
        task.left.append(gap)
        yield hole(gap, task.now_us)


def _units(task: SeriesTask, pieces: Iterable[Piece]) -> Iterator[_Unit]:
    """A unit per file, and per so many pages with the part of the stretches that they cover."""
    for piece in pieces:
        if isinstance(piece, ArchivePiece):
            yield _Unit(task, piece)
            continue
        for at in range(0, len(piece.pages), _PAGES_A_BATCH):
            pages = piece.pages[at : at + _PAGES_A_BATCH]
            start_us, end_us = pages[0].start_us, pages[-1].end_us
            stretches = tuple(
                replace(stretch, start_us=max(stretch.start_us, start_us), end_us=min(stretch.end_us, end_us))
                for stretch in piece.stretches
                if stretch.start_us < end_us and stretch.end_us > start_us
            )
            if stretches:
                yield _Unit(task, piece, pages, stretches)


def _without(stretches: Iterable[Stretch], pieces: Iterable[Piece]) -> list[Stretch]:
    """The parts of `stretches` that no piece brings."""
    taken = sorted((s.start_us, s.end_us) for piece in pieces for s in piece.stretches)
    left = []
    for stretch in stretches:
        at = stretch.start_us
        for start_us, end_us in taken:
            if end_us <= at or start_us >= stretch.end_us:
                continue
            if start_us > at:
                left.append(replace(stretch, start_us=at, end_us=start_us))
            at = max(at, end_us)
        if at < stretch.end_us:
            left.append(replace(stretch, start_us=at))
    return left
