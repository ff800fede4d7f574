"""The DAG `binance_backfill`: a form for loading any window of any symbols by hand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from airflow_provider_binance.example_dags.planning import MAP_INDEX_TEMPLATE, default_args
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.operators.binance import BinanceLoadOperator
from airflow_provider_binance.registry import loadable

DOC = """
### Binance, any window by hand

Trigger it, fill in the form: it loads the klines, aggregate trades or trades that the ingest database lacks of
`[start, end)`, from the archive where that is cheaper, else by REST. Start again whenever you like: what is there is
not fetched again. With `dry_run` the first task logs the plan and its cost, and nothing is loaded.
"""

#: Offered in the form; the field below takes any other symbol.
EXAMPLE_SYMBOLS = [
    "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "TRXUSDT", "LINKUSDT", "LTCUSDT",
    "BTCUSD_PERP", "ETHUSD_PERP",
]  # fmt: skip


def form(symbols: list[str]) -> dict[str, Param]:
    """The fields of the trigger form, with `symbols` offered."""
    return {
        "market": Param(
            Market.SPOT.value,
            type="string",
            enum=[market.value for market in Market],
            title="Market",
            values_display={"spot": "Spot", "um": "USD-M futures", "cm": "COIN-M futures"},
            description="spot, um (USD-M futures) or cm (COIN-M futures)",
        ),
        "symbols": Param(
            ["BTCUSDT"], type=["array", "null"], items={"type": "string"}, examples=symbols, title="Symbols"
        ),
        "more_symbols": Param(
            "",
            type=["string", "null"],
            title="More symbols",
            description="Names or patterns such as *USDT, separated by commas or blanks",
        ),
        "datasets": Param(
            ["klines"],
            type=["array", "null"],
            items={"type": "string"},
            examples=list(loadable()),
            title="Datasets",
            description="klines, agg_trades (aggregate trades), trades; empty: klines",
        ),
        "intervals": Param(
            ["1h"],
            type=["array", "null"],
            items={"type": "string"},
            examples=list(INTERVALS),
            title="Intervals",
            description="Of klines; the other datasets have none, and pass this over",
        ),
        "start": Param(
            None,
            type=["string", "null"],
            format="date-time",
            title="Start",
            description="First instant, with UTC offset; empty: on from the last covered instant",
        ),
        "end": Param(
            None,
            type=["string", "null"],
            format="date-time",
            title="End",
            description="First instant after the window, with UTC offset; empty: now",
        ),
        "source": Param(
            "auto",
            type="string",
            enum=["auto", "archive", "rest"],
            title="Source",
            description="auto: whichever is cheaper for each piece",
        ),
        "dry_run": Param(False, type="boolean", title="Dry run", description="Log the plan and its cost, load nothing"),
    }


def make_backfill_dag(
    dag_id: str = "binance_backfill",
    *,
    symbols: list[str] | None = None,
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
        symbols: symbols that the form offers; any other can be written into `more_symbols`.
        binance_conn_id: connection of type `binance`.
        store_conn_id: connection of type `postgres` or `sqlite`: the ingest database.
        pool: pool of the mapped loads; give it as many slots as callers may share one IP address.
        most_chunks: mapped loads at most.
        task_arguments: `default_args` of the tasks, over retries by error class and a time-out of six hours.
        dag_arguments: passed on to `DAG`.
    """
    with DAG(
        dag_id,
        schedule=None,
        default_args=default_args(task_arguments),
        params=form(symbols or EXAMPLE_SYMBOLS),
        doc_md=DOC,
        tags=["binance"],
        **dag_arguments,
    ) as dag:

        @task(multiple_outputs=False)
        def plan_chunks() -> list[dict[str, Any]]:
            """Plan what the form asks for, publish the plan as XCom `plan`, and cut it into chunks."""
            from airflow_provider_binance.example_dags.planning import describe, plan_window
            from airflow_provider_binance.hooks.binance import BinanceHook
            from airflow_provider_binance.universe import cut, entries_of_form

            context = get_current_context()
            params = context["params"]
            entries = entries_of_form(params)
            with closing(BinanceHook(binance_conn_id, store_conn_id=store_conn_id)) as hook:
                planned, reports = plan_window(hook, entries, params["start"], params["end"], source=params["source"])
            context["ti"].xcom_push("plan", describe(reports))
            return [] if params["dry_run"] else cut(planned, most=most_chunks)

        BinanceLoadOperator.partial(
            task_id="load",
            source="{{ params.source }}",
            binance_conn_id=binance_conn_id,
            store_conn_id=store_conn_id,
            pool=pool,
            map_index_template=MAP_INDEX_TEMPLATE,
        ).expand_kwargs(plan_chunks())
    return dag
