"""The DAG `binance_gap_repair`: every day, fill the gaps of what is stored, then verify it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task

from airflow_provider_binance.example_dags.planning import MAP_INDEX_TEMPLATE, default_args
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.operators.binance import BinanceRepairOperator, BinanceVerifyOperator
from airflow_provider_binance.registry import loadable

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier

DOC = """
### Binance, gaps filled and checked

For every series that the ingest database has: asks again for what no source could give yet and is due, fills holes and
rows that were lost behind the ledger's back, and confirms from the archive what rests on REST alone. Then it verifies:
rows against the ledger and their own rules, minutes against longer intervals, ticks by their ids. What remains open
fails the task `verify`, so that a notifier can tell. Triggered by hand it can be narrowed, and compare every row with
Binance.
"""


def form() -> dict[str, Param]:
    """The fields of the trigger form; a scheduled run takes what they begin with."""
    instant: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
    return {
        "market": Param(
            None, type=["string", "null"], enum=[*(market.value for market in Market), None], title="Market",
            description="Empty: all",
        ),
        "symbols": Param(
            "", type=["string", "null"], title="Symbols",
            description="Names or patterns such as *USDT of what is stored, separated by commas; empty: all",
        ),
        "datasets": Param(
            None, type=["array", "null"], items={"type": "string"}, examples=list(loadable()), title="Datasets",
            description="Empty: all",
        ),
        "intervals": Param(
            None, type=["array", "null"], items={"type": "string"}, examples=list(INTERVALS), title="Intervals",
            description="Of klines; with datasets empty only klines are looked at then. Empty: all",
        ),
        "start": Param(None, **instant, title="Start", description="With UTC offset; empty: all that is covered"),
        "end": Param(None, **instant, title="End", description="With UTC offset; empty: all that is covered"),
        "early": Param(False, type="boolean", title="Early", description="Ask again for what is not due yet, too"),
        "against": Param(
            None, type=["array", "null"], items={"type": "string"}, examples=["archive", "rest"], title="Against",
            description="Compare every row with the archive, REST or both; empty: with the ledger and itself",
        ),
        "fix": Param(False, type="boolean", title="Fix", description="Let the verification repair what it finds"),
    }  # fmt: skip


def make_gap_repair_dag(
    dag_id: str = "binance_gap_repair",
    *,
    cron: str = "30 10 * * *",
    timezone: str = "UTC",
    start_date: datetime = datetime(2017, 8, 17, tzinfo=UTC),
    on_gap: str = "fail",
    notifiers: Sequence[BaseNotifier] = (),
    binance_conn_id: str = "binance_default",
    store_conn_id: str = "ingest_default",
    pool: str = "default_pool",
    most_chunks: int = 16,
    task_arguments: Mapping[str, Any] | None = None,
    **dag_arguments: Any,
) -> DAG:
    """The DAG; call it in a file of the DAGs folder.

    Args:
        dag_id: name of the DAG.
        cron: when it runs, in `timezone`; by default after the archive's daily files are out.
        timezone: IANA name.
        start_date: before which it never runs; missed runs are not made up for.
        on_gap: `fail`: the task `verify` fails when something open remains; `warn`: it only logs.
        notifiers: called when a task fails, such as `example_dags.notifying.GapNotifier`.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        pool: pool of the mapped tasks.
        most_chunks: mapped tasks of each kind at most.
        task_arguments: `default_args` of the tasks, over retries by error class and a time-out of six hours.
        dag_arguments: passed on to `DAG`.
    """
    arguments = {"on_failure_callback": list(notifiers), **(task_arguments or {})} if notifiers else task_arguments
    with DAG(
        dag_id,
        schedule=CronTriggerTimetable(cron, timezone=timezone),
        start_date=start_date,
        catchup=False,
        max_active_runs=1,
        default_args=default_args(arguments),
        params=form(),
        doc_md=DOC,
        tags=["binance"],
        **dag_arguments,
    ) as dag:

        @task(multiple_outputs=False)
        def stored() -> list[dict[str, Any]]:
            """What the store has of the form's selection, in chunks."""
            from airflow_provider_binance.example_dags.planning import stored_chunks
            from airflow_provider_binance.hooks.binance import BinanceHook

            params = get_current_context()["params"]
            with closing(BinanceHook(binance_conn_id, store_conn_id=store_conn_id)) as hook:
                return stored_chunks(
                    hook,
                    market=params["market"],
                    symbols=params["symbols"],
                    datasets=params["datasets"],
                    intervals=params["intervals"],
                    most=most_chunks,
                )

        shared = {
            "start": "{{ params.start }}",
            "end": "{{ params.end }}",
            "binance_conn_id": binance_conn_id,
            "store_conn_id": store_conn_id,
            "pool": pool,
            "map_index_template": MAP_INDEX_TEMPLATE,
        }
        chunks = stored()
        repaired = BinanceRepairOperator.partial(task_id="repair", early="{{ params.early }}", **shared).expand_kwargs(
            chunks
        )
        verified = BinanceVerifyOperator.partial(
            task_id="verify",
            against="{{ params.against }}",
            fix="{{ params.fix }}",
            on_gap=on_gap,
            **shared,
        ).expand_kwargs(chunks)
        repaired >> verified
    return dag
