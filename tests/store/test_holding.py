"""Batches that are held back to commit together: each is whole, and nobody's is lost with another's."""

from __future__ import annotations

import pytest

from airflow_provider_binance.errors import StoreError, StoreUnavailableError
from airflow_provider_binance.records import Batch, Series, WriteResult
from airflow_provider_binance.store import Store, holding, open_store
from tests.store.helpers import EVER, SERIES, batch_of, kline, klines, plain

OTHER = Series("spot", "klines", "ETHUSDT", "1m")


def seen(url: str) -> tuple[int, int, int]:
    """Rows, ledger lines and complete rows by the ledger, as others see them."""
    [rows] = plain(url, "SELECT count(*) FROM klines")
    [lines] = plain(url, "SELECT count(*), coalesce(sum(rows_inserted), 0) FROM ingest_log")
    [known] = plain(url, "SELECT coalesce(sum(row_count), 0) FROM coverage WHERE state = 'complete'")
    assert int(lines[1]) == rows[0]
    return rows[0], lines[0], int(known[0])


def odd(start: int, end: int) -> Batch:
    """A batch with a value that no store takes."""
    return batch_of([kline(i, open=None) for i in range(start, end)], start, end)


def test_all_are_there_when_it_is_left(store: Store, store_url: str) -> None:
    with store.held():
        for begin in (0, 10, 20):
            assert store.write(klines(begin, begin + 10)) == WriteResult(10, rows_inserted=10)
        assert store.write(klines(5, 40)) == WriteResult(35, rows_inserted=10, rows_unchanged=25)
        assert store.row_counts("klines", SERIES, [EVER]) == [40]
    assert seen(store_url) == (40, 4, 40)
    assert store.write(klines(40, 41)).rows_inserted == 1  # what is not within commits at once, as ever
    assert seen(store_url) == (41, 5, 41)


def test_a_batch_that_fails_takes_no_other_with_it(store: Store, store_url: str) -> None:
    """Whoever goes on after it finds the ones before it, and writes on behind them."""
    with store.held():
        store.write(klines(0, 10))
        for begin in (10, 20):
            with pytest.raises(StoreError):
                store.write(odd(begin, begin + 10))
            store.write(klines(begin, begin + 10))
    assert seen(store_url) == (30, 3, 30)


def interrupted(store: Store) -> None:
    with store.held():
        store.write(klines(0, 10))
        store.write(klines(10, 20))
        raise KeyboardInterrupt


def test_an_interrupt_leaves_what_is_written(store: Store, store_url: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(store)
    assert seen(store_url) == (20, 2, 20)


def test_a_first_batch_that_fails_holds_nothing(store: Store, store_url: str) -> None:
    with store.held():
        with pytest.raises(StoreError):
            store.write(odd(0, 10))
        assert plain(store_url, "SELECT count(*) FROM klines") == [(0,)]
        store.write(klines(0, 10, series=OTHER))
    assert seen(store_url) == (10, 1, 10)


@pytest.mark.postgres
def test_others_see_them_when_they_are_committed(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its rows are enough, when another series comes, when something else is done, and when it is called for."""
    monkeypatch.setattr(holding, "HELD_ROWS", 25)
    with open_store(postgres_database) as store:
        store.migrate()
        with store.held() as commit:
            store.write(klines(0, 10))
            store.write(klines(10, 20))
            assert seen(postgres_database) == (0, 0, 0)
            store.write(klines(20, 30))
            assert seen(postgres_database) == (30, 3, 30)
            store.write(klines(30, 40))
            assert seen(postgres_database) == (30, 3, 30)
            commit()
            assert seen(postgres_database) == (40, 4, 40)
            commit()
            store.write(klines(40, 50))
            store.write(klines(0, 10, series=OTHER))
            assert seen(postgres_database) == (50, 5, 50)
            store.record_coverage("klines", OTHER, klines(10, 11, series=OTHER).coverage)
            assert seen(postgres_database) == (60, 6, 61)


@pytest.mark.postgres
def test_a_lost_connection_is_told(postgres_database: str) -> None:
    """What was held back is lost with it, rows and ledger alike; nothing goes on as if it were there."""
    with open_store(postgres_database) as store:
        store.migrate()
        with store.held() as commit:
            store.write(klines(0, 10))
            plain(
                postgres_database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'binance-ingest'",
            )
            with pytest.raises(StoreUnavailableError):
                store.row_counts("klines", SERIES, [EVER])
            with pytest.raises(StoreUnavailableError, match="not committed"):
                commit()
        assert seen(postgres_database) == (0, 0, 0)
        assert store.write(klines(0, 20)).rows_inserted == 20
    assert seen(postgres_database) == (20, 1, 20)


@pytest.mark.postgres
def test_what_the_server_rolled_back_is_no_commit(postgres_database: str) -> None:
    """A statement that fails in between fails the transaction; the server rolls it back without an error."""
    with open_store(postgres_database) as store:
        store.migrate()
        with store.held() as commit:
            store.write(klines(0, 10))
            with pytest.raises(StoreError), store._session():  # type: ignore[attr-defined]
                store._query("SELECT 1 / 0")  # type: ignore[attr-defined]
            with pytest.raises(StoreUnavailableError, match="rolled back"):
                commit()
        assert seen(postgres_database) == (0, 0, 0)
