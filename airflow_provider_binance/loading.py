"""Carry out a plan: fetch its pieces ahead, write them in order, ask the next source about each hole, settle the rest.

Rows, their ledger line and what the ledger then knows commit together, piece by piece. A load that is cut goes on
from the ledger: a hole that the first source left is `unpublished` and due at once until every source has answered.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from threading import Event

from airflow_provider_binance.ahead import OneAhead
from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.continuity import IdRun, IdScan, scan_of
from airflow_provider_binance.errors import (
    ArchiveError,
    ArchiveFileMissingError,
    BinanceError,
    CorruptArchiveError,
    RequestRejectedError,
    RestrictedLocationError,
    UnreachableError,
)
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.joints import joints
from airflow_provider_binance.market import Market, from_us
from airflow_provider_binance.normalize import SeriesRows
from airflow_provider_binance.pipeline import (
    Part,
    Reader,
    Ready,
    RestSource,
    SeriesTask,
    Unit,
    pages_of,
    parts_of,
    set_on_error,
    units_of,
)
from airflow_provider_binance.planner import ArchivePiece, Piece, plan_stretches
from airflow_provider_binance.records import (
    Batch,
    CoverageRange,
    LedgerLine,
    Series,
    Source,
)
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.reports import LackReport
from airflow_provider_binance.rest.by_id import TickPages
from airflow_provider_binance.rest.fetching import Pages
from airflow_provider_binance.settling import found_ranges, settled_ranges
from airflow_provider_binance.store.base import Store

log = logging.getLogger(__name__)

#: Month, days, REST, and once more after a file that vanished; then what is left is settled as it stands.
_MOST_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Loader:
    """Carries out tasks. `jobs` fetches run ahead in threads, one reads what they brought, and the caller's writes."""

    store: Store
    rest: RestSource
    fetch_file: Callable[[ArchiveFile], FetchedFile]
    forget_file: Callable[[ArchiveFile], None]
    jobs: int = 4
    run_ref: str = ""
    on_unit: Callable[[Series, int, int], None] = lambda series, done, total: None
    #: Set when this loader, or another that shares it, ends by an error: nobody waits for what is under way.
    stopped: Event = field(default_factory=Event)
    #: What Binance refused, by series; likewise shared.
    failed: dict[Series, BinanceError] = field(default_factory=dict)

    def run(self, tasks: Sequence[SeriesTask]) -> None:
        """Load all tasks: all first rounds in one pipeline, then each series' holes.

        Raises what Binance refused of a series after the others are through; anything else at once.
        """
        pieces = [(task, task.first_pieces()) for task in tasks]
        for task, planned in pieces:
            task.left = _without(task.stretches, planned)
        self._carry_out([unit for task, planned in pieces for unit in units_of(task, planned)])
        for task in tasks:
            for _ in range(_MOST_ROUNDS):
                if task.error is not None:
                    break  # what is left of it is for the next load
                planned = plan_stretches(task.series, task.left, task.sources, task.now_us)
                if not planned:
                    break
                task.left = _without(task.left, planned)
                self._carry_out(list(units_of(task, planned)))
            if task.error is not None:
                continue
            if not task.confirms:
                if ranges := settled_ranges(self.store, task):
                    self.store.record_coverage(task.series.dataset, task.series, ranges)
                task.left = []
                continue
            # The rows are there already: what no file has of them is kept.
            task.tally.lacking += [lack for stretch in task.left for lack in self._lacking(task, stretch)]
        for error in self.failed.values():
            raise error

    def _carry_out(self, units: list[Unit]) -> None:
        reader = Reader(self.rest, self.fetch_file, self.jobs)
        with (
            set_on_error(self.stopped),
            self.store.held() as commit,
            closing(OneAhead(reader.read(units, self.stopped), before_waiting=commit)) as coming,
        ):
            for done, unit in enumerate(units, 1):
                if self.stopped.is_set():
                    raise CancelledError
                begun = time.monotonic()
                self._write(unit, coming)
                unit.task.tally.seconds += time.monotonic() - begun
                self.on_unit(unit.task.series, done, len(units))

    def _write(self, unit: Unit, coming: Iterator[Ready]) -> None:
        task = unit.task
        piece = unit.piece
        first = next(coming)
        if isinstance(first.fetched, Pages):
            self._write_pages(unit, first.fetched)
            return
        if isinstance(first.fetched, TickPages):
            self._write_walk(unit, pages_of(first, coming))
            return
        if not isinstance(piece, ArchivePiece):
            self._fail(task, first.error)
            return
        archive, parts = first.fetched, parts_of(first, coming)
        del first  # it holds rows
        try:
            if archive is not None:
                self._write_file(task, piece, archive, parts)
            else:
                next(parts)
        except ArchiveFileMissingError:
            log.warning("archive %s: listed, yet not there; planning %s anew", piece.file.path, task.series)
            self.forget_file(piece.file)
            task.left += piece.stretches
        except CorruptArchiveError as error:
            log.warning("%s; planning %s anew", error, task.series)
            task.tally.bytes_downloaded += error.bytes_downloaded
            task.left += [
                replace(stretch, evidence=stretch.evidence.with_corrupt(piece.file.name)) for stretch in piece.stretches
            ]
            with suppress(CorruptArchiveError):
                deque(parts, maxlen=0)  # what else the file has is passed over
        except (ArchiveError, UnreachableError, RestrictedLocationError) as error:
            if not (task.sources.rest or task.confirms):
                raise
            log.warning("%s; %s", error, "its rows stay provisional" if task.confirms else "asking REST in its place")
            task.left += [
                replace(stretch, evidence=stretch.evidence.with_away(task.now_us)) for stretch in piece.stretches
            ]

    def _fail(self, task: SeriesTask, error: BinanceError | None) -> None:
        """Leave the task for the next load; raises what is no matter of one series, since others failed by it too."""
        assert error is not None
        if is_general(error, task.series, self.failed):
            raise error
        log.warning("%s fails, the other series go on: %s", task.series, error)
        self.failed.setdefault(task.series, error)
        task.error = task.error or error

    def _write_file(
        self, task: SeriesTask, piece: ArchivePiece, archive: FetchedFile, parts_of_file: Iterator[Part]
    ) -> None:
        """All parts of a file; coverage turns complete with the last."""
        task.tally.archive_files += 1
        task.read.add(piece.file.name)
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
        scans = [scan_of(task.series, stretch.start_us, stretch.end_us) for stretch in stretches]
        bounds = [(stretch.start_us, stretch.end_us) for stretch in stretches]
        started_us, at_us = task.now_us, piece.start_us
        for part, parts, rows in parts_of_file:
            rows = rows.within(bounds) if bounds else rows.between(0, 0)
            for scan, (start_us, end_us) in zip(scans, bounds, strict=True):
                scan.feed(rows.between(start_us, end_us))
            if part < parts and not len(rows):
                continue
            line = LedgerLine(
                Source.ARCHIVE, piece.file.path, started_us, self.run_ref, archive.sha256, part, parts,
                archive.last_modified_us, archive.etag,
            )  # fmt: skip
            coverage: list[CoverageRange] = []
            if part == parts:
                for scan, stretch in zip(scans, stretches, strict=True):
                    lacking = stretch.evidence.with_archive(piece.file.name)
                    lacking = joints(self.store, task.series, scan, stretch, lacking)
                    coverage += found_ranges(scan, stretch, lacking, task, confirmed_by=archive.sha256)
            # Each line goes on where the one before it ended: what lies between two rows was in the file, too.
            start_us = min(at_us, rows.first_us) if len(rows) else at_us
            at_us = min(piece.end_us, made_us) if part == parts else interval.next_open(rows.last_us)
            # A last part may have no row left; its line still stays within the piece.
            self._commit(task, min(start_us, at_us - 1), at_us, rows, line, coverage)
            del rows  # held by nobody here while the next ones are awaited
        task.left += [replace(s, evidence=s.evidence.with_early(piece.file.name)) for s in unmade]

    def _write_pages(self, unit: Unit, fetched: Pages) -> None:
        task = unit.task
        if not _is_served(task, fetched):
            task.left += unit.stretches
            return
        rows = fetched.rows.within([(stretch.start_us, stretch.end_us) for stretch in unit.stretches])
        coverage: list[CoverageRange] = []
        for stretch in unit.stretches:
            scan = scan_of(task.series, stretch.start_us, stretch.end_us)
            scan.feed(rows.between(stretch.start_us, stretch.end_us))
            coverage += found_ranges(scan, stretch, stretch.evidence.with_rest(task.now_us), task, confirmed_by=None)
            task.tally.lacking += [
                lack
                for part in scan.filled()
                for lack in self._lacking(task, replace(stretch, start_us=part.start_us, end_us=part.end_us))
            ]
        line = self._rest_line(task, fetched.requests)
        self._commit(task, unit.stretches[0].start_us, unit.stretches[-1].end_us, rows, line, coverage)

    def _rest_line(self, task: SeriesTask, requests: int) -> LedgerLine:
        path = dataset(task.series.dataset).rest_path(Market(task.series.market))
        return LedgerLine(Source.REST, f"{path} requests={requests}", task.now_us, self.run_ref)

    def _write_walk(self, unit: Unit, walk: Iterator[TickPages]) -> None:
        """What a walk from id to id brings, a transaction at a time, each up to an instant that nothing is missing
        before."""
        task, [stretch] = unit.task, unit.stretches
        before: IdRun | None = None
        try:
            for pages in walk:
                if not _is_served(task, pages):
                    task.left.append(replace(stretch, start_us=pages.start_us))
                    return
                part = replace(stretch, start_us=pages.start_us, end_us=pages.end_us)
                scan = scan_of(task.series, part.start_us, part.end_us)
                assert isinstance(scan, IdScan)
                scan.feed(pages.rows)
                if pages.is_proven:
                    scan.prove()
                scan.join(before)
                lacking = part.evidence.with_rest(task.now_us)
                if before is None or pages.is_last:
                    lacking = joints(self.store, task.series, scan, part, lacking)
                coverage = [*found_ranges(scan, part, lacking, task, confirmed_by=None)]
                task.tally.lacking += [
                    lack
                    for found in scan.filled()
                    for lack in self._lacking(task, replace(part, start_us=found.start_us, end_us=found.end_us))
                ]
                line = self._rest_line(task, pages.requests)
                self._commit(task, part.start_us, max(part.end_us, part.start_us + 1), pages.rows, line, coverage)
                if (ends := scan.ends()) is not None:
                    before = replace(ends[1], rows=0)
        except BinanceError as error:
            self._fail(task, error)

    def _lacking(self, task: SeriesTask, stretch: Stretch) -> Iterator[LackReport]:
        """The rows of the stretch, if verified files that lack them were read by now, or just now to confirm them."""
        names = stretch.evidence.archive
        if not names or (task.confirms and not task.read & set(names)):
            return
        rows = task.interval.count(stretch.start_us, stretch.end_us)
        if task.confirms or not task.series.interval:
            [rows] = self.store.row_counts(task.series.dataset, task.series, [(stretch.start_us, stretch.end_us)])
        if rows:
            log.warning(
                "%s lacks %d %s of %s: they are kept", " and ".join(names), rows, task.series.dataset, task.series
            )
            yield LackReport(stretch.start_us, stretch.end_us, rows, names)

    def _commit(
        self,
        task: SeriesTask,
        start_us: int,
        end_us: int,
        rows: SeriesRows,
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


def is_general(error: BinanceError, series: Series, failed: Mapping[Series, BinanceError]) -> bool:
    """Whether what Binance says of a series is no matter of this one alone: another failed by it, too."""
    return not isinstance(error, RequestRejectedError) and any(
        series != known and isinstance(other, type(error)) for known, other in failed.items()
    )


def _is_served(task: SeriesTask, fetched: Pages | TickPages) -> bool:
    """Count what REST cost; False if it refuses the series, which is not asked for there again."""
    task.tally.rest_requests += fetched.requests
    task.tally.weight_used += fetched.weight
    task.tally.bytes_downloaded += fetched.size
    if fetched.refusal is None:
        return True
    log.warning("REST does not serve %s: %s", task.series, fetched.refusal)
    task.sources = replace(task.sources, rest=False)
    return False


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
