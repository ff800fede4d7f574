"""`migrate --compat`: the view of another service beside the store's own tables."""

from __future__ import annotations

import argparse
from typing import Any

from airflow_provider_binance.cli.tables import plural
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.masking import mask_url


def refuse(arguments: argparse.Namespace) -> None:
    """Refuse options that mean nothing without `--compat`."""
    for option in ("compat_schema", "volume_mode"):
        if getattr(arguments, option) and not arguments.compat:
            raise InputError(f"--{option.replace('_', '-')} goes with --compat drl")


def refuse_store(config: BinanceConfig) -> None:
    """Refuse a database that cannot have the view, before anything is made there."""
    if not config.store_url.startswith("postgresql"):
        raise InputError(
            f"--compat drl needs PostgreSQL, and the store is {mask_url(config.store_url)}: give --store "
            "postgresql+psycopg://… or set BINANCE_STORE_URL"
        )


def script(arguments: argparse.Namespace, dialect: str, config: BinanceConfig) -> str:
    """The DDL of the view."""
    from airflow_provider_binance.integrations.drl_trading import SCHEMA, VolumeMode, view_sql

    if dialect != "postgresql":
        raise InputError(f"--compat drl needs PostgreSQL, and the DDL is for {dialect}: add --dialect postgresql")
    mode = VolumeMode.parse(arguments.volume_mode or VolumeMode.ROUND)
    return view_sql(arguments.compat_schema or SCHEMA, mode, config.store_schema)


def install(arguments: argparse.Namespace, config: BinanceConfig) -> tuple[dict[str, Any], list[str]]:
    """Make the view; returns what is said of it as a document and as lines."""
    from airflow_provider_binance.integrations.drl_trading import SCHEMA, VolumeMode, install_view
    from airflow_provider_binance.store import open_store

    mode = VolumeMode.parse(arguments.volume_mode) if arguments.volume_mode else None
    with open_store(config.store_url, schema=config.store_schema) as store:
        made = install_view(store, schema=arguments.compat_schema or SCHEMA, volume_mode=mode)
    document: dict[str, Any] = {
        "service": "drl",
        "schema": made.schema,
        "volume_mode": made.volume_mode,
        "series": made.series,
        "branches": made.branches,
        "left_out": None if made.left_out is None else [entry._asdict() for entry in made.left_out],
    }
    lines = [f"made the view {made.schema}.market_data of {made.series} series, volumes by {made.volume_mode}"]
    if made.left_out is None:
        lines.append(f"looking for rows that it leaves out took too long: ask {made.schema}.left_out")
    lines += [
        f"left out: {entry.market} {entry.symbol} {entry.interval}, {plural(entry.rows, 'row')} from {entry.first} to "
        f"{entry.last}: {entry.reason}"
        for entry in made.left_out or []
    ]
    return document, lines
