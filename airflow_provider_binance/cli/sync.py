"""`sync`: klines into the table of another service."""

from __future__ import annotations

import argparse
import os

from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.shared import settings, tell_store
from airflow_provider_binance.cli.tables import plural
from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.masking import url_password
from airflow_provider_binance.reports import SCHEMA

#: Where the target may stand in place of the command line, which other users of the machine can see.
TARGET = "BINANCE_DRL_TARGET"


def sync(arguments: argparse.Namespace, output: Output) -> int:
    """`sync drl`: bring drl-trading-ingest's `market_data` up to what the store has."""
    config = settings(arguments, output)
    from airflow_provider_binance.integrations import drl_trading  # heavy

    if arguments.sql:
        sql = drl_trading.state_sql()
        output.text({"schema": SCHEMA, "dialect": "postgresql", "sql": sql}, sql)
        return 0
    target = arguments.target or os.environ.get(TARGET, "").strip()
    if not target:
        raise ConfigError(
            f"--target is missing: the URL of the service's database, postgresql+psycopg://…, or set {TARGET}",
            field="target",
        )
    if password := url_password(target):
        output.keep_secret([password])
    tell_store(config, output)
    report = drl_trading.sync(
        target=target,
        target_schema=arguments.target_schema,
        volume_mode=arguments.volume_mode,
        market=arguments.market,
        symbols=arguments.symbol,
        timeframes=arguments.timeframe,
        full=arguments.full,
        create_table=arguments.create_table,
        config=config,
    )
    lines = [
        f"{one.series.market} {one.series.symbol} {one.series.interval}: {plural(one.read, 'row')} compared, "
        f"{one.inserted} inserted, {one.updated} updated, {one.deleted} deleted"
        for one in report.series
        if one.read or one.deleted
    ]
    lines += [
        f"left out: {one.series.market} {one.series.symbol} {one.series.interval}, {plural(one.rows, 'row')}: "
        f"{one.reason}"
        for one in report.left_out
    ]
    total = plural(report.changed, "row")
    lines.append(f"{report.table}: {total} changed in {len(report.series)} series, volumes by {report.volume_mode}")
    output.result(report.to_dict(), lines)
    return 0
