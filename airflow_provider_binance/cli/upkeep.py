"""`repair`, `verify`, `forget`: arguments to a front door of `ingest`, its report to the output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.cli import upkeep_tables as tables
from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.progress import progress_bar
from airflow_provider_binance.cli.shared import refuse_plot, refuse_window, settings, tell_store
from airflow_provider_binance.cli.tables import plural
from airflow_provider_binance.errors import IngestError, InputError
from airflow_provider_binance.findings import ForgetReport
from airflow_provider_binance.market import Market, iso
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.reports import SCHEMA

if TYPE_CHECKING:
    from airflow_provider_binance.config import BinanceConfig


def repair(arguments: argparse.Namespace, output: Output) -> int:
    """`repair`: find and fill what is lacking inside what is covered."""
    config = settings(arguments, output)
    wanted = _selection(arguments)
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    try:
        with progress_bar() as on_progress:
            report = ingest.repair(
                **wanted, source=arguments.source, early=arguments.early, jobs=arguments.jobs, config=config,
                on_progress=on_progress,
            )  # fmt: skip
    except IngestError as error:
        if error.report is not None:
            output.partial(error.report.to_dict(), tables.repair_lines(error.report))
        raise
    output.result(report.to_dict(), tables.repair_lines(report))
    return report.exit_status


def verify(arguments: argparse.Namespace, output: Output) -> int:
    """`verify`: compare the store with itself, its ledger and Binance, and draw what was found."""
    config = settings(arguments, output)
    wanted = _selection(arguments)
    if arguments.plot:
        refuse_plot(arguments.plot)
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    try:
        with progress_bar() as on_progress:
            report = ingest.verify(
                **wanted, against=arguments.against, fix=arguments.fix, adopt=arguments.adopt, jobs=arguments.jobs,
                config=config, on_progress=on_progress,
            )  # fmt: skip
    except IngestError as error:
        if error.report is not None:
            output.partial(error.report.to_dict(), tables.verify_lines(error.report))
        raise
    if arguments.plot:
        from airflow_provider_binance.plot_findings import draw_findings

        draw_findings(report, arguments.plot)
        output.note(f"drew {Path(arguments.plot).absolute()}")
    output.result(report.to_dict(), tables.verify_lines(report))
    return report.exit_status


def forget(arguments: argparse.Namespace, output: Output) -> int:
    """`forget`: delete rows and ledger of a selection together, once it is plain that this is wanted."""
    config = settings(arguments, output)
    wanted = _selection(arguments)
    if not wanted["market"] or not wanted["symbols"]:
        lacking = "--market" if not wanted["market"] else "--symbol"
        raise InputError(f"{lacking} is missing: forget wants market and symbols named (--symbol '*' is all)")
    if not arguments.yes and not arguments.dry_run and not sys.stdin.isatty():
        raise InputError("forget deletes rows, and nobody can be asked here: add --yes (or --dry-run to see how many)")
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    if not arguments.yes:
        report = ingest.forget(**wanted, dry_run=True, config=config)
        if not arguments.dry_run and report.forgotten:
            report = ingest.forget(**wanted, config=config) if _is_meant(report, config) else ForgetReport()
    else:
        report = ingest.forget(**wanted, dry_run=arguments.dry_run, config=config)
    output.result(report.to_dict(), tables.forget_lines(report))
    return 0


def retire(arguments: argparse.Namespace, output: Output) -> int:
    """`retire`: drop what is older than a dataset's retention."""
    config = settings(arguments, output)
    dataset(arguments.dataset)
    tell_store(config, output)
    from airflow_provider_binance import ingest  # heavy, so after what can be refused without it

    gone = ingest.retire(dataset=arguments.dataset, days=arguments.days, config=config)
    document = {
        "schema": SCHEMA,
        "dataset": arguments.dataset,
        "before": iso(gone.end_us),
        "series": gone.series,
        "rows": gone.rows,
    }
    line = f"dropped {plural(gone.rows, 'row')} of {gone.series} series before {iso(gone.end_us)}"
    output.result(document, [line])
    return 0


def _is_meant(report: ForgetReport, config: BinanceConfig) -> bool:
    """Ask; anything but a yes is a no."""
    rows = sum(entry.rows for entry in report.forgotten)
    what = f"{plural(rows, 'row')} and the ledger of {tables.series_of(report)}"
    print(f"Delete {what} from {mask_url(config.store_url)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _selection(arguments: argparse.Namespace) -> dict[str, Any]:
    """What of the store is meant; what is not given is all that is there."""
    refuse_window(arguments)
    return {
        "market": Market.parse(arguments.market).value if arguments.market else None,
        "dataset": dataset(arguments.dataset).name,
        "symbols": arguments.symbol,
        "intervals": arguments.interval,
        "start": arguments.start,
        "end": arguments.end,
    }
