"""`Inspection`, the part of the store's contract by which it is checked, corrected and emptied; and what it tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_provider_binance.records import CoverageRange, Series, Source

#: A single window of an audit: what one look may hold in memory is bounded by it, whatever the table looks like.
WINDOW_ROWS = 600_000


class LogSpan(NamedTuple):
    """A line of `ingest_log`, as far as a check needs it."""

    start_us: int
    end_us: int
    source: Source
    source_ref: str
    sha256: str | None


class Held(NamedTuple):
    """Rows within a stretch, and of those only the ones between two ids (both included), where ids tell rows apart;
    `rows` is how many these are, or should be."""

    start_us: int
    end_us: int
    rows: int = 0
    first_id: int | None = None
    last_id: int | None = None


class Broken(NamedTuple):
    """A row that breaks rules of its dataset, or has values in `columns` that its market has not."""

    at_us: int
    rules: tuple[str, ...]
    columns: tuple[str, ...] = ()


class Beyond(NamedTuple):
    """Rows at times that lie outside every window: how many, and some of the times as the database says them."""

    rows: int = 0
    times: tuple[str, ...] = ()


NOTHING_BEYOND = Beyond()


class Orphans(NamedTuple):
    """Rows whose line of `series` is gone: its number, their count, and the series that it was, where that is plain."""

    series_id: int
    rows: int
    first_us: int
    last_us: int
    series: Series | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """One look at a window of a series: ledger and rows of one instant.

    `islands` are the stretches with a row at every open time, `strays` the rows that open between two open times,
    `broken` the rows that break a rule. `last_line` is the newest line of `ingest_log`: what has a higher number came
    after the look. `beyond`: what lies before all time, where the window begins before 1970, and after it, where the
    window has no end.

    Of a series of ids `islands` are the stretches that have all rows that the ledger knows of, and those with rows of
    which it knows nothing; `held` says how many rows there are where, `lacking` how many are not. `misplaced` are rows
    whose id belongs to another time, or that are there twice; `counted` what coverage should say, range by range.
    `misdated`: how many rows lie under another day than their time's.

    `flushed`: the times of lines of `ingest_log` that many series of the dataset share, as flushes of streams do.
    """

    start_us: int
    end_us: int
    ranges: tuple[CoverageRange, ...] = ()
    lines: tuple[LogSpan, ...] = ()
    islands: tuple[tuple[int, int], ...] = ()
    strays: tuple[int, ...] = ()
    broken: tuple[Broken, ...] = ()
    rows: int = 0
    last_line: int = 0
    beyond: Beyond = NOTHING_BEYOND
    held: tuple[Held, ...] = ()
    lacking: tuple[Held, ...] = ()
    misplaced: tuple[Held, ...] = ()
    counted: tuple[Held, ...] = ()
    misdated: int = 0
    flushed: tuple[tuple[int, int], ...] = ()


class Rolled(NamedTuple):
    """A kline that its shorter ones do not add up to: by column, what is stored and what they make."""

    at_us: int
    columns: Mapping[str, tuple[str | None, str | None]]


class Withdrawn(NamedTuple):
    """What was taken back. `is_late`: the series was written to since it was looked at, so nothing was."""

    rows: int = 0
    ranges: int = 0
    is_late: bool = False


class Emptied(NamedTuple):
    """What `forget` took out: rows, and lines of coverage, `ingest_log` and `corrections`."""

    rows: int
    ranges: int
    lines: int
    corrections: int


class Retired(NamedTuple):
    """What a retention took out: the rows of so many series before `end_us`."""

    end_us: int
    series: int
    rows: int


class Inspection(ABC):
    """What a store lets be asked about itself, beyond reading."""

    @abstractmethod
    def extents(self, dataset: str) -> dict[Series, tuple[int, int]]:
        """First and last time of every series that the table has rows of, whether the ledger knows it or not; none
        lies outside `EARLIEST_US` … `LATEST_US`."""

    @abstractmethod
    def orphans(self, dataset: str) -> list[Orphans]:
        """The rows of the table whose line of `series` is gone."""

    @abstractmethod
    def name_orphans(self, orphans: Orphans) -> bool:
        """Give rows their line of `series` back, as `orphans` says; false if the series has another by now."""

    @abstractmethod
    def audit(self, series: Series, start_us: int, end_us: int) -> Audit:
        """Look at ledger and rows of a window of a series, in one snapshot, by set-based questions."""

    @abstractmethod
    def rollup(
        self, base: Series, targets: Iterable[Series], start_us: int, end_us: int
    ) -> Iterator[tuple[Series, int, list[Rolled]]]:
        """For each of `targets` how many of its klines could be compared with those of `base`, and which differ.

        Compared is what opens and ends in the window and has all its shorter klines. Open, high and low are those of
        the minutes with trades; a flat minute's price is accepted for them too, where Binance took that.
        """

    @abstractmethod
    def withdraw(
        self,
        series: Series,
        *,
        rows: Sequence[Held] = (),
        ranges: Sequence[tuple[int, int]] = (),
        overfull: Sequence[tuple[int, int]] = (),
        beyond: tuple[int, int] | None = None,
        misdated: bool = False,
        source: Source | None,
        seen_line: int,
    ) -> Withdrawn:
        """Take back rows that `source` (None: nobody) has not, and coverage of `ranges` that have no rows (of a series
        of ids: that lack some), under the lock of the series in one transaction; every value that goes is a line of
        `corrections`.

        In `overfull` the columns that the market has not are emptied; of what lies `beyond` a window as `audit` tells
        it, and of what is `misdated`, everything goes. Nothing is done if a line of `ingest_log` later than `seen_line`
        touches rows or ranges.
        """

    @abstractmethod
    def forget(self, series: Series, start_us: int, end_us: int, *, dry_run: bool = False) -> Emptied:
        """Delete rows and ledger of a window of a series together, in one transaction under its lock.

        Ranges and lines that reach beyond the window keep the part outside. With `dry_run`, only count, under no lock.
        """

    @abstractmethod
    def retire(self, dataset: str, before_us: int) -> Retired:
        """Drop the rows of a dataset with days that are older than `before_us` (PostgreSQL: whole months of them), and
        mark in the same transaction what the ledger knew of them as `retired`, so that no load fills it again.

        Raises InputError for a dataset without days.
        """
