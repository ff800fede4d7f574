"""What several commands do before their work: settings, windows, and what can be refused without asking anybody."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.connections import environment_settings
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.windows import Instant, check_window, parse_instant

SQLITE = "sqlite:///"


def settings(arguments: argparse.Namespace, output: Output) -> BinanceConfig:
    """The settings, those of Airflow's connections in the environment included; nothing printed from now on has their
    secrets."""
    config = BinanceConfig.load(
        connection=environment_settings(os.environ),
        config_file=getattr(arguments, "config", None),
        store_url=getattr(arguments, "store", None),
        testnet=getattr(arguments, "testnet", None),
        environment=getattr(arguments, "environment", None),
    )
    output.keep_secret(config.secrets())
    return config


def refuse_window(arguments: argparse.Namespace) -> None:
    """Refuse what is wrong with any clock, before a server is asked for its own."""

    def bound(name: str) -> Instant:
        return parse_instant(getattr(arguments, name), now_us=lambda: 0, name=f"--{name}")

    start, end = bound("start"), bound("end")
    texts = (arguments.start or "", arguments.end or "")
    if isinstance(start, int) and isinstance(end, int) and all(text.strip()[-1:] not in "mhdw" for text in texts):
        check_window(start, end)


def refuse_plot(path: str) -> None:
    """Refuse a name that no picture can have, before anything is done for it."""
    target = Path(path)
    if target.suffix.lower() != ".png":
        name = f"{target.stem or 'coverage'}.png"
        raise InputError(f"--plot={path!r}: the picture is a PNG, call it {name!r}")
    if not target.absolute().parent.is_dir():
        raise InputError(f"--plot={path!r}: there is no folder {str(target.absolute().parent)!r}")


def tell_store(config: BinanceConfig, output: Output) -> None:
    """Say where a SQLite store given without a full path lies: it depends on the directory."""
    if not config.store_url.startswith(SQLITE):
        return
    name = config.store_url.removeprefix(SQLITE).split("?")[0]
    if name and name != ":memory:" and not Path(name).is_absolute():
        output.note(f"store: {SQLITE}{Path(name).absolute()} (another one: --store URL or BINANCE_STORE_URL)")
