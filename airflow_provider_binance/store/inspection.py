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


class Broken(NamedTuple):
    """A row that breaks rules of its dataset."""

    at_us: int
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """One look at a window of a series: ledger and rows of one instant.

    `islands` are the stretches with a row at every open time, `strays` the rows that open between two open times,
    `broken` the rows that break a rule. `last_line` is the newest line of `ingest_log`: what has a higher number came
    after the look.
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


class Inspection(ABC):
    """What a store lets be asked about itself, beyond reading."""

    @abstractmethod
    def extents(self, dataset: str) -> dict[Series, tuple[int, int]]:
        """First and last time of every series that the table has rows of, whether the ledger knows it or not."""

    @abstractmethod
    def audit(self, series: Series, start_us: int, end_us: int) -> Audit:
        """Look at ledger and rows of a window of a grid series, in one snapshot, by set-based questions."""

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
        rows: Sequence[int] = (),
        ranges: Sequence[tuple[int, int]] = (),
        source: Source,
        seen_line: int,
    ) -> Withdrawn:
        """Take back rows (by their time) that `source` has not, and coverage of `ranges` that have no rows, under the
        lock of the series in one transaction; every value that goes is a line of `corrections`.

        Nothing is done if a line of `ingest_log` later than `seen_line` touches any of it.
        """

    @abstractmethod
    def forget(self, series: Series, start_us: int, end_us: int, *, dry_run: bool = False) -> Emptied:
        """Delete rows and ledger of a window of a series together, in one transaction under its lock.

        Ranges and lines that reach beyond the window keep the part outside. With `dry_run`, only count.
        """
