"""`stream`: the sidecar."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.shared import settings, tell_store
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.reports import SCHEMA
from airflow_provider_binance.stream import require_extra

if TYPE_CHECKING:
    from airflow_provider_binance.stream.selection import Options, Selection
    from airflow_provider_binance.stream.spool import Spool
    from airflow_provider_binance.stream.subscriptions import Shard


def stream(arguments: argparse.Namespace, output: Output) -> int:
    """`stream`: bring what happens into the store, until a signal ends it."""
    config = settings(arguments, output)
    require_extra()
    from airflow_provider_binance.stream.sidecar import Sidecar, StreamReport  # this and the next need the extra
    from airflow_provider_binance.stream.subscriptions import Shard

    selection, options = selection_of(arguments, config, os.environ)
    shard = Shard.parse(arguments.shard) if arguments.shard else options.shard or Shard()
    port = arguments.health_port if arguments.health_port is not None else options.health_port
    tell_store(config, output)
    path = getattr(arguments, "config", None)

    def leave(report: StreamReport) -> None:
        # Threads that wait for a store or a server that does not answer would be waited for.
        status = tell(report)
        sys.stdout.flush()
        os._exit(status)

    def tell(report: StreamReport) -> int:
        told = [f"{name}: {value}" for name, value in report.to_dict().items()]
        output.result({"schema": SCHEMA, "stream": report.to_dict()}, told)
        return 128 + signal.SIGINT if sidecar.ended_by == signal.SIGINT else 0

    with spool_of(arguments, config, shard) as spool:
        sidecar = Sidecar(
            config, selection, shard, health_port=port, file=Path(path) if path else None, spool=spool, leave=leave,
            reselect=lambda: selection_of(arguments, settings(arguments, output), os.environ)[0],
        )  # fmt: skip
        report = sidecar.run()
        sidecar.returned()
    if sidecar.is_mending:
        leave(report)
    return tell(report)


def spool_of(
    arguments: argparse.Namespace, config: BinanceConfig, shard: Shard
) -> AbstractContextManager[Spool | None]:
    """Where is kept on disk what the store does not take in time; None if nowhere.

    Raises:
        LocalStorageError: the folder cannot be used, or another sidecar uses it.
    """
    from airflow_provider_binance.stream.spool import Spool
    from airflow_provider_binance.stream.spooling import SPOOL_BYTES, default_folder

    most = SPOOL_BYTES if arguments.spool_bytes is None else arguments.spool_bytes
    if not most:
        return nullcontext()
    folder = Path(arguments.spool) if arguments.spool else default_folder(config.store_url, shard)
    return Spool(folder, max_bytes=most)


def selection_of(
    arguments: argparse.Namespace, config: BinanceConfig, environ: Mapping[str, str]
) -> tuple[Selection, Options]:
    """What to stream: what the arguments say, else the settings' section `stream`, else their `symbols`, `timeframes`
    and `markets`; and the section's options.

    Raises:
        InputError: nothing is selected, or something that is unknown.
    """
    from airflow_provider_binance.stream.selection import read_section, selected

    told = "BINANCE_STREAM" if environ.get("BINANCE_STREAM") else getattr(arguments, "config", None) or "the settings"
    selection, options = read_section(config.stream, source=told)
    if selection is not None and not (arguments.market or arguments.dataset or arguments.symbol or arguments.interval):
        return selection, options
    if arguments.interval and arguments.dataset and "klines" not in arguments.dataset:
        raise InputError(f"--interval {' '.join(arguments.interval)} is only for klines; leave it out")
    markets = [Market.parse(arguments.market)] if arguments.market else config.markets
    symbols, intervals = arguments.symbol or config.symbols, arguments.interval or config.timeframes
    return selected(markets, symbols, arguments.dataset or (), intervals), options
