"""`BinanceRepairOperator` and `BinanceVerifyOperator`: keeping right what is in the ingest database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_binance.errors import IngestError, UnexplainedGapError
from airflow_provider_binance.operators.base import IngestOperator
from airflow_provider_binance.task_arguments import given, one_of, run_ref, texts, truth, whole

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_binance.findings import Finding, RepairReport, VerifyReport
    from airflow_provider_binance.hooks.binance import BinanceHook

#: Findings that the XCom names one by one, and the log; the totals count all.
_MOST_FINDINGS, _MOST_LOGGED = 100, 10


class _UpkeepOperator(IngestOperator):
    """What both share: what is made of findings."""

    ui_color = "#c9e4ca"
    #: Whether trying again may close what is open.
    is_mended_by_retry: ClassVar[bool] = True

    def execute(self, context: Context) -> dict[str, Any]:
        """Do it and return the report.

        Raises:
            AirflowFailException: an error that no retry can help.
            IngestError: one that a retry may help; among them what is left open, with `on_gap="fail"`.
            AirflowSkipException: nothing changed, and `skip_on_no_change`.
            AirflowException: the task was killed; the next try goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        with self.ingesting():
            on_gap = one_of("on_gap", self.on_gap, ("warn", "fail"))
            try:
                report, changed = self._work(self.hook(), self._selection(context))
            except IngestError as error:
                if error.report is not None:  # Binance refused in the middle; what is open is told all the same
                    self._tell(error.report.findings, "warn")
                raise
            self._tell(report.findings, on_gap)
        if not changed and truth("skip_on_no_change", self.skip_on_no_change):
            raise AirflowSkipException("nothing changed")
        return _summary(report)

    def _work(self, hook: BinanceHook, selection: dict[str, Any]) -> tuple[RepairReport | VerifyReport, bool]:
        """The report, and whether anything was changed."""
        raise NotImplementedError

    def _selection(self, context: Context | Mapping[str, Any]) -> dict[str, Any]:
        return {
            "market": given(self.market),
            "dataset": self.dataset,
            "symbols": texts("symbols", self.symbols),
            "intervals": texts("intervals", self.intervals),
            "start": given(self.start),
            "end": given(self.end),
            "jobs": whole("jobs", self.jobs),
            "priority": self.priority,
            "run_ref": run_ref(context),
        }

    def _tell(self, findings: Sequence[Finding], on_gap: str) -> None:
        remaining = [finding for finding in findings if finding.status == "open"]
        for finding in remaining[:_MOST_LOGGED]:
            told = finding.to_dict()
            self.log.warning(
                "Open: %s %s to %s: %s (%s)", finding.series, told["start"], told["end"], finding.kind, finding.blame
            )
        if remaining and on_gap == "fail":
            from airflow.sdk.exceptions import AirflowFailException

            first = remaining[0]
            message = (
                f"{len(remaining)} findings are neither repaired nor explained, first {first.series} "
                f"{first.to_dict()['start']} ({first.kind}); what was repaired stays"
            )
            if self.is_mended_by_retry:
                raise UnexplainedGapError(message, gaps=len(remaining))
            raise AirflowFailException(message)


class BinanceRepairOperator(_UpkeepOperator):
    """Find and fill what is lacking inside what the ingest database covers, in the class `repair` of the weight budget.

    The selection is over what the store has: without arguments, all of it. The run's data interval is not looked at,
    since gaps do not keep to it; give `start` and `end` to narrow it.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns; a list, JSON, or text separated by commas.
        intervals: kline lengths, likewise.
        start: first instant of the window, an aware datetime or a window text.
        end: first instant after the window.
        dataset: table to repair.
        source: `auto`, `archive` or `rest`.
        early: ask again for what is not due yet, too.
        confirm: also confirm, from the archive, what so far rests on REST alone.
        jobs: parallel downloads.
        priority: class of the weight budget.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        on_gap: `warn`, or `fail` if something is neither there nor explained afterwards.
        skip_on_no_change: end as skipped, not as succeeded, when nothing changed.

    Returns:
        Totals, and the first 100 findings.
    """

    template_fields: Sequence[str] = (*IngestOperator.template_fields, "source", "early", "confirm")

    def __init__(
        self, *, source: str = "auto", early: bool | str = False, confirm: bool | str = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.early = early
        self.confirm = confirm

    def _work(self, hook: BinanceHook, selection: dict[str, Any]) -> tuple[RepairReport, bool]:
        report = hook.repair(
            **selection, source=self.source, early=truth("early", self.early), confirm=truth("confirm", self.confirm)
        )
        self.tell_loads("Repaired", report.loads)
        return report, any(load.counts.rows_inserted + load.counts.rows_updated for load in report.loads)


class BinanceVerifyOperator(_UpkeepOperator):
    """Compare the ingest database with itself, its ledger and, with `against`, Binance; `fix` repairs what it finds.

    The selection is over what the store has: without arguments, all of it. The run's data interval is not looked at.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns; a list, JSON, or text separated by commas.
        intervals: kline lengths, likewise.
        start: first instant of the window, an aware datetime or a window text.
        end: first instant after the window.
        dataset: table to verify.
        against: `archive`, `rest` or both: fetch again and compare every row.
        fix: repair what is found.
        adopt: take over rows of which the ledger knows nothing.
        jobs: parallel downloads.
        priority: class of the weight budget.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        on_gap: `warn`, or `fail` if something different is neither repaired nor explained.
        skip_on_no_change: end as skipped, not as succeeded, when nothing was repaired.

    Returns:
        Totals by kind and class, and the first 100 findings.
    """

    template_fields: Sequence[str] = (*IngestOperator.template_fields, "against", "fix", "adopt")
    is_mended_by_retry = False

    def __init__(
        self,
        *,
        against: Sequence[str] | str | None = None,
        fix: bool | str = False,
        adopt: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.against = against
        self.fix = fix
        self.adopt = adopt

    def _work(self, hook: BinanceHook, selection: dict[str, Any]) -> tuple[VerifyReport, bool]:
        report = hook.verify(
            **selection,
            against=texts("against", self.against),
            fix=truth("fix", self.fix),
            adopt=truth("adopt", self.adopt),
        )
        self.log.info(
            "Verified %d series, %d rows: %d findings, %d of them open",
            len(report.checked), sum(one.rows for one in report.checked), len(report.findings), len(report.open),
        )  # fmt: skip
        return report, any(finding.status == "fixed" for finding in report.findings)


def _summary(report: RepairReport | VerifyReport) -> dict[str, Any]:
    """The report as an XCom of bounded size: totals over all, then as many findings as fit."""
    document = report.to_dict()
    loads = document.get("repairs", [])
    return {
        "schema": document["schema"],
        "findings_found": len(report.findings),
        "findings_open": len(report.open),
        "by_kind": dict(Counter(str(finding.kind) for finding in report.findings)),
        "by_class": dict(Counter(str(finding.blame) for finding in report.findings)),
        **(
            {
                name: sum(load[name] for load in loads)
                for name in ("rows_inserted", "rows_updated", "weight_used", "bytes_downloaded")
            }
            if "repairs" in document
            else {"series": len(document["checked"]), "rows": sum(one["rows"] for one in document["checked"])}
        ),
        "findings": document["findings"][:_MOST_FINDINGS],
    }
