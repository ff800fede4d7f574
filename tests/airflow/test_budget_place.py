"""`rate_limit_store=auto` through every front door: the weight is booked where the ingest database is, only there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from airflow_provider_binance import cli
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.operators.binance import (
    BinanceLoadOperator,
    BinanceRepairOperator,
    BinanceVerifyOperator,
)
from airflow_provider_binance.provider import BinanceDataProvider
from airflow_provider_binance.simulator.server import Simulator
from tests.airflow.conftest import END, START, extras
from tests.fix_postgres import driver_url

SERIES = {"market": "spot", "symbols": ["BTCUSDT"], "intervals": ["1h"]}


def by_cli(command: str = "load") -> None:
    window = ["--market", "spot", "--symbol", "BTCUSDT", "--interval", "1h", "--start", START, "--end", END]
    assert cli.main([command, *window, "--source", "rest"]) == 0


def by_operator() -> None:
    BinanceLoadOperator(task_id="load", source="rest", start=START, end=END, **SERIES).execute({})  # type: ignore[arg-type]


def by_upkeep() -> None:
    """What REST gave is compared with REST, then looked for by the repair."""
    by_operator()
    BinanceVerifyOperator(task_id="verify", against="rest", **SERIES).execute({})  # type: ignore[arg-type]
    BinanceRepairOperator(task_id="repair", early=True, **SERIES).execute({})  # type: ignore[arg-type]


def by_hook() -> None:
    """What is not stored counts there, too: `get_conn()` and a request of one's own."""
    with closing(BinanceHook()) as hook:
        hook.get_conn().get_klines(symbol="BTCUSDT", interval="1h", limit=5)
        hook.request("GET", "/api/v3/exchangeInfo", {"symbol": "BTCUSDT"})
        hook.get_klines("BTCUSDT", "1h", START, END)


def by_provider() -> None:
    frame = asyncio.run(BinanceDataProvider().get_historical_data("BTCUSDT", "1h", START, END))
    assert len(frame) == 24


WAYS = [by_cli, by_operator, by_upkeep, by_hook, by_provider]


@pytest.fixture
def settings(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, set_connection: Callable[..., None]) -> None:
    """The simulator, by environment and by connection; nothing says where the budget lives."""
    for name, value in simulator.settings.items():
        monkeypatch.setenv(name, value)
    set_connection("binance_default", conn_type="binance", extra=extras(simulator))
    assert BinanceConfig.load().rate_limit_store == "auto"


def booked(values: list[Any], simulator: Simulator) -> int:
    """The weight in this minute of the simulator, which stands still; this host's own is only known to be wrong."""
    minute = str(simulator.now_ms() // 60_000)
    return sum(value["windows"][minute][0] for value in values if minute in value["windows"])


def budget_file() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"], "airflow-provider-binance", "budget.json")


def spent(simulator: Simulator) -> int:
    return sum(record.weight for record in simulator.requests)


@pytest.mark.postgres
@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("use", WAYS)
def test_with_a_postgresql_store_the_budget_is_in_it(
    use: Callable[[], None], simulator: Simulator, postgres_database: str, monkeypatch: pytest.MonkeyPatch,
    set_connection: Callable[..., None],
) -> None:  # fmt: skip
    url = urlsplit(postgres_database)
    set_connection(
        "ingest_default", conn_type="postgres", host=url.hostname, port=url.port, login=url.username,
        schema=url.path.removeprefix("/"),
    )  # fmt: skip
    monkeypatch.setenv("BINANCE_STORE_URL", postgres_database)
    use()
    with psycopg.connect(driver_url(postgres_database)) as database:
        values = [json.loads(value) for (value,) in database.execute("SELECT value FROM binance_budget.pools")]
    assert booked(values, simulator) == spent(simulator) > 0
    assert not budget_file().exists()


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("use", WAYS)
def test_with_a_sqlite_store_the_budget_is_in_the_users_file(
    use: Callable[[], None], simulator: Simulator, store_path: Path, monkeypatch: pytest.MonkeyPatch,
    set_connection: Callable[..., None],
) -> None:  # fmt: skip
    set_connection("ingest_default", conn_type="sqlite", host=str(store_path))
    monkeypatch.setenv("BINANCE_STORE_URL", f"sqlite:///{store_path}")
    use()
    values = [value for _, value in json.loads(budget_file().read_text())["values"].values()]
    assert booked(values, simulator) == spent(simulator) > 0
