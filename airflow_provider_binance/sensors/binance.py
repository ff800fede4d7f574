"""Sensors: `BinanceArchiveFileSensor` waits for the archive's files, `BinanceFreshnessSensor` for a sidecar's data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.sensors.freshness import BinanceFreshnessSensor
from airflow_provider_binance.task_arguments import texts, window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["BinanceArchiveFileSensor", "BinanceFreshnessSensor"]

#: Paths that the XCom names one by one; `count` counts all.
_MOST_PATHS = 100


class BinanceArchiveFileSensor(BaseSensorOperator):
    """Wait until the archive has every file of the window; daily ones come between 08:00 and 10:00 UTC the day after.

    The window is found as `BinanceLoadOperator` finds it; files outside a symbol's life are not waited for. Asking
    costs no request weight. An archive that is out of reach counts as not out yet.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns such as `*USDT`; a list, JSON, or text separated by commas.
        intervals: kline lengths `1m` … `1M`, likewise.
        start: first instant of the window.
        end: first instant after the window.
        partition: `daily` or `monthly` files.
        dataset: table whose files they are.
        binance_conn_id: connection of type `binance`.
        deferrable: wait in the triggerer, without a worker slot; default: the setting `[operators] default_deferrable`.
        poke_interval: seconds from one look to the next; default 300.
        timeout: seconds until the task fails; default 36 hours.

    Returns:
        `{"count": …, "paths": […]}`, the files that were waited for (the first 100).
    """

    template_fields: Sequence[str] = (
        "market", "symbols", "intervals", "start", "end", "partition", "dataset", "binance_conn_id",
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
        partition: str = "daily",
        dataset: str = "klines",
        binance_conn_id: str = "binance_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float = 300,
        timeout: float = 36 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.market = market
        self.symbols = symbols
        self.intervals = intervals
        self.start = start
        self.end = end
        self.partition = partition
        self.dataset = dataset
        self.binance_conn_id = binance_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Wait, here or in the triggerer.

        Raises:
            AirflowFailException: what waiting cannot mend, such as an unknown symbol.
            AirflowSensorTimeout: the files did not come in time.
            TaskDeferred: the triggerer goes on waiting.
        """
        if not self.deferrable:
            return cast("dict[str, Any]", super().execute(context))
        paths = self._paths(context)
        if waiting := self._waiting(paths):
            from airflow_provider_binance.triggers.binance import ArchiveFileTrigger

            self.defer(
                trigger=ArchiveFileTrigger(
                    binance_conn_id=self.binance_conn_id,
                    files=self._files(context),
                    first=waiting[0],
                    poke_interval=float(self.poke_interval),
                ),
                method_name="execute_complete",
                kwargs={"found": _found(paths)},
                timeout=timedelta(seconds=self.timeout),
            )
        return _found(paths)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        paths = self._paths(context)
        is_done = not self._waiting(paths)
        return PokeReturnValue(is_done, _found(paths) if is_done else None)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, found: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The triggerer's answer; raises AirflowFailException for an error."""
        from airflow.sdk.exceptions import AirflowFailException

        if event is None or event["status"] != "success":
            raise AirflowFailException(event["message"] if event else "the trigger ended without an event")
        return found or _found(self._paths(context))  # `dag.test` passes on the event alone

    def _files(self, context: Context) -> dict[str, Any]:
        """Which files, as JSON: Airflow keeps it while the triggerer waits."""
        window = window_of(context, self.start, self.end, task_id=self.task_id)
        start, end = (when.isoformat() if isinstance(when, datetime) else when for when in window)
        return {
            "market": self.market,
            "dataset": self.dataset,
            "symbols": texts("symbols", self.symbols) or [],
            "intervals": texts("intervals", self.intervals),
            "start": start,
            "end": end,
            "partition": self.partition,
        }

    def _paths(self, context: Context) -> list[str]:
        from airflow_provider_binance.hooks.binance import BinanceHook
        from airflow_provider_binance.publication import awaited_files

        try:
            return awaited_files(**self._files(context), config=BinanceHook(self.binance_conn_id).config)
        except IngestError as error:
            raise _final(error) from error

    def _waiting(self, paths: list[str]) -> list[str]:
        """The files from the first that is not out."""
        from airflow_provider_binance.hooks.binance import BinanceHook
        from airflow_provider_binance.publication import published

        try:
            waiting = paths[published(BinanceHook(self.binance_conn_id).config, paths) :]
        except IngestError as error:
            if not error.retryable:
                raise _final(error) from error
            self.log.warning("cannot tell yet whether %s is out: %s", paths[0], error)
            return paths
        if waiting:
            self.log.info("%d of %d archive files are not out, first %s", len(waiting), len(paths), waiting[0])
        return waiting


def _found(paths: list[str]) -> dict[str, Any]:
    return {"count": len(paths), "paths": paths[:_MOST_PATHS]}


def _final(error: IngestError) -> Exception:
    """`error`, in a form that fails the task for good if no retry can help."""
    from airflow.sdk.exceptions import AirflowFailException

    return error if error.retryable else AirflowFailException(f"{type(error).__name__}: {error}")
