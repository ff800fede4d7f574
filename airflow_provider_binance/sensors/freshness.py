"""`BinanceFreshnessSensor`: waits until the sidecar's data are fresh."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.task_arguments import texts

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_binance.freshness import Awaited


class BinanceFreshnessSensor(BaseSensorOperator):
    """Wait until `binance-ingest stream` lives and its data are fresh, as heartbeat and coverage in the store say.

    Binance is not asked, and its connection is not needed. What is not fresh is logged at each look; the time-out fails
    the task. A store that is away counts as not fresh.

    Args:
        market: `spot`, `um` or `cm`.
        dataset: what is streamed.
        symbols: names or patterns over what is streamed; each must be streamed, and klines must be covered. Default:
            the newest event of all symbols is enough.
        intervals: kline lengths of these symbols; default: all that are streamed.
        max_lag: seconds that the newest event, or the end of a kline that is not there yet, may be old.
        max_heartbeat_age: seconds since the last beat after which a sidecar counts as dead.
        store_conn_id: connection of type `postgres` or `sqlite`.
        deferrable: wait in the triggerer, without a worker slot; default: the setting `[operators] default_deferrable`.
        poke_interval: seconds from one look to the next.
        timeout: seconds until the task fails.
    """

    template_fields: Sequence[str] = (
        "market", "dataset", "symbols", "intervals", "max_lag", "max_heartbeat_age", "store_conn_id",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"symbols": "json", "intervals": "json"}
    ui_color = "#f5dd90"

    def __init__(
        self,
        *,
        market: str,
        dataset: str = "klines",
        symbols: Sequence[str] | str | None = None,
        intervals: Sequence[str] | str | None = None,
        max_lag: float | str = 180,
        max_heartbeat_age: float | str = 30,
        store_conn_id: str = "ingest_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float = 30,
        timeout: float = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.market = market
        self.dataset = dataset
        self.symbols = symbols
        self.intervals = intervals
        self.max_lag = max_lag
        self.max_heartbeat_age = max_heartbeat_age
        self.store_conn_id = store_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> None:
        """Wait, here or in the triggerer.

        Raises:
            AirflowFailException: what waiting cannot mend, such as an unknown interval.
            AirflowSensorTimeout: it did not become fresh in time.
            TaskDeferred: the triggerer goes on waiting.
        """
        if not self.deferrable:
            super().execute(context)
        elif not self.poke(context).is_done:
            from airflow_provider_binance.triggers.binance import FreshnessTrigger

            self.defer(
                trigger=FreshnessTrigger(
                    store_conn_id=self.store_conn_id, awaited=self._arguments(), poke_interval=float(self.poke_interval)
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        from airflow_provider_binance.airflow_connections import get_connection
        from airflow_provider_binance.triggers.binance import look_at_freshness

        try:
            problems = look_at_freshness(get_connection(self.store_conn_id), self._awaited())
        except IngestError as error:
            if not error.retryable:
                from airflow.sdk.exceptions import AirflowFailException

                raise AirflowFailException(f"{type(error).__name__}: {error}") from error
            problems = [str(error)]
        for problem in problems:
            self.log.warning("not fresh: %s", problem)
        return PokeReturnValue(not problems)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """The triggerer's answer; raises AirflowFailException for an error."""
        if event is None or event["status"] != "success":
            from airflow.sdk.exceptions import AirflowFailException

            raise AirflowFailException(event["message"] if event else "the trigger ended without an event")

    def _arguments(self) -> dict[str, Any]:
        """What is awaited, as JSON: Airflow keeps it while the triggerer waits."""
        return {
            "market": self.market,
            "dataset": self.dataset,
            "symbols": texts("symbols", self.symbols) or [],
            "intervals": texts("intervals", self.intervals) or [],
            "max_lag": _seconds("max_lag", self.max_lag),
            "max_heartbeat_age": _seconds("max_heartbeat_age", self.max_heartbeat_age),
        }

    def _awaited(self) -> Awaited:
        from airflow_provider_binance.freshness import Awaited

        return Awaited.checked(**self._arguments())


def _seconds(name: str, value: float | str) -> float:
    """A number, also as a template writes it."""
    from airflow_provider_binance.errors import InputError

    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{name}={value!r} is no number of seconds above 0")
    return seconds
