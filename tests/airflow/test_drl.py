"""`BinanceDrlSyncOperator`: the connections' databases, the report as XCom, and an end that a retry goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTerminated

from airflow_provider_binance.integrations import drl_target
from airflow_provider_binance.operators.binance import BinanceDrlSyncOperator
from airflow_provider_binance.store import Store, open_store
from tests.fix_postgres import database_of
from tests.integrations.scene import shown
from tests.store.helpers import klines, plain

pytestmark = [pytest.mark.airflow, pytest.mark.postgres]


@pytest.fixture
def store(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AIRFLOW_CONN_INGEST_DEFAULT", connection(postgres_database))
    with open_store(postgres_database) as opened:
        yield opened


@pytest.fixture
def target(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with database_of(postgres_url, "drl_airflow") as url:
        for statement in drl_target.create_table_sql("public"):
            plain(url, statement)
        monkeypatch.setenv("AIRFLOW_CONN_DRL_DEFAULT", connection(url))
        yield url


def connection(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgres://")


def execute(**arguments: Any) -> dict[str, Any]:
    report: dict[str, Any] = BinanceDrlSyncOperator(task_id="sync", **arguments).execute({})
    json.dumps(report)
    return report


def test_what_changed_is_brought_over_once(store: Store, target: str) -> None:
    """Templated arguments are text; nothing new may be a skip."""
    store.write(klines(0, 10, volume="0.9"))
    report = execute(symbols="['BTC*']", timeframes="1m", volume_mode="scale_1e8", market="None", full="False")
    assert (report["rows_inserted"], report["volume_mode"], report["rows_left_out"]) == (10, "scale_1e8", 0)
    assert [one["target_symbol"] for one in report["series"]] == ["BTCUSDT"]
    assert {row[-1] for row in shown(target, "market_data")} == {90_000_000}
    again = execute()
    assert (again["rows_read"], again["series"], again["series_seen"]) == (0, [], 1)
    with pytest.raises(AirflowSkipException):
        execute(skip_on_no_change="True")


def test_errors_are_told_in_airflows_words(store: Store, target: str) -> None:
    store.write(klines(0, 10))
    for arguments, said in (
        ({"symbols": "NONE"}, "no klines of 'NONE'"), ({"full": "perhaps"}, "neither true nor false"),
        ({"target_schema": "nowhere"}, "has no table nowhere.market_data"),
        ({"target_conn_id": "absent"}, "'absent' does not exist"),
    ):  # fmt: skip
        with pytest.raises(AirflowFailException, match=said):
            execute(**arguments)


def test_a_killed_task_is_gone_on_with(store: Store, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece that was being written is rolled back; the next try writes it and the rest."""
    from airflow_provider_binance.integrations import drl_sync

    monkeypatch.setattr(drl_sync, "PIECE_ROWS", 10)
    store.write(klines(0, 50))
    operator = BinanceDrlSyncOperator(task_id="sync")
    stage, calls = drl_target._stage, []

    def killed(*given: Any) -> int:
        calls.append(given)
        if len(calls) == 3:
            with pytest.raises(AirflowTaskTerminated):
                operator.on_kill()
            raise AirflowTaskTerminated("as Airflow's handler of SIGTERM has it")
        return stage(*given)

    monkeypatch.setattr(drl_target, "_stage", killed)
    with pytest.raises(AirflowException, match="What was committed stays"):
        operator.execute({})
    assert len(shown(target, "market_data")) == 20
    report = execute()
    assert (report["rows_read"], report["rows_inserted"]) == (30, 30)
