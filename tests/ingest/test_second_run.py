"""Twice is the same as once: a second load asks nobody and writes nothing, on both stores."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.errors import EnvironmentMismatchError
from airflow_provider_binance.store import open_store

WINDOW = {"market": "spot", "symbols": "BTCUSDT", "intervals": ["1m", "1h"], "start": "2024-05-30", "end": "2024-06-12"}


def _written(url: str) -> object:
    """What changes when anything is written: the file's hash, or PostgreSQL's own counts and the table contents."""
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///"))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in file.parent.glob(file.name + "*")}
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("select pg_stat_force_next_flush()")
        return connection.execute(
            "select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by 1"
        ).fetchall()


def test_a_second_run_asks_nobody_and_writes_nothing(bench, store_url):
    """No request reaches the simulator, no row or ledger line is touched; the report has zero counts and exit 0."""
    it = bench()
    it.sim.add_fault("missing-both=BTCUSDT:1m:2024-06-03T03:00:00Z..2024-06-03T03:05:00Z")
    with open_store(store_url) as store:
        first = ingest.load(store=store, config=it.config, **WINDOW)
    assert first.counts.rows_inserted == 13 * 1440 - 5 + 13 * 24
    before = _written(store_url)
    it.sim.clear_requests()
    with open_store(store_url) as store:
        second = ingest.load(store=store, config=it.config, **WINDOW)
    assert it.sim.requests == []
    assert _written(store_url) == before
    assert second.exit_status == 0
    assert second.counts == type(second.counts)()
    assert [gap.state for load in second.loads for gap in load.gaps] == ["exchange_gap"]


def test_a_reload_of_equal_rows_updates_nothing(bench, store_url):
    """Archive → REST → archive: all rows are compared, none is written."""
    it = bench()
    ingest.load(store=store_url, config=it.config, **WINDOW)
    for source in ("rest", "archive", "auto"):
        again = ingest.load(store=store_url, config=it.config, reload=True, source=source, **WINDOW)
        counts = again.counts
        assert (counts.rows_inserted, counts.rows_updated) == (0, 0), source
        assert counts.rows_unchanged == counts.rows_read > 0


@pytest.mark.parametrize("arguments", [{"start": "2024-06-11", "end": "2024-06-14"}, {"start": "2024-05-20"}])
def test_only_what_is_missing_is_fetched(bench, store_url, arguments):
    """An overlapping window costs its new part only."""
    it = bench()
    ingest.load(store=store_url, config=it.config, **WINDOW)
    report = ingest.load(store=store_url, config=it.config, **{**WINDOW, **arguments})
    counts = report.counts
    days = 2 if "end" in arguments else 10
    assert counts.rows_read == counts.rows_inserted == days * (1440 + 24)


def test_a_store_belongs_to_one_environment(bench, store_url):
    """Data of another environment is refused, and nothing is written."""
    it = bench()
    ingest.load(store=store_url, config=it.config, **WINDOW)
    other = it.config.model_copy(update={"environment": "production"})
    with pytest.raises(EnvironmentMismatchError, match=r"simulator.*production|production.*simulator"):
        ingest.load(store=store_url, config=other, **{**WINDOW, "end": "2024-06-14"})
