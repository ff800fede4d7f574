"""`BinanceDrlSyncOperator`: the store's klines into drl-trading-ingest's own table, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_binance.operators.base import StoppableOperator
from airflow_provider_binance.task_arguments import given, texts, truth

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_binance.integrations.drl_trading import DrlSyncReport

#: Series, and rows left out, that the XCom names one by one; the totals always count all.
_MOST_SERIES, _MOST_LEFT_OUT = 100, 100


class BinanceDrlSyncOperator(StoppableOperator):
    """Bring into drl-trading-ingest's `market_data` what changed in the ingest database since the last run.

    A try that was killed is gone on with by the next one. The run's data interval is not looked at: late rows and
    corrections do not keep to it. It asks Binance for nothing.

    Args:
        target_conn_id: connection of type `postgres`: the service's database.
        target_schema: the schema of its table.
        volume_mode: `round`, `scale_1e8` or `quote`; default: as the table was filled before, at first `round`.
        market: `spot`, `um` or `cm`; default: all.
        symbols: names or patterns, as the store has them; a list, JSON, or text separated by commas.
        timeframes: of `1m 5m 15m 30m 1h 4h 1d 1w 1M`, likewise.
        full: compare every row, not only what changed.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        skip_on_no_change: end as skipped, not as succeeded, when nothing changed.

    Returns:
        Totals, and the first 100 series that changed or had rows left out.
    """

    ui_color = "#c9e4ca"
    template_fields: Sequence[str] = (
        "target_conn_id", "target_schema", "volume_mode", "market", "symbols", "timeframes", "full", "store_conn_id",
        "skip_on_no_change",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"symbols": "json", "timeframes": "json"}

    def __init__(
        self,
        *,
        target_conn_id: str = "drl_default",
        target_schema: str = "public",
        volume_mode: str | None = None,
        market: str | None = None,
        symbols: Sequence[str] | str | None = None,
        timeframes: Sequence[str] | str | None = None,
        full: bool | str = False,
        store_conn_id: str = "ingest_default",
        skip_on_no_change: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target_conn_id = target_conn_id
        self.target_schema = target_schema
        self.volume_mode = volume_mode
        self.market = market
        self.symbols = symbols
        self.timeframes = timeframes
        self.full = full
        self.store_conn_id = store_conn_id
        self.skip_on_no_change = skip_on_no_change

    def execute(self, context: Context) -> dict[str, Any]:
        """Do it and return the report.

        Raises:
            AirflowFailException: an error that no retry can help.
            IngestError: one that a retry may help.
            AirflowSkipException: nothing changed, and `skip_on_no_change`.
            AirflowException: the task was killed; the next try goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        with self.ingesting():
            report = self._sync()
            skips = truth("skip_on_no_change", self.skip_on_no_change)
        for one in report.left_out:
            self.log.warning("Left out: %s, %d rows: %s", one.series, one.rows, one.reason)
        self.log.info("%s: %d rows changed in %d series", report.table, report.changed, len(report.series))
        if skips and not report.changed:
            raise AirflowSkipException("nothing changed")
        return _summary(report)

    def _sync(self) -> DrlSyncReport:
        from airflow_provider_binance.airflow_connections import get_connection, store_target
        from airflow_provider_binance.integrations.drl_trading import sync
        from airflow_provider_binance.store import open_store

        target, source = (store_target(get_connection(name)) for name in (self.target_conn_id, self.store_conn_id))
        with open_store(source.url, schema=source.schema, create=False) as store:
            return sync(
                target=target.url,
                target_schema=self.target_schema,
                volume_mode=given(self.volume_mode),
                market=given(self.market),
                symbols=texts("symbols", self.symbols),
                timeframes=texts("timeframes", self.timeframes),
                full=truth("full", self.full),
                store=store,
            )


def _summary(report: DrlSyncReport) -> dict[str, Any]:
    document = report.to_dict()
    changed = [one for one in document["series"] if one["rows_read"] or one["rows_deleted"]]
    return {
        "schema": document["schema"],
        "table": report.table,
        "volume_mode": str(report.volume_mode),
        "series_seen": len(report.series),
        **{name: sum(one[name] for one in document["series"])
           for name in ("rows_read", "rows_inserted", "rows_updated", "rows_deleted")},
        "rows_left_out": sum(one.rows for one in report.left_out),
        "series": changed[:_MOST_SERIES],
        "left_out": document["left_out"][:_MOST_LEFT_OUT],
    }  # fmt: skip
