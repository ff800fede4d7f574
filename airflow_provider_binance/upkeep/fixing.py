"""From findings to orders, and from a second look to what became of each finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_binance.findings import Finding, Kind, Status
from airflow_provider_binance.planner import Preferred, SourceChoice
from airflow_provider_binance.records import Series, Source, State
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.choosing import Wanted
from airflow_provider_binance.upkeep.judging import Judged, known_at
from airflow_provider_binance.upkeep.ledger import ledgered
from airflow_provider_binance.upkeep.mending import OnProgress, Order, carry_out
from airflow_provider_binance.upkeep.origins import in_file
from airflow_provider_binance.upkeep.spans import Span, common, touch

#: Loaded again although the ledger calls the rows complete.
_RELOADED = frozenset({Kind.ROW_COUNT, Kind.LEDGER_LINE, Kind.ROWS_IN_GAP})


class Fixer:
    """Repairs what `verify` found. `fix`: everything; `adopt`: rows of which the ledger knows nothing."""

    def __init__(
        self, runtime: Runtime, words: Wanted, fix: bool, adopt: bool, jobs: int, run_ref: str,
        on_progress: OnProgress,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._words = words
        self._fix = fix
        self._adopt = adopt
        self._jobs = jobs
        self._run_ref = run_ref
        self._on_progress = on_progress
        self._orders: list[Order] = []

    def order(self, series: Series, audit: Audit, own: Sequence[Finding], judged: Sequence[Judged]) -> None:
        """Take down what is to be done to a series."""
        order = Order(series, audit, gaps=self._fix)
        bounds = ledgered(audit)
        inside = [bounds] if bounds else []
        adopted: list[Span] = []
        for finding in own:
            span = finding.start_us, finding.end_us
            if finding.kind is Kind.ROWS_UNCOVERED:
                is_ledgers = bool(common([span], inside))
                if self._fix if is_ledgers else self._adopt:
                    adopted.append(span)
            elif not self._fix:
                continue
            elif finding.kind is Kind.ROWS_MISSING:
                order.lost.append(span)
            elif finding.kind in _RELOADED or (finding.kind is Kind.GAP and not touch(span, inside)):
                order.reload.append(span)
        order.reload += adopted
        for one in judged:
            finding = one.finding
            span = finding.start_us, finding.end_us
            if not self._fix and not touch(span, adopted):
                continue
            if one.foreign:
                self._take_out(order, one)
            elif finding.kind is Kind.REPUBLISHED or (finding.status is Status.OPEN and one.runs):
                order.reload.append(span)
                if one.from_told:
                    order.told += _told_files(one)
        self._orders.append(order)

    def _take_out(self, order: Order, one: Judged) -> None:
        for run in one.runs:
            order.foreign += run.times
            order.refused_by = run.told.source
            known = known_at(order.audit, run.start_us)
            if known is not None and known.state is State.COMPLETE and one.finding.kind is not Kind.OFF_GRID:
                order.lost.append(run.span)

    def run(self) -> None:
        """Do it."""
        carry_out(
            self._runtime, self._orders, SourceChoice.AUTO, jobs=self._jobs, run_ref=self._run_ref,
            on_progress=self._on_progress,
        )  # fmt: skip

    def judged_afterwards(self, one: Judged) -> Judged:
        """A difference from a source, told again by comparing with what the source said."""
        if one.finding.status is not Status.OPEN or not one.runs:
            return one
        if not all(run.is_mended(self._runtime.store) for run in one.runs):
            return one
        return replace(one, finding=replace(one.finding, status=Status.FIXED))


def _told_files(one: Judged) -> list[Preferred]:
    """The files that the runs name, for the stretch of each."""
    return [
        choice
        for run in one.runs
        if run.told.source is Source.ARCHIVE
        for choice in in_file(run.series, run.told.ref, run.start_us, run.end_us)
    ]
