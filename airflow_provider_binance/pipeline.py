"""What a load works through: tasks cut into units, fetched ahead in threads and read one ahead of the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from threading import Event
from typing import Protocol

from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.errors import (
    ArchiveError,
    BinanceError,
    MalformedResponseError,
    RequestRejectedError,
    RestrictedLocationError,
    UnreachableError,
)
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.market import Interval, grid_of
from airflow_provider_binance.normalize import SeriesRows
from airflow_provider_binance.planner import ArchivePiece, IdPiece, Piece, Sources, plan_stretches
from airflow_provider_binance.records import Series, WriteResult
from airflow_provider_binance.reports import LackReport
from airflow_provider_binance.rest.by_id import TickPages, TickSource, read_by_id
from airflow_provider_binance.rest.fetching import Pages, PageSource, fetch_pages
from airflow_provider_binance.rest.pages import Page

#: Pages of one transaction: 20,000 klines of spot are a second of the weight budget.
_PAGES_A_BATCH = 20


@dataclass(slots=True)
class Tally:
    """What one series' load did so far; `seconds` went by waiting for its pieces and writing them."""

    counts: WriteResult = field(default_factory=WriteResult)
    archive_files: int = 0
    rest_requests: int = 0
    weight_used: int = 0
    bytes_downloaded: int = 0
    seconds: float = 0.0
    lacking: list[LackReport] = field(default_factory=list)


@dataclass(slots=True)
class SeriesTask:
    """One series to be loaded: its stretches, where they may come from, and the tally.

    The symbol's life began within `dawn` and ended within `dusk`, where that is known to the day or month only: what
    lies in them without rows is `not_listed`, no gap. `confirms`: the rows are there, files only confirm them.
    `is_gone`: the life has ended and REST has forgotten the symbol. `forced`: the one source that is allowed, or ''.
    `error`: what Binance refused of this series, after which the others went on.
    `read`: the names of the archive files that were read.
    """

    series: Series
    stretches: list[Stretch]
    sources: Sources
    now_us: int
    dawn: tuple[int, int] | None = None
    dusk: tuple[int, int] | None = None
    confirms: bool = False
    is_gone: bool = False
    forced: str = ""
    tally: Tally = field(default_factory=Tally)
    read: set[str] = field(default_factory=set)
    left: list[Stretch] = field(default_factory=list)
    pieces: list[Piece] | None = None
    error: BinanceError | None = None

    def first_pieces(self) -> list[Piece]:
        """The pieces of the first round, planned once."""
        if self.pieces is None:
            self.pieces = plan_stretches(self.series, self.stretches, self.sources, self.now_us)
        return self.pieces

    @property
    def interval(self) -> Interval:
        """The series' interval, or all instants."""
        return grid_of(self.series.interval)


@dataclass(frozen=True, slots=True)
class Unit:
    """What one fetch brings and one or more transactions write."""

    task: SeriesTask
    piece: Piece
    pages: tuple[Page, ...] = ()
    stretches: tuple[Stretch, ...] = ()


Part = tuple[int, int, SeriesRows]
#: What a fetch brings: a file, some pages, or a walk from id to id that brings pages as long as it goes.
Fetched = FetchedFile | Pages | Iterator[TickPages]


@dataclass(frozen=True, slots=True)
class Ready:
    """Read and checked, ready to be written: pages, or a part of a file; or `error`, which ends the unit."""

    fetched: FetchedFile | Pages | TickPages | None
    part: Part | None = None
    error: BinanceError | None = None


class RestSource(PageSource, TickSource, Protocol):
    """What asks REST, however its pages are told apart."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Brings units in order: `jobs` fetches run ahead in threads."""

    rest: RestSource
    fetch_file: Callable[[ArchiveFile], FetchedFile]
    jobs: int

    def read(self, units: Iterable[Unit], stopped: Event) -> Generator[Ready]:
        """What every unit brings, in order; fetches run ahead in threads of their own."""
        pool = ThreadPoolExecutor(self.jobs, thread_name_prefix="fetch")
        ahead: deque[tuple[Unit, Future[Fetched]]] = deque()
        waiting = iter(units)
        try:
            while True:
                while len(ahead) <= self.jobs and (unit := next(waiting, None)) is not None:
                    ahead.append((unit, pool.submit(self._fetch, unit, stopped)))
                if not ahead:
                    return
                unit, future = ahead.popleft()
                yield from _read_unit(unit, future)
        finally:
            # After an error or an interrupt the fetches under way end on their own: nobody waits for them.
            pool.shutdown(wait=not ahead, cancel_futures=True)
            for _, future in ahead:
                future.add_done_callback(_let_go)

    def _fetch(self, unit: Unit, stopped: Event) -> Fetched:
        if isinstance(unit.piece, ArchivePiece):
            return self.fetch_file(unit.piece.file)
        if isinstance(unit.piece, IdPiece):
            walk = read_by_id(self.rest, unit.task.series, unit.piece.start_us, unit.piece.end_us, stopped)
            return chain([next(walk)], walk)
        return fetch_pages(self.rest, unit.task.series, unit.pages, stopped)


def units_of(task: SeriesTask, pieces: Iterable[Piece]) -> Iterator[Unit]:
    """A unit per file, and per so many pages with the part of the stretches that they cover."""
    for piece in pieces:
        if isinstance(piece, ArchivePiece):
            yield Unit(task, piece)
            continue
        if isinstance(piece, IdPiece):
            yield Unit(task, piece, stretches=piece.stretches)
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
                yield Unit(task, piece, pages, stretches)


def _read_unit(unit: Unit, future: Future[Fetched]) -> Iterator[Ready]:
    """What the unit brings, as it is read; an error that is of this unit alone comes with it, any other is raised."""
    fetched: Fetched | None = None
    try:
        fetched = future.result()
        if isinstance(fetched, Pages):
            yield Ready(fetched)
        elif isinstance(fetched, FetchedFile):
            parts = fetched.rows(unit.task.series)
            while (part := next(parts, None)) is not None:
                ready, part = Ready(fetched, part), None
                yield ready
                del ready  # held by nobody here while the next one is read
        else:
            for pages in fetched:
                yield Ready(pages)
    except (ArchiveError, UnreachableError, RestrictedLocationError) as error:
        if not isinstance(unit.piece, ArchivePiece) and not isinstance(error, UnreachableError):
            raise
        yield Ready(fetched if isinstance(fetched, FetchedFile) else None, error=error)
    except (RequestRejectedError, MalformedResponseError) as error:
        yield Ready(None, error=error)
    finally:
        if isinstance(fetched, FetchedFile):
            fetched.close()


def parts_of(ready: Ready, coming: Iterator[Ready]) -> Iterator[Part]:
    """The parts of the file that begins with `ready`; raises what is wrong with it."""
    while True:
        if ready.error is not None:
            raise ready.error
        assert ready.part is not None
        number, parts, rows = ready.part
        del ready  # held by nobody here while the next one is read
        yield number, parts, rows
        del rows
        if number == parts:
            return
        ready = next(coming)


@contextmanager
def set_on_error(event: Event) -> Iterator[None]:
    """Set the event when the block ends by an error or an interrupt."""
    try:
        yield
    except BaseException:
        event.set()
        raise


def pages_of(ready: Ready, coming: Iterator[Ready]) -> Iterator[TickPages]:
    """The pages of the walk that begins with `ready`; raises what stopped it."""
    while True:
        if ready.error is not None:
            raise ready.error
        assert isinstance(ready.fetched, TickPages)
        yield ready.fetched
        if ready.fetched.is_last:
            return
        ready = next(coming)


def _let_go(future: Future[Fetched]) -> None:
    """Free what a fetch brought that nobody will write."""
    if not future.cancelled() and future.exception() is None and isinstance(fetched := future.result(), FetchedFile):
        fetched.close()
