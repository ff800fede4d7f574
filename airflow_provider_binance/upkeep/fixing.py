"""From findings to orders: the one place that says what `repair` and `verify --fix` do about what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_binance.findings import Finding, FindingKind, Status
from airflow_provider_binance.planner import Preferred, SourceChoice
from airflow_provider_binance.records import Series, Source, State
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.astray import held_by, is_beyond
from airflow_provider_binance.upkeep.judging import Judged, known_at
from airflow_provider_binance.upkeep.ledger import ledgered
from airflow_provider_binance.upkeep.mending import Done, OnProgress, Order, carry_out
from airflow_provider_binance.upkeep.origins import in_file
from airflow_provider_binance.upkeep.spans import Span, common, touch

#: Loaded again although the ledger calls the rows complete.
_RELOADED = frozenset({FindingKind.ROW_COUNT, FindingKind.LEDGER_LINE, FindingKind.ROWS_IN_GAP})


class Fixer:
    """Repairs what was found. `fix`: everything; `adopt`: rows of which the ledger knows nothing.

    `early` and `confirm` are what an `Order` means by them; `choice`: where what is lacking may come from.
    """

    def __init__(
        self, runtime: Runtime, *, fix: bool, adopt: bool, jobs: int, run_ref: str, on_progress: OnProgress,
        choice: SourceChoice = SourceChoice.AUTO, early: bool = False, confirm: bool = False,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._choice = choice
        self._early = early
        self._confirm = confirm
        self._fix = fix
        self._adopt = adopt
        self._jobs = jobs
        self._run_ref = run_ref
        self._on_progress = on_progress
        self._orders: list[Order] = []

    def order(self, series: Series, audit: Audit, own: Sequence[Finding], judged: Sequence[Judged]) -> None:
        """Take down what is to be done to a series."""
        order = Order(series, audit, gaps=self._fix, early=self._early, confirm=self._confirm)
        bounds = ledgered(audit)
        inside = [bounds] if bounds else []
        adopted: list[Span] = []
        for finding in own:
            if finding.kind is FindingKind.ROWS_UNCOVERED:
                is_ledgers = bool(common([(finding.start_us, finding.end_us)], inside))
                if self._fix if is_ledgers else self._adopt:
                    adopted.append((finding.start_us, finding.end_us))
            elif self._fix or finding.kind is FindingKind.ROWS_FOREIGN:
                _take_down(order, finding, inside)
        order.reload += adopted
        for one in judged:
            finding = one.finding
            span = finding.start_us, finding.end_us
            if not self._fix and not touch(span, adopted):
                continue
            if one.foreign:
                self._take_out(order, one)
            elif finding.kind is FindingKind.REPUBLISHED or (finding.status is Status.OPEN and one.runs):
                order.reload.append(span)
                if one.from_told:
                    order.told += _told_files(one)
        self._orders.append(order)

    def _take_out(self, order: Order, one: Judged) -> None:
        for run in one.runs:
            order.foreign += run.held
            order.refused_by = run.told.source
            known = known_at(order.audit, run.start_us)
            if known is not None and known.state is State.COMPLETE and one.finding.kind is not FindingKind.OFF_GRID:
                order.lost.append(run.span)

    def run(self) -> Done:
        """Do it."""
        return carry_out(
            self._runtime, self._orders, self._choice, jobs=self._jobs, run_ref=self._run_ref,
            on_progress=self._on_progress,
        )  # fmt: skip

    def judged_afterwards(self, one: Judged) -> Judged:
        """A difference from a source, told again by comparing with what the source said."""
        if one.finding.status is not Status.OPEN or not one.runs:
            return one
        if not all(run.is_mended(self._runtime.store) for run in one.runs):
            return one
        return replace(one, finding=replace(one.finding, status=Status.FIXED))


def _take_down(order: Order, finding: Finding, inside: Sequence[Span]) -> None:
    """What is to be done about a finding of the store's own; `inside`: what the ledger had to do with."""
    span = finding.start_us, finding.end_us
    if finding.kind is FindingKind.ROWS_FOREIGN:  # found without any source: nobody can have them
        if is_beyond(finding):
            order.beyond = True
        else:
            order.astray.append(held_by(finding))
    elif finding.kind is FindingKind.ROWS_MISDATED:
        order.misdated = True
    elif finding.kind is FindingKind.COLUMN_FOREIGN:
        order.overfull.append(span)
    elif finding.kind is FindingKind.ROWS_MISSING:
        order.lost.append(span)
    elif finding.kind in _RELOADED or (finding.kind is FindingKind.GAP and not touch(span, inside)):
        order.reload.append(span)


def _told_files(one: Judged) -> list[Preferred]:
    """The files that the runs name, for the stretch of each."""
    return [
        choice
        for run in one.runs
        if run.told.source is Source.ARCHIVE
        for choice in in_file(run.series, run.told.ref, run.start_us, run.end_us)
    ]
