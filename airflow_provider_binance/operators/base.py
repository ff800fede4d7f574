"""What the operators share: arguments, errors as Airflow wants them, and an orderly end of a task that is killed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_binance.errors import IngestError

if TYPE_CHECKING:
    from airflow_provider_binance.hooks.binance import BinanceHook
    from airflow_provider_binance.reports import SeriesLoad


class StoppableOperator(BaseOperator):
    """Base of operators that call the core: `with self.ingesting():` goes around that call."""

    _is_ingesting = False

    @contextmanager
    def ingesting(self) -> Iterator[None]:
        """Whatever ends the block is told to Airflow in its words.

        Raises:
            AirflowFailException: for an IngestError that no retry can help.
            IngestError: one that a retry may help.
            AirflowException: the task was killed; a retry goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTerminated

        self._is_ingesting = True
        try:
            yield
        except IngestError as error:
            if error.retryable:
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except AirflowTaskTerminated:
            # Airflow fails for good what ends by that; a task that was marked as failed stays so all the same.
            raise AirflowException(
                f"Task {self.task_id} was killed. What was committed stays, the rest was rolled back: the next try, or "
                "the task once it is cleared, goes on from there"
            ) from None
        finally:
            self._is_ingesting = False

    def on_kill(self) -> None:
        """Unwind what runs: nothing more is asked of Binance, the open transaction is rolled back, connections close.

        Airflow calls this in the main thread, from its handler of SIGTERM, so that an exception unwinds the work; what
        is still being downloaded by other threads ends with the process, which Airflow ends without waiting for them.
        """
        from airflow.sdk.exceptions import AirflowTaskTerminated

        if self._is_ingesting:
            self._is_ingesting = False  # a second signal must not disturb the way out
            raise AirflowTaskTerminated(f"task {self.task_id} was killed")


class IngestOperator(StoppableOperator):
    """What operators over series and windows share.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns such as `*USDT`; a list, JSON, or text separated by commas.
        intervals: kline lengths `1m` … `1M`, likewise; other datasets have none.
        start: first instant of the window, an aware datetime or a window text.
        end: first instant after the window.
        dataset: table to work on.
        jobs: parallel downloads.
        priority: class of the weight budget: `live`, `repair`, `daily` or `backfill`.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        on_gap: `warn`, or `fail` if something is neither there nor explained afterwards.
        skip_on_no_change: end as skipped, not as succeeded, when nothing changed.
    """

    template_fields: Sequence[str] = (
        "market", "symbols", "intervals", "start", "end", "dataset", "jobs", "priority", "binance_conn_id",
        "store_conn_id", "on_gap", "skip_on_no_change",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"symbols": "json", "intervals": "json"}

    def __init__(
        self,
        *,
        market: str | None = None,
        symbols: Sequence[str] | str | None = None,
        intervals: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        dataset: str = "klines",
        jobs: int | str = 2,
        priority: str = "repair",
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
        self.jobs = jobs
        self.priority = priority
        self.binance_conn_id = binance_conn_id
        self.store_conn_id = store_conn_id
        self.on_gap = on_gap
        self.skip_on_no_change = skip_on_no_change

    def hook(self) -> BinanceHook:
        """The connections of the task."""
        from airflow_provider_binance.hooks.binance import BinanceHook

        return BinanceHook(self.binance_conn_id, store_conn_id=self.store_conn_id, priority=self.priority)

    def tell_loads(self, verb: str, loads: Iterable[SeriesLoad]) -> None:
        """A log line for each series."""
        for load in loads:
            counts = load.counts
            self.log.info(
                "%s %s: %d inserted, %d updated, %d unchanged; %d files, %d requests, weight %d, %.1f s",
                verb, load.series, counts.rows_inserted, counts.rows_updated, counts.rows_unchanged, load.archive_files,
                load.rest_requests, load.weight_used, load.seconds,
            )  # fmt: skip
