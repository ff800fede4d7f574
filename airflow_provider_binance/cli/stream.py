"""`stream`: the sidecar."""

from __future__ import annotations

import argparse
import signal

from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.shared import settings, tell_store
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market, parse_interval
from airflow_provider_binance.reports import SCHEMA
from airflow_provider_binance.stream import require_extra

STREAMED = "klines"


def stream(arguments: argparse.Namespace, output: Output) -> int:
    """`stream`: bring what happens into the store, until a signal ends it."""
    config = settings(arguments, output)
    if arguments.market is None and len(config.markets) != 1:
        raise InputError(f"--market is missing, and the settings name {len(config.markets)}: give one of them")
    market = Market.parse(arguments.market) if arguments.market else config.markets[0]
    if other := [name for name in arguments.dataset or [STREAMED] if name != STREAMED]:
        raise InputError(f"--dataset {' '.join(other)}: this version streams {STREAMED} only")
    if not (symbols := arguments.symbol or config.symbols):
        raise InputError("--symbol is missing: give one or more, or set BINANCE_SYMBOLS or symbols: in --config FILE")
    if not (intervals := arguments.interval or config.timeframes):
        raise InputError(
            "--interval is missing: give one or more, or set BINANCE_TIMEFRAMES or timeframes: in --config FILE"
        )
    grids = list(dict.fromkeys(parse_interval(name, market).name for name in intervals))
    require_extra()
    from airflow_provider_binance.stream.subscriptions import Shard  # these need the extra

    shard = Shard.parse(arguments.shard)
    tell_store(config, output)
    from airflow_provider_binance.stream.sidecar import Sidecar

    sidecar = Sidecar(config, market, symbols, grids, shard, health_port=arguments.health_port)
    report = sidecar.run()
    told = [f"{name}: {value}" for name, value in report.to_dict().items()]
    output.result({"schema": SCHEMA, "stream": report.to_dict()}, told)
    return 128 + signal.SIGINT if sidecar.ended_by == signal.SIGINT else 0
