"""`BinanceLoadOperator`: one load of the ingest core as an Airflow task, and the retry policy that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from airflow_provider_binance.errors import BlockedError, IngestError, UnexplainedGapError
from airflow_provider_binance.operators.base import IngestOperator
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
        priority: class of the weight budget: `live`, `repair`, `daily` or `backfill`.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        on_gap: `warn`, or `fail` if something of the window is neither there nor explained afterwards.
        skip_on_no_change: end as skipped, not as succeeded, when nothing changed.

    Returns:
        The report: totals and, per series, counts, sources and the first gaps.
    """

    template_fields: Sequence[str] = (
        "market", "symbols", "intervals", "start", "end", "dataset", "source", "reload", "confirm", "republished",
        "jobs", "priority", "binance_conn_id", "store_conn_id", "on_gap", "skip_on_no_change",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"symbols": "json", "intervals": "json"}
    ui_color = "#f5dd90"

    def __init__(
        self,
        *,
        market: str,
        symbols: Sequence[str] | str,
        intervals: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        dataset: str = "klines",
        source: str = "auto",
        reload: bool | str = False,
        confirm: bool | str = False,
        republished: bool | str = True,
        jobs: int | str = 2,
        priority: str = "backfill",
        binance_conn_id: str = "binance_default",
        store_conn_id: str = "ingest_default",
        on_gap: str = "warn",
        skip_on_no_change: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.market = market
        self.symbols = symbols
        self.intervals = intervals
        self.start = start
        self.end = end
        self.dataset = dataset
        self.source = source
        self.reload = reload
        self.confirm = confirm
        self.republished = republished
        self.jobs = jobs
        self.priority = priority
        self.binance_conn_id = binance_conn_id
        self.store_conn_id = store_conn_id
        self.on_gap = on_gap
        self.skip_on_no_change = skip_on_no_change

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the window and return the report.

        Raises:
            AirflowFailException: an error that no retry can help.
            IngestError: one that a retry may help.
            AirflowSkipException: nothing changed, and `skip_on_no_change`.
            AirflowException: the task was killed; the next try goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        from airflow_provider_binance.hooks.binance import BinanceHook

        with self.ingesting():
            on_gap = one_of("on_gap", self.on_gap, ("warn", "fail"))
            start, end = window_of(context, self.start, self.end, task_id=self.task_id)
            hook = BinanceHook(self.binance_conn_id, store_conn_id=self.store_conn_id, priority=self.priority)
            try:
                report = hook.load(
                    market=self.market,
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
                    run_ref=run_ref(context),
                )
            except IngestError as error:
                if error.report is not None:
                    self._tell_loads(error.report)
                raise
            self._tell(report, on_gap)
        changed = report.counts.rows_inserted + report.counts.rows_updated
        if not changed and truth("skip_on_no_change", self.skip_on_no_change):
            raise AirflowSkipException("nothing changed: the ledger already covers this window")
        return summarize(report)

    def _tell_loads(self, report: LoadReport) -> None:
        for load in report.loads:
            counts = load.counts
            self.log.info(
                "Loaded %s: %d inserted, %d updated, %d unchanged; %d files, %d requests, weight %d, %.1f s",
                load.series, counts.rows_inserted, counts.rows_updated, counts.rows_unchanged, load.archive_files,
                load.rest_requests, load.weight_used, load.seconds,
            )  # fmt: skip

    def _tell(self, report: LoadReport, on_gap: str) -> None:
        self._tell_loads(report)
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
    "BinanceLoadOperator",
    "BinanceRepairOperator",
    "BinanceRetryPolicy",
    "BinanceVerifyOperator",
    "summarize",
]
