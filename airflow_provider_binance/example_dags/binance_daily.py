"""The DAG `binance_daily`: every UTC day, the day that has just ended, for every series of the universe."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task

from airflow_provider_binance.example_dags.planning import MAP_INDEX_TEMPLATE, default_args
from airflow_provider_binance.operators.binance import BinanceLoadOperator

DOC = """
### Binance, day by day

Loads `[data_interval_start, data_interval_end)` of every series of the universe into the ingest database, from the
kline on that is open at its start: one that spans several days is loaded by the run of the day in which it closes. The
universe is the run parameter `universe`, else the variable `binance_universe`, else the extras of the connection. What
the ledger already covers is not fetched again: catch-up, backfills, retries and clearing are all safe. What REST gave
before the archive had its file is confirmed by later runs. A run without a date goes from the last covered instant to
the last midnight UTC.
"""


def make_daily_dag(
    dag_id: str = "binance_daily",
    *,
    cron: str = "0 0 * * *",
    timezone: str = "UTC",
    start_date: datetime = datetime(2017, 8, 17, tzinfo=UTC),
    catchup: bool = False,
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
        cron: when a data interval ends and the next begins, in `timezone`.
        timezone: IANA name; the rows are the same whatever it is.
        start_date: earliest data interval of a catch-up; by default Binance's first day.
        catchup: whether to run all data intervals since `start_date` at once.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        pool: pool of the mapped loads; give it as many slots as callers may share one IP address.
        most_chunks: mapped loads at most.
        task_arguments: `default_args` of the tasks, over retries by error class and a time-out of six hours.
        dag_arguments: passed on to `DAG`.
    """
    with DAG(
        dag_id,
        schedule=CronDataIntervalTimetable(cron, timezone=timezone),
        start_date=start_date,
        catchup=catchup,
        max_active_runs=1,
        default_args=default_args(task_arguments),
        params={
            "universe": Param(
                None,
                type=["object", "null"],
                title="Universe",
                description="In place of the variable binance_universe, for this run only",
            )
        },
        doc_md=DOC,
        tags=["binance"],
        **dag_arguments,
    ) as dag:

        @task(multiple_outputs=False)
        def plan_chunks() -> list[dict[str, Any]]:
            """Read the universe, plan the window, and cut it into chunks of about equal cost."""
            from airflow_provider_binance.airflow_universe import read_universe
            from airflow_provider_binance.example_dags.planning import describe, plan_latest, plan_window
            from airflow_provider_binance.hooks.binance import BinanceHook
            from airflow_provider_binance.task_arguments import find_window
            from airflow_provider_binance.universe import cut

            context = get_current_context()
            entries = read_universe(context["params"], binance_conn_id=binance_conn_id)
            window = find_window(context)
            with closing(BinanceHook(binance_conn_id, store_conn_id=store_conn_id, priority="daily")) as hook:
                planned, reports = (
                    plan_latest(hook, entries, confirm=True, republished=False)
                    if window is None
                    else plan_window(hook, entries, *window, by_close=True, confirm=True, republished=False)
                )
            describe(reports)
            return cut(planned, most=most_chunks)

        BinanceLoadOperator.partial(
            task_id="load",
            confirm=True,
            republished=False,  # binance_gap_repair looks for those: a day with nothing new asks nobody
            priority="daily",
            binance_conn_id=binance_conn_id,
            store_conn_id=store_conn_id,
            pool=pool,
            map_index_template=MAP_INDEX_TEMPLATE,
        ).expand_kwargs(plan_chunks())
    return dag
