"""What `verify` and `repair` find: where, what, whose fault it is, on what evidence, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_binance.records import Series
from airflow_provider_binance.reports import SCHEMA, SeriesLoad, series_dict


class FindingKind(StrEnum):
    """What is wrong, or odd."""

    ROWS_MISSING = "rows_missing"
    ROWS_UNCOVERED = "rows_uncovered"
    ROWS_IN_GAP = "rows_in_gap"
    ROWS_FOREIGN = "rows_foreign"
    OFF_GRID = "off_grid"
    ROWS_MISDATED = "rows_misdated"
    ROW_COUNT = "row_count"
    LEDGER_LINE = "ledger_line"
    RULE_BROKEN = "rule_broken"
    COLUMN_FOREIGN = "column_foreign"
    VALUE = "value"
    ROLLUP = "rollup"
    GAP = "gap"
    HALT = "halt"
    PUBLISHED_LATE = "published_late"
    REPUBLISHED = "republished"
    SOURCES_DISAGREE = "sources_disagree"
    SERIES_UNKNOWN = "series_unknown"
    ROWS_ORPHANED = "rows_orphaned"


#: Each kind in words.
MEANINGS: dict[FindingKind, str] = {
    FindingKind.ROWS_MISSING: "the ledger calls the range complete, the table lacks rows of it",
    FindingKind.ROWS_UNCOVERED: "rows of which the ledger knows nothing",
    FindingKind.ROWS_IN_GAP: "rows where the ledger says that there are none",
    FindingKind.ROWS_FOREIGN: "rows that no source has",
    FindingKind.OFF_GRID: "rows that open between two open times, or whose id belongs elsewhere or is there twice",
    FindingKind.ROWS_MISDATED: "rows under another day than their time's, where no reader finds them",
    FindingKind.ROW_COUNT: "coverage counts other rows than its range has",
    FindingKind.LEDGER_LINE: "complete by coverage, and no line of ingest_log says who brought it",
    FindingKind.RULE_BROKEN: "values that cannot be together in one row",
    FindingKind.COLUMN_FOREIGN: "values in columns that the market has not",
    FindingKind.VALUE: "stored values differ from the source's",
    FindingKind.ROLLUP: "the shorter klines of the interval do not add up to this one",
    FindingKind.GAP: "no rows, and not known why",
    FindingKind.HALT: "Binance has no rows there",
    FindingKind.PUBLISHED_LATE: "Binance has rows now where it had none",
    FindingKind.REPUBLISHED: "the archive file was replaced after it was loaded",
    FindingKind.SOURCES_DISAGREE: "archive and REST say different things; the archive's word stands",
    FindingKind.SERIES_UNKNOWN: "a line of `series` that names no market or interval of Binance's",
    FindingKind.ROWS_ORPHANED: "rows whose line of `series` is gone: no reader sees them",
}


class Blame(StrEnum):
    """Whose doing it is."""

    OURS = "ours"
    BINANCE = "binance"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """What became of it. Only what is open needs anything done."""

    OPEN = "open"
    FIXED = "fixed"
    EXPLAINED = "explained"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found in `[start_us, end_us)` of a series. `rows`: how many rows are concerned."""

    series: Series
    start_us: int
    end_us: int
    kind: FindingKind
    blame: Blame
    status: Status = Status.OPEN
    rows: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The entry of `findings`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "kind": str(self.kind),
            "class": str(self.blame),
            "status": str(self.status),
            "rows": self.rows,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """How much of one series was looked at: rows by its own rules, and rows compared with each source. `error`: what
    Binance refused, so that not all was compared."""

    series: Series
    start_us: int
    end_us: int
    rows: int = 0
    rolled_up: int = 0
    compared: Mapping[str, int] = field(default_factory=dict)
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry of `checked`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "rows": self.rows,
            "rolled_up": self.rolled_up,
            "compared": dict(self.compared),
            **({"error": self.error} if self.error else {}),
        }


@dataclass(frozen=True, slots=True)
class _Found:
    """What both reports are made of."""

    findings: tuple[Finding, ...] = ()

    @property
    def open(self) -> tuple[Finding, ...]:
        """What is different and neither repaired nor explained."""
        return tuple(finding for finding in self.findings if finding.status is Status.OPEN)

    @property
    def exit_status(self) -> int:
        """0 if nothing different or unexplained remains, else 3."""
        return 3 if self.open else 0


@dataclass(frozen=True, slots=True)
class VerifyReport(_Found):
    """What `verify` found, and how much it looked at."""

    checked: tuple[Checked, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "findings": […], "checked": […]}`."""
        return {
            "schema": SCHEMA,
            "findings": [finding.to_dict() for finding in self.findings],
            "checked": [entry.to_dict() for entry in self.checked],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class RepairReport(_Found):
    """What `repair` found, and what it loaded series by series."""

    loads: tuple[SeriesLoad, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "repairs": […], "findings": […]}`; `repairs` as the `loads` of a load."""
        return {
            "schema": SCHEMA,
            "repairs": [load.to_dict() for load in self.loads],
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class SeriesForgotten:
    """What `forget` took out of one series: rows, lines of coverage, of `ingest_log` and of `corrections`."""

    series: Series
    start_us: int
    end_us: int
    rows: int
    ranges: int
    lines: int
    corrections: int

    def to_dict(self) -> dict[str, Any]:
        """The entry of `forgotten`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "rows": self.rows,
            "ranges": self.ranges,
            "lines": self.lines,
            "corrections": self.corrections,
        }


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What `forget` took out, or with `dry_run` would."""

    forgotten: tuple[SeriesForgotten, ...] = ()
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "forgotten": […], "dry_run": …}`."""
        return {
            "schema": SCHEMA,
            "forgotten": [entry.to_dict() for entry in self.forgotten],
            "dry_run": self.dry_run,
        }
