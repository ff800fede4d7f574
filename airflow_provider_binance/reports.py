"""Reports of the front doors: frozen values whose `to_dict()` is the JSON that the command line prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_binance.market import iso
from airflow_provider_binance.records import EXPLAINED, Series, State, WriteResult

SCHEMA = 1
#: How a window's piece is called that the ledger says nothing of.
UNCOVERED = "uncovered"


@dataclass(frozen=True, slots=True)
class RangeReport:
    """A stretch of time and what is known of it; `state` is a State or `uncovered`."""

    start_us: int
    end_us: int
    state: str
    evidence: str = ""

    @property
    def is_explained(self) -> bool:
        """Whether nothing need be done about it: complete, or known why there are no rows."""
        return self.state == State.COMPLETE or self.state in EXPLAINED

    def to_dict(self) -> dict[str, Any]:
        """`{start, end, state, evidence}`."""
        return {
            "start": iso(self.start_us),
            "end": iso(self.end_us),
            "state": str(self.state),
            "evidence": self.evidence,
        }


@dataclass(frozen=True, slots=True)
class LackReport:
    """Rows that are kept though the verified archive files in `files` lack them: REST, or another file, has them."""

    start_us: int
    end_us: int
    rows: int
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """`{start, end, rows, files}`."""
        return {"start": iso(self.start_us), "end": iso(self.end_us), "rows": self.rows, "files": list(self.files)}


def series_dict(series: Series, start_us: int, end_us: int) -> dict[str, Any]:
    """What every entry of a document about a series begins with."""
    return {
        "market": series.market,
        "dataset": series.dataset,
        "symbol": series.symbol,
        "interval": series.interval,
        "start": iso(start_us),
        "end": iso(end_us),
    }


@dataclass(frozen=True, slots=True)
class SeriesLoad:
    """What one load did for one series. `gaps` are all stretches of the window without rows, explained or not;
    `archive_lacks` are the rows that this load read or confirmed and that the archive's files do not have.
    `error` is what Binance refused of this series, where others were loaded all the same."""

    series: Series
    start_us: int
    end_us: int
    counts: WriteResult = field(default_factory=WriteResult)
    archive_files: int = 0
    rest_requests: int = 0
    weight_used: int = 0
    bytes_downloaded: int = 0
    gaps: tuple[RangeReport, ...] = ()
    seconds: float = 0.0
    archive_lacks: tuple[LackReport, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry of `loads`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "rows_read": self.counts.rows_read,
            "rows_inserted": self.counts.rows_inserted,
            "rows_updated": self.counts.rows_updated,
            "rows_unchanged": self.counts.rows_unchanged,
            "rows_kept": self.counts.rows_kept,
            "sources": {"archive": self.archive_files, "rest": self.rest_requests},
            "weight_used": self.weight_used,
            "bytes_downloaded": self.bytes_downloaded,
            "gaps": [gap.to_dict() for gap in self.gaps],
            "archive_lacks": [lack.to_dict() for lack in self.archive_lacks],
            "seconds": round(self.seconds, 3),
            **({"error": self.error} if self.error else {}),
        }


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did, series by series. `shared_weight` was used for all of them: time, exchangeInfo, first klines."""

    loads: tuple[SeriesLoad, ...] = ()
    shared_weight: int = 0

    @property
    def weight_used(self) -> int:
        """All request weight that the load spent, tries that failed included."""
        return self.shared_weight + sum(load.weight_used for load in self.loads)

    @property
    def counts(self) -> WriteResult:
        """The sum over all series."""
        return sum((load.counts for load in self.loads), WriteResult())

    @property
    def unexplained(self) -> tuple[tuple[Series, RangeReport], ...]:
        """Every gap that is neither repaired nor explained."""
        return tuple((load.series, gap) for load in self.loads for gap in load.gaps if not gap.is_explained)

    @property
    def exit_status(self) -> int:
        """0 if nothing unexplained remains, else 3."""
        return 3 if self.unexplained else 0

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "loads": […], "weight_used": …}`."""
        loads = [load.to_dict() for load in self.loads]
        return {"schema": SCHEMA, "loads": loads, "weight_used": self.weight_used}


@dataclass(frozen=True, slots=True)
class PieceReport:
    """One piece of a plan: what would be fetched, from where, and what it costs."""

    start_us: int
    end_us: int
    source: str
    ref: str
    files: int
    bytes: int
    requests: int
    weight: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The entry of `pieces`."""
        return {
            "start": iso(self.start_us),
            "end": iso(self.end_us),
            "source": self.source,
            "ref": self.ref,
            "files": self.files,
            "bytes": self.bytes,
            "requests": self.requests,
            "weight": self.weight,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The pieces that a load of one series would fetch, in the order in which it would."""

    series: Series
    start_us: int
    end_us: int
    pieces: tuple[PieceReport, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The entry of `plan`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "pieces": [piece.to_dict() for piece in self.pieces],
        }


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a load would do, and its cost."""

    plans: tuple[SeriesPlan, ...] = ()
    notes: tuple[str, ...] = ()

    def totals(self) -> Mapping[str, float]:
        """Files, bytes, requests, weight and seconds over all pieces."""
        pieces = [piece for plan in self.plans for piece in plan.pieces]
        return {name: sum(getattr(piece, name) for piece in pieces)
                for name in ("files", "bytes", "requests", "weight", "seconds")}  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "plan": […]}`."""
        document: dict[str, Any] = {"schema": SCHEMA, "plan": [plan.to_dict() for plan in self.plans]}
        if self.notes:
            document["notes"] = list(self.notes)
        return document


@dataclass(frozen=True, slots=True)
class SeriesCoverage:
    """What the store holds of one series in a window. `expected` counts grid opens minus the explained ones (None for
    datasets without a grid)."""

    series: Series
    start_us: int
    end_us: int
    rows: int
    expected: int | None
    ranges: tuple[RangeReport, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The entry of `coverage`."""
        return {
            **series_dict(self.series, self.start_us, self.end_us),
            "rows": self.rows,
            "expected": self.expected,
            "ranges": [stretch.to_dict() for stretch in self.ranges],
        }


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """What the store holds, series by series."""

    coverage: tuple[SeriesCoverage, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 if every stretch is complete or explained, else 3."""
        return 0 if all(stretch.is_explained for entry in self.coverage for stretch in entry.ranges) else 3

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "coverage": […]}`."""
        return {"schema": SCHEMA, "coverage": [entry.to_dict() for entry in self.coverage]}
