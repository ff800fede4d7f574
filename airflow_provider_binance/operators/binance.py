"""`BinanceLoadOperator`: one load of the ingest core as an Airflow task, and the retry policy that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from airflow_provider_binance.errors import BlockedError, IngestError, UnexplainedGapError
from airflow_provider_binance.operators.base import IngestOperator
from airflow_provider_binance.operators.drl import BinanceDrlSyncOperator
from airflow_provider_binance.operators.upkeep import BinanceRepairOperator, BinanceVerifyOperator
from airflow_provider_binance.task_arguments import one_of, run_ref, texts, truth, whole, window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_binance.reports import LoadReport

#: Series and gaps that the XCom names one by one; the totals always count all.
_MOST_SERIES, _MOST_GAPS = 100, 10


class BinanceRetryPolicy(ExceptionRetryPolicy):
    """Retry what may succeed later, when Binance says that it may; fail at once what cannot.

    An IngestError decides by its `retryable` and `retry_after`; for anything else, and for a BlockedError that may be
    tried again, the rules hold.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """The decision for one failure; never more tries than the task's `retries`."""
        if isinstance(exception, IngestError):
            reason = type(exception).__name__
            if not exception.retryable:
                return RetryDecision.fail(f"{reason}: trying again cannot help")
            # A blocked request names the pause before its own next try, which is too short for a task's.
            if exception.retry_after is not None and not isinstance(exception, BlockedError):
                return RetryDecision.retry(timedelta(seconds=exception.retry_after + 1), f"{reason}: asked to wait")
        return super().evaluate(exception, try_number, max_tries, context)


#: Pass as `retry_policy`, to a task or in a DAG's `default_args`.
BINANCE_RETRY_POLICY = BinanceRetryPolicy(
    rules=[
        RetryRule(BlockedError, RetryAction.RETRY, timedelta(minutes=10), "blocked by Binance's firewall"),
        RetryRule(UnexplainedGapError, RetryAction.RETRY, timedelta(minutes=30), "not published yet"),
    ]
)


class BinanceLoadOperator(IngestOperator):
    """Bring a window of series into the ingest database; what the ledger already covers is not fetched again.

    The window is the first of: `start`/`end`, the run's params `start`/`end`, the day of `partition_date`, the data
    interval unless it is empty. With `end` alone each series goes on from its last covered instant; with `start` alone
    the window ends now. Both take aware datetimes and window texts (`2024-01`, `listing`, `30d`, `now`).

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns such as `*USDT`; a list, JSON, or text separated by commas.
        intervals: kline lengths `1m` … `1M`, likewise.
        start: first instant of the window.
        end: first instant after the window.
        dataset: table to load.
        source: `auto`, `archive` or `rest`.
        reload: fetch and compare again what is already covered.
        confirm: also load anew, from the archive, what so far rests on REST alone.
        republished: whether `confirm` also reads files again that were published anew; asks the listing per series.
        jobs: parallel downloads.
        connections: how many series are written at once, each over a connection of its own (SQLite: always one).
        priority: class of the weight budget: `live`, `repair`, `daily` or `backfill`.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        on_gap: `warn`, or `fail` if something of the window is neither there nor explained afterwards.
        skip_on_no_change: end as skipped, not as succeeded, when nothing changed.

    Returns:
        The report: totals and, per series, counts, sources and the first gaps.
    """

    template_fields: Sequence[str] = (
        *IngestOperator.template_fields, "source", "reload", "confirm", "republished", "connections",
    )  # fmt: skip
    ui_color = "#f5dd90"

    def __init__(
        self,
        *,
        market: str,
        symbols: Sequence[str] | str,
        source: str = "auto",
        reload: bool | str = False,
        confirm: bool | str = False,
        republished: bool | str = True,
        connections: int | str = 1,
        priority: str = "backfill",
        **kwargs: Any,
    ) -> None:
        super().__init__(market=market, symbols=symbols, priority=priority, **kwargs)
        self.source = source
        self.reload = reload
        self.confirm = confirm
        self.republished = republished
        self.connections = connections

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the window and return the report.

        Raises:
            AirflowFailException: an error that no retry can help.
            IngestError: one that a retry may help.
            AirflowSkipException: nothing changed, and `skip_on_no_change`.
            AirflowException: the task was killed; the next try goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        with self.ingesting():
            on_gap = one_of("on_gap", self.on_gap, ("warn", "fail"))
            start, end = window_of(context, self.start, self.end, task_id=self.task_id)
            try:
                report = self.hook().load(
                    market=str(self.market),
                    dataset=self.dataset,
                    symbols=texts("symbols", self.symbols) or [],
                    intervals=texts("intervals", self.intervals),
                    start=start,
                    end=end,
                    source=self.source,
                    reload=truth("reload", self.reload),
                    confirm=truth("confirm", self.confirm),
                    republished=truth("republished", self.republished),
                    jobs=whole("jobs", self.jobs),
                    connections=whole("connections", self.connections),
                    run_ref=run_ref(context),
                )
            except IngestError as error:
                if error.report is not None:
                    self.tell_loads("Loaded", error.report.loads)
                raise
            self._tell(report, on_gap)
        changed = report.counts.rows_inserted + report.counts.rows_updated
        if not changed and truth("skip_on_no_change", self.skip_on_no_change):
            raise AirflowSkipException("nothing changed: the ledger already covers this window")
        return summarize(report)

    def _tell(self, report: LoadReport, on_gap: str) -> None:
        self.tell_loads("Loaded", report.loads)
        missing = report.unexplained
        for series, gap in missing[:_MOST_GAPS]:
            told = gap.to_dict()
            self.log.warning("Missing from %s: %s to %s (%s)", series, told["start"], told["end"], gap.state)
        if missing and on_gap == "fail":
            series, gap = missing[0]
            raise UnexplainedGapError(
                f"{len(missing)} pieces of the window are neither there nor explained, first {series} "
                f"{gap.to_dict()['start']} ({gap.state}); what was loaded stays",
                gaps=len(missing),
            )


def summarize(report: LoadReport) -> dict[str, Any]:
    """`report` as an XCom of bounded size: totals over all, then series and their gaps as far as they fit."""
    totals = {
        name: getattr(report.counts, name)
        for name in ("rows_read", "rows_inserted", "rows_updated", "rows_unchanged", "rows_kept")
    }
    loads = []
    for load in report.loads[:_MOST_SERIES]:
        entry = load.to_dict()
        shown = {name: entry[name][:_MOST_GAPS] for name in ("gaps", "archive_lacks")}
        loads.append({**entry, **shown, "gap_count": len(load.gaps)})
    return {
        "schema": report.to_dict()["schema"],
        "series": len(report.loads),
        "unexplained_gaps": len(report.unexplained),
        "weight_used": report.weight_used,
        "bytes_downloaded": sum(load.bytes_downloaded for load in report.loads),
        **totals,
        "loads": loads,
    }


__all__ = [
    "BINANCE_RETRY_POLICY",
    "BinanceDrlSyncOperator",
    "BinanceLoadOperator",
    "BinanceRepairOperator",
    "BinanceRetryPolicy",
    "BinanceVerifyOperator",
    "summarize",
]
