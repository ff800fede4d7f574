"""What each command does: settings and arguments to a front door of `ingest`, its report to the output."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.cli import compat, tables
from airflow_provider_binance.cli.dags import dags
from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.progress import progress_bar
from airflow_provider_binance.cli.shared import refuse_plot, refuse_window, settings, tell_store
from airflow_provider_binance.cli.stream import stream
from airflow_provider_binance.cli.sync import sync
from airflow_provider_binance.cli.upkeep import forget, repair, retire, verify
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import IngestError, InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.reports import SCHEMA

if TYPE_CHECKING:
    from airflow_provider_binance.reports import LoadReport


def load(arguments: argparse.Namespace, output: Output) -> int:
    """`load`: bring a window of series into the store."""
    config = settings(arguments, output)
    wanted = {**_selection(arguments, config), **_fetching(arguments)}
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    try:
        with progress_bar() as on_progress:
            report: LoadReport = ingest.load(
                **wanted, jobs=arguments.jobs, connections=arguments.connections, config=config, on_progress=on_progress
            )
    except IngestError as error:
        if error.report is not None:
            output.partial(error.report.to_dict(), tables.load_lines(error.report))
        raise
    output.result(report.to_dict(), tables.load_lines(report))
    return report.exit_status


def plan(arguments: argparse.Namespace, output: Output) -> int:
    """`plan`: say what `load` would fetch, and its cost."""
    config = settings(arguments, output)
    wanted = {**_selection(arguments, config), **_fetching(arguments)}
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    report = ingest.plan(**wanted, config=config)
    output.result(report.to_dict(), tables.plan_lines(report))
    return 0


def coverage(arguments: argparse.Namespace, output: Output) -> int:
    """`coverage`: say what is there, and draw it."""
    config = settings(arguments, output)
    refuse_window(arguments)
    if arguments.plot:
        refuse_plot(arguments.plot)
    dataset(arguments.dataset)
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    report = ingest.coverage(
        market=Market.parse(arguments.market).value if arguments.market else None,
        dataset=arguments.dataset,
        symbols=arguments.symbol,
        intervals=arguments.interval,
        start=arguments.start,
        end=arguments.end,
        config=config,
    )
    report = tables.merged_by_state(report)
    if arguments.plot:
        from airflow_provider_binance.plot import draw_coverage

        draw_coverage(report, arguments.plot)
        output.note(f"drew {Path(arguments.plot).absolute()}")
    output.result(report.to_dict(), tables.coverage_lines(report))
    return report.exit_status


def migrate(arguments: argparse.Namespace, output: Output) -> int:
    """`migrate`: apply the missing migrations, or print the DDL; with `--compat`, a view for another service too."""
    config = settings(arguments, output)
    if arguments.dialect and not arguments.sql:
        raise InputError("--dialect goes with --sql; migrate itself follows the store")
    compat.refuse(arguments)
    if arguments.sql:
        from airflow_provider_binance.rest.budget_schema import budget_sql
        from airflow_provider_binance.store import schema_sql

        dialect = arguments.dialect or config.store_url.partition(":")[0].partition("+")[0]
        sql = schema_sql(dialect, config.store_schema)
        if dialect == "postgresql":
            sql = f"{sql.rstrip()}\n\n{budget_sql()}"
        if arguments.compat:
            sql = f"{sql.rstrip()}\n\n{compat.script(arguments, dialect, config)}"
        output.text({"schema": SCHEMA, "dialect": dialect, "sql": sql}, sql)
        return 0
    tell_store(config, output)
    from airflow_provider_binance import ingest

    if arguments.compat:
        compat.refuse_store(config)
    applied = ingest.migrate(config=config)
    lines = [*(f"applied {name}" for name in applied), "The store is up to date."]
    document: dict[str, Any] = {"schema": SCHEMA, "store": mask_url(config.store_url), "applied": applied}
    if arguments.compat:
        document["compat"], told = compat.install(arguments, config)
        lines += told
    output.result(document, lines)
    return 0


def doctor(arguments: argparse.Namespace, output: Output) -> int:
    """`doctor`: check everything that a load needs."""
    markets = [Market.parse(name) for name in arguments.market or Market]
    config = settings(arguments, output)
    from airflow_provider_binance.doctor import examine  # heavy, so after what can be refused without it

    report = examine(config, markets)
    output.result(report.to_dict(), tables.doctor_lines(report))
    return report.exit_status


#: The commands but `simulate`, which the simulator brings itself.
COMMANDS: dict[str, Callable[[argparse.Namespace, Output], int]] = {
    "load": load,
    "plan": plan,
    "coverage": coverage,
    "repair": repair,
    "verify": verify,
    "forget": forget,
    "stream": stream,
    "retire": retire,
    "migrate": migrate,
    "sync": sync,
    "doctor": doctor,
    "dags": dags,
}


def _selection(arguments: argparse.Namespace, config: BinanceConfig) -> dict[str, Any]:
    """Market, dataset, symbols, intervals and window; what is not given comes from the settings' universe."""
    if arguments.market is None and len(config.markets) != 1:
        raise InputError(f"--market is missing, and the settings name {len(config.markets)}: give one of them")
    market = Market.parse(arguments.market) if arguments.market else config.markets[0]
    entry = dataset(arguments.dataset)
    if not (symbols := arguments.symbol or config.symbols):
        raise InputError("--symbol is missing: give one or more, or set BINANCE_SYMBOLS or symbols: in --config FILE")
    intervals = arguments.interval or (config.timeframes if entry.has_interval else None) or None
    if entry.has_interval and not intervals:
        raise InputError(
            f"--interval is missing, and {entry.name} have one: give one or more, or set BINANCE_TIMEFRAMES or "
            f"timeframes: in --config FILE"
        )
    refuse_window(arguments)
    return {
        "market": market.value,
        "dataset": entry.name,
        "symbols": list(symbols),
        "intervals": None if intervals is None else list(intervals),
        "start": arguments.start,
        "end": arguments.end,
    }


def _fetching(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("source", "reload", "confirm")}
