"""Airflow in tests: connections in the environment, and a metadata database only for those that ask for it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import database_of

if TYPE_CHECKING:
    from tests.airflow.scene import Scene

# Read when Airflow is imported, which no module of this folder does before this one.
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"

pytest.register_assert_rewrite("tests.airflow.scene")

NOW = "2026-11-20T12:00:30Z"
START, END = "2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z"
#: Made up, and to be found nowhere but in requests that need them.
API_KEY = "cAnArYkEy0+/=" + "k" * 51
API_SECRET = "cAnArYsEcReT/+=" + "s" * 49


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A local Binance whose clock stands."""
    symbols = ["BTCUSDT", "ETHUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"]
    with Simulator(seed=7, now=NOW, speed=0, symbols=symbols, limits=False) as simulator:
        yield simulator


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where the ingest database will be."""
    return tmp_path / "ingest.db"


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set an Airflow connection, as JSON in the environment."""

    def set_one(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return set_one


def extras(simulator: Simulator) -> dict[str, Any]:
    """The extras of a `binance` connection to the simulator."""
    return {name.removeprefix("BINANCE_").lower(): value for name, value in simulator.settings.items()}


@pytest.fixture
def connections(simulator: Simulator, store_path: Path, set_connection: Callable[..., None]) -> None:
    """`binance_default` is the simulator, `ingest_default` a SQLite file that is not there yet."""
    set_connection("binance_default", conn_type="binance", extra=extras(simulator))
    set_connection("ingest_default", conn_type="sqlite", host=str(store_path))


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Scene]:
    """The one real Airflow of this folder's tests; it is stopped after the last of them."""
    from tests.airflow.scene import playing

    with database_of(postgres_url, "airflow") as url, playing(tmp_path_factory.mktemp("scene"), url) as scene:
        yield scene


@pytest.fixture(scope="session")
def metadata() -> None:
    """Airflow's metadata database, for `dag.test`."""
    from airflow.utils.db import initdb

    initdb()


def rows_of(path: Path, symbol: str = "%", interval: str = "%") -> list[tuple[Any, ...]]:
    """What the store holds, by plain SQL."""
    query = (
        "SELECT market, symbol, interval, open_time, open, high, low, close, volume, close_time, trade_count "
        "FROM klines WHERE symbol LIKE ? AND interval LIKE ? ORDER BY 1, 2, 3, 4"
    )
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query, (symbol, interval)).fetchall()


def opens_of(path: Path, symbol: str, interval: str) -> list[int]:
    """Open times in µs."""
    return [row[3] for row in rows_of(path, symbol, interval)]
