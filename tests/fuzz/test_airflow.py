"""Connection extras, the universe, and rendered arguments of tasks with hostile values: clear errors, no secret."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.airflow_connections import store_target
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.connections import binance_settings
from airflow_provider_binance.errors import ConfigError, IngestError
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.operators.binance import BinanceLoadOperator
from airflow_provider_binance.provider_info import get_provider_info
from airflow_provider_binance.universe import parse_universe
from tests.fuzz.hostile import many, values, words

pytestmark = pytest.mark.airflow
SECRET = "cAnArYsEcReT" + "s" * 40
FIELDS = [*BinanceConfig.model_fields, *get_provider_info()["connection-types"][0]["conn-fields"], "x"]


@many(300)
@given(extra=st.one_of(words(), st.dictionaries(st.sampled_from(FIELDS), values(), max_size=3).map(json.dumps)))
def test_extras_of_the_connection(extra: str) -> None:
    """Settings, or a ConfigError that names the connection or the setting and never the secret."""
    connection = Connection(conn_id="binance_default", conn_type="binance", login="key", password=SECRET, extra=extra)
    try:
        config = BinanceConfig.load(connection=binance_settings(connection), environ={})
    except ConfigError as error:
        told = str(error)
    else:
        told = repr(config)
    assert SECRET not in told
    assert len(told) > 20


STORE_FIELDS = {"host": words(), "login": words(), "schema": words(), "port": st.integers(-1, 70_000), "extra": words()}


@many(200)
@given(
    kind=st.sampled_from(["postgres", "sqlite", "mysql", ""]), fields=st.fixed_dictionaries({}, optional=STORE_FIELDS)
)
def test_the_connection_of_the_store(kind: str, fields: dict[str, Any]) -> None:
    """A URL, or a ConfigError; the password is quoted where it has the signs of a URL."""
    connection = Connection(conn_id="ingest_default", conn_type=kind, password=SECRET + "@/?#", **fields)
    try:
        target = store_target(connection)
    except ConfigError as error:
        told = str(error)
    else:
        told = repr(target)
    assert SECRET not in told


ENTRIES = st.dictionaries(st.sampled_from(["symbols", "intervals", "since", "x"]), values(), max_size=4)
MARKETS = st.dictionaries(st.sampled_from(["spot", "um", "cm", "x"]), st.lists(ENTRIES, max_size=2), max_size=2)


@many(300)
@given(st.one_of(words(), values(), MARKETS))
def test_the_universe(value: Any) -> None:
    """Entries, or a ConfigError."""
    with suppress(ConfigError):
        assert parse_universe(value, source="the variable")


@pytest.fixture
def quiet(connections: None, no_pauses: None) -> Iterator[None]:
    """No pauses, no log of hundreds of runs."""
    logger = logging.getLogger("airflow_provider_binance")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


ARGUMENTS: dict[str, tuple[str, ...]] = {
    "market": ("spot",),
    "symbols": ("BTCUSDT", "['BTCUSDT']", "BTCUSDT,ETHUSDT"),
    "intervals": ("1d", '["1d","1w"]'),
    "start": ("2026-11-15", "5d"),
    "end": ("2026-11-18", "now"),
    "dataset": ("klines",),
    "source": ("auto", "rest"),
    "reload": ("False", "1"),
    "confirm": ("0", "true"),
    "jobs": ("1",),
    "priority": ("backfill", "repair"),
    "on_gap": ("warn", "fail"),
    "skip_on_no_change": ("False",),
    "binance_conn_id": ("binance_default",),
    "store_conn_id": ("ingest_default",),
}


@st.composite
def rendered(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments as templates leave them, at most two of them hostile."""
    bad = draw(st.sets(st.sampled_from(sorted(ARGUMENTS)), min_size=1, max_size=2))
    return {
        name: draw(st.sampled_from(good) if name not in bad else words() if "conn_id" in name else values())
        for name, good in ARGUMENTS.items()
    }


@many(150)
@given(arguments=rendered())
def test_params_of_a_run(quiet: None, store_path: Path, arguments: dict[str, Any]) -> None:
    """A task succeeds, is skipped, fails for good with a clear line, or may be retried; rows and ledger agree."""
    operator = BinanceLoadOperator(task_id="load", market="spot", symbols="BTCUSDT")
    for name, value in arguments.items():
        setattr(operator, name, value)
    with suppress(AirflowFailException, AirflowSkipException, IngestError):
        operator.execute({})  # type: ignore[typeddict-item]
    if store_path.exists() and store_path.stat().st_size:
        with closing(sqlite3.connect(store_path)) as database:
            asked = "SELECT (SELECT count(*) FROM klines_data), (SELECT coalesce(sum(row_count), 0) FROM coverage)"
            rows, ledgered = database.execute(asked).fetchone()
        assert rows == ledgered


@many(100)
@given(method=words(), path=words(), params=values(), market=words())
def test_requests_of_users(
    quiet: None, set_connection: Callable[..., None], method: str, path: str, params: Any, market: str
) -> None:
    """The hook's plain request refuses what is none, and asks nobody else than the simulator."""
    hook = BinanceHook()
    try:
        with suppress(IngestError):
            hook.request(method, path, params if isinstance(params, dict) else None, market=market)
    finally:
        hook.close()
