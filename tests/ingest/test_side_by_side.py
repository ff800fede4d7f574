"""Several series at once, each over its own connection: the same store as one by one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.errors import InputError, StoreError
from airflow_provider_binance.store import open_store
from airflow_provider_binance.store.sql import SqlStore

SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
WINDOW = {"market": "spot", "symbols": SYMBOLS, "intervals": ["1m"], "start": "2024-06-10", "end": "2024-06-15"}
TOLD = (0, 2**60)


def _rows(url: str) -> list[list[tuple[Any, ...]]]:
    with open_store(url) as store:
        return [list(store.rows("klines", series, *TOLD)) for series in store.series("klines")]


def test_series_are_written_side_by_side(bench, store_url, tmp_path, monkeypatch):
    """Two series' batches are under way at one time in PostgreSQL; SQLite has one writer. Both hold the same."""
    it = bench(symbols=SYMBOLS)
    meeting = threading.Barrier(2)
    met: list[bool] = []
    real = SqlStore.write

    def write(self: SqlStore, batch: Any) -> Any:
        if self.dialect == "postgresql" and not met:
            meeting.wait(60)  # passes when two threads write
            met.append(True)
        return real(self, batch)

    monkeypatch.setattr(SqlStore, "write", write)
    told: list[tuple[float, float]] = []
    report = ingest.load(
        store=store_url, config=it.config, connections=2, on_progress=lambda p: told.append((p.done, p.total)), **WINDOW
    )
    assert report.counts.rows_inserted == 3 * 5 * 1440
    assert report.exit_status == 0
    assert told[-1] == (15, 15)
    monkeypatch.undo()

    alone = f"sqlite:///{tmp_path / 'alone.db'}"
    ingest.load(store=alone, config=it.config, **WINDOW)
    assert _rows(store_url) == _rows(alone)


@pytest.mark.postgres
def test_an_error_of_one_stops_the_others(bench, postgres_database, monkeypatch):
    """The error is the one that happened; the same call goes on from what was committed."""
    it = bench(symbols=SYMBOLS)
    real = SqlStore.write

    def write(self: SqlStore, batch: Any) -> Any:
        if batch.series.symbol == "ETHUSDT":
            raise StoreError("no room")
        return real(self, batch)

    monkeypatch.setattr(SqlStore, "write", write)
    with pytest.raises(StoreError, match="no room"):
        ingest.load(store=postgres_database, config=it.config, connections=3, **WINDOW)
    monkeypatch.undo()
    again = ingest.load(store=postgres_database, config=it.config, connections=3, **WINDOW)
    assert again.exit_status == 0
    assert [len(rows) for rows in _rows(postgres_database)] == [5 * 1440] * 3


def test_connections_are_a_sensible_number(bench):
    with pytest.raises(InputError, match=r"connections=0 must be 1 … 64"):
        ingest.load(config=bench().config, connections=0, **WINDOW)
