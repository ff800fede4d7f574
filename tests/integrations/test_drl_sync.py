"""The sync into the service's own table: incremental, idempotent, resumable, and true to the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_provider_binance.cli import main
from airflow_provider_binance.errors import InputError, StoreRightsError
from airflow_provider_binance.integrations import drl_sync
from airflow_provider_binance.integrations.drl_trading import VolumeMode, install_view, sync
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rows import TupleRows
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.store.inspection import Held
from tests.fix_postgres import database_of, driver_url
from tests.integrations import reader
from tests.integrations.scene import fill, shown
from tests.store.helpers import EVER, SERIES, T0, at, batch_of, kline, klines, plain

pytestmark = pytest.mark.postgres

ETH = Series("spot", "klines", "ETHUSDT", "1m")
_COLUMNS = 'symbol, timeframe, "timestamp", open_price, high_price, low_price, close_price, volume'


@pytest.fixture
def target(postgres_url: str) -> Iterator[str]:
    """The service's database, where its own migration made the table."""
    with database_of(postgres_url, "drl_target") as url:
        reader.Base.metadata.create_all(engine := create_engine(url))
        engine.dispose()
        yield url


@pytest.fixture
def store(postgres_database: str) -> Iterator[Store]:
    with open_store(postgres_database) as opened:
        yield opened


def counts(report: Any) -> tuple[int, int, int]:
    """Inserted, updated, deleted."""
    made = report.series
    return sum(s.inserted for s in made), sum(s.updated for s in made), sum(s.deleted for s in made)


def same(store: Store, store_url: str, target: str) -> bool:
    """Whether the table has what the view shows."""
    install_view(store)
    return shown(target, "public.market_data") == shown(store_url)


def test_a_second_run_finds_nothing_to_do(store: Store, postgres_database: str, target: str) -> None:
    """It reads no rows either; a reader written from the contract works on the table."""
    store.write(klines(0, 100))
    store.write(klines(0, 30, series=Series("um", "klines", "BTCUSDT", "1m")))
    assert counts(sync(target=target, store=store)) == (130, 0, 0)
    again = sync(target=target, store=store)
    assert counts(again) == (0, 0, 0)
    assert sum(one.read for one in again.series) == 0
    assert same(store, postgres_database, target)
    engine = create_engine(target)
    with Session(engine) as session:
        rows = session.scalars(reader.page("BTCUSDT.P", "1m", 10, 25)).all()
        assert len([reader.MarketDataModel.model_validate(row) for row in rows]) == 5
    engine.dispose()


def test_what_came_late_was_corrected_or_is_gone_is_carried_over(
    store: Store, postgres_database: str, target: str
) -> None:
    """Behind whatever was synced before: gaps that are filled, better sources, rows withdrawn, ranges forgotten."""
    store.write(klines(0, 10))
    store.write(klines(20, 30))
    assert counts(sync(target=target, store=store)) == (20, 0, 0)
    store.write(klines(10, 20))
    assert counts(sync(target=target, store=store)) == (10, 0, 0)
    store.write(klines(3, 5, source=Source.ARCHIVE, confirmed_by="ab" * 32, close="1.75"))
    assert counts(sync(target=target, store=store)) == (0, 2, 0)
    assert same(store, postgres_database, target)
    withdrawn = store.withdraw(SERIES, rows=[Held(at(7), at(7) + 1)], source=Source.REST, seen_line=1000)
    assert withdrawn.rows == 1
    assert counts(sync(target=target, store=store)) == (0, 0, 1)
    store.forget(SERIES, at(25), at(40))
    assert counts(sync(target=target, store=store)) == (0, 0, 5)
    assert same(store, postgres_database, target)
    store.forget(SERIES, *EVER)
    store.write(klines(2, 4, close="1.9"))
    assert counts(sync(target=target, store=store)) == (0, 2, 22)
    assert same(store, postgres_database, target)
    assert counts(sync(target=target, store=store)) == (0, 0, 0)


def test_a_stream_is_followed(store: Store, postgres_database: str, target: str) -> None:
    """Its flushes have one line for all series; coverage and corrections tell what they brought."""
    store.write(klines(0, 5))
    store.write(klines(0, 5, series=ETH))
    sync(target=target, store=store)
    line = LedgerLine(Source.STREAM, "stream", T0, "run")
    for first, close in ((5, "1.5"), (6, "1.6"), (6, "1.7")):
        batches = []
        for series in (SERIES, ETH):
            rows = TupleRows(KLINES, [kline(first, close=close)])
            covered = [CoverageRange(at(first), at(first + 1), State.COMPLETE, 1, checked_at_us=T0)]
            batches.append(Batch(KLINES, series, at(first), at(first + 1), rows, line, covered))
        store.write_flush(batches, line)
        expected = (0, 2, 0) if close == "1.7" else (2, 0, 0)
        assert counts(sync(target=target, store=store)) == expected
        assert same(store, postgres_database, target)


def test_rows_of_the_service_itself_stay(store: Store, target: str) -> None:
    """Outside of what the store has, and at instants that it lacks; `full` is for one that shall equal the store."""
    store.write(klines(0, 5))
    store.write(batch_of([kline(5), kline(7)], 5, 8, coverage=[
        CoverageRange(at(5), at(8), State.COMPLETE, 2, checked_at_us=T0)]))  # fmt: skip
    foreign = f"INSERT INTO market_data ({_COLUMNS}) VALUES ('BTCUSDT', '1m', %s, 1, 1, 1, 1, 1)"
    for minute in (6, 100):
        plain(target, foreign, [f"2024-01-01T{minute // 60:02}:{minute % 60:02}:00Z"])
    plain(target, foreign.replace("BTCUSDT", "SOLUSDT"), ["2024-01-01T00:00:00Z"])
    assert counts(sync(target=target, store=store)) == (7, 0, 0)
    assert len(shown(target, "market_data")) == 10
    plain(target, "DELETE FROM market_data WHERE \"timestamp\" = '2024-01-01T00:02:00Z'")
    plain(target, "UPDATE market_data SET volume = 77 WHERE \"timestamp\" = '2024-01-01T00:03:00Z'")
    assert counts(sync(target=target, store=store)) == (0, 0, 0)
    assert counts(sync(target=target, store=store, full=True)) == (1, 1, 1)
    assert [row[0] for row in shown(target, "market_data")] == ["BTCUSDT"] * 8 + ["SOLUSDT"]


@pytest.mark.parametrize("mode", VolumeMode)
def test_volumes_are_those_of_the_view(store: Store, postgres_database: str, target: str, mode: VolumeMode) -> None:
    """By each mode; what does not fit is left out and named, and so is a row that no longer fits."""
    column = "quote_volume" if mode == "quote" else "volume"
    texts = ["0", "0.4", "0.5", "0.9", "92233720368.54775807", "92233720369", "1e19", "123.456789"]
    store.write(batch_of([kline(i, **{column: text}) for i, text in enumerate(texts)], 0, 8))
    report = sync(target=target, store=store, volume_mode=mode)
    install_view(store, volume_mode=mode)
    assert shown(target, "market_data") == shown(postgres_database)
    [out] = report.left_out
    assert (out.rows, out.reason) == (2 if mode == "scale_1e8" else 1, "volume does not fit into bigint")
    assert sync(target=target, store=store).volume_mode == mode
    store.write(batch_of([kline(0, **{column: "1e30"})], 0, 1, source=Source.ARCHIVE, sha256="cd" * 32))
    assert counts(sync(target=target, store=store)) == (0, 0, 1)


def test_another_mode_writes_every_row_again(store: Store, target: str) -> None:
    store.write(klines(0, 10, volume="0.9"))
    sync(target=target, store=store)
    assert counts(sync(target=target, store=store, volume_mode="scale_1e8")) == (0, 10, 0)
    assert {row[-1] for row in shown(target, "market_data")} == {90_000_000}


def test_series_that_the_table_cannot_have_are_named(store: Store, target: str) -> None:
    long = Series("um", "klines", "A" * 19, "1m")
    store.write(klines(0, 5, series=long))
    store.write(klines(0, 3, series=Series("cm", "klines", "BTCUSD_PERP", "1m"), quote_volume=None))
    store.write(batch_of([kline(0)], 0, 3, series=Series("spot", "klines", "BTCUSDT", "3m")))
    report = sync(target=target, store=store, volume_mode="quote")
    assert [(one.series.symbol, one.reason, one.rows) for one in report.left_out] == [
        ("BTCUSDT", "interval is none of 1m 5m 15m 30m 1h 4h 1d 1w 1M", 1),
        ("A" * 19, "symbol with its suffix is longer than 20 characters", 5),
        ("BTCUSD_PERP", "has no quote volume", 3),
    ]
    assert shown(target, "market_data") == []


def test_sqlite_stores_are_synced_too(tmp_path: Path, target: str) -> None:
    """Only the table must be in PostgreSQL."""
    with open_store(tmp_path / "s.db") as store:
        store.write(klines(0, 50, volume="0.9"))
        assert counts(sync(target=target, store=store)) == (50, 0, 0)
        store.write(klines(3, 4, source=Source.ARCHIVE, confirmed_by="ab" * 32, volume="2"))
        assert counts(sync(target=target, store=store)) == (0, 1, 0)
        store.forget(SERIES, at(40), at(50))
        assert counts(sync(target=target, store=store)) == (0, 0, 10)
    assert {(row[-1], row[4]) for row in shown(target, "market_data")} == {(1, 2.0), (2, 2.0)}


def test_the_store_and_the_table_may_share_a_database(store: Store, postgres_database: str) -> None:
    store.write(klines(0, 10))
    assert counts(sync(target=postgres_database, store=store, target_schema="svc", create_table=True)) == (10, 0, 0)
    install_view(store)
    assert shown(postgres_database, "svc.market_data") == shown(postgres_database)


def test_a_table_that_was_made_anew_is_filled_anew(store: Store, target: str) -> None:
    store.write(klines(0, 10))
    sync(target=target, store=store)
    plain(target, "DROP TABLE market_data")
    assert counts(sync(target=target, store=store, create_table=True)) == (10, 0, 0)


def test_words_and_tables_that_cannot_be_are_refused(store: Store, postgres_database: str, target: str) -> None:
    store.write(klines(0, 1))
    for words, said in (
        ({"timeframes": "3m"}, "no timeframe of the service"), ({"symbols": "XXX"}, "no klines of 'XXX'"),
        ({"market": "moon"}, "unknown market"), ({"volume_mode": "floor"}, "unknown volume mode"),
        ({"target_schema": "nowhere"}, "has no table nowhere.market_data"),
        ({"target": "sqlite:///x.db"}, "PostgreSQL"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            sync(**{"target": target, "store": store, **words})  # type: ignore[arg-type]
    install_view(store)
    with pytest.raises(InputError, match="is no table"):
        sync(target=postgres_database, target_schema="drl", store=store)
    plain(target, "ALTER TABLE market_data DROP CONSTRAINT market_data_pkey")
    with pytest.raises(InputError, match="no unique key"):
        sync(target=target, store=store)


def test_the_selection_is_of_the_store(store: Store, target: str) -> None:
    store.write(klines(0, 10))
    store.write(klines(0, 10, series=ETH))
    assert [one.series for one in sync(target=target, store=store, symbols="ETH*", timeframes=["1m"]).series] == [ETH]
    assert counts(sync(target=target, store=store)) == (10, 0, 0)


def test_a_role_with_no_more_rights_than_it_needs(store: Store, target: str) -> None:
    """The owner runs what `sync drl --sql` prints."""
    store.write(klines(0, 10))
    plain(target, "CREATE ROLE drl_writer LOGIN")
    try:
        plain(target, "GRANT SELECT, INSERT, UPDATE, DELETE ON market_data TO drl_writer")
        poor = target.replace("postgres@", "drl_writer@")
        with pytest.raises(StoreRightsError, match="sync drl --sql"):
            sync(target=poor, store=store)
        from airflow_provider_binance.integrations.drl_trading import state_sql

        plain(target, state_sql())
        plain(target, "GRANT USAGE ON SCHEMA binance_sync TO drl_writer")
        plain(target, "GRANT SELECT, INSERT, UPDATE ON binance_sync.drl_series TO drl_writer")
        assert counts(sync(target=poor, store=store)) == (10, 0, 0)
    finally:
        plain(target, "DROP OWNED BY drl_writer")
        plain(target, "DROP ROLE drl_writer")


def test_a_sync_that_is_killed_is_gone_on_with(store: Store, postgres_database: str, target: str) -> None:
    """kill -9 between pieces: what was committed stays, and is not read again."""
    minutes = 60_000
    fill(store, postgres_database, ["BTCUSDT"], minutes)
    child = f"""
import os, signal
from airflow_provider_binance.integrations import drl_sync, drl_target
drl_sync.PIECE_ROWS = 10_000
write, pieces = drl_target.Target.write, []
def counted(*given, **named):
    pieces.append(write(*given, **named))
    if len(pieces) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return pieces[-1]
drl_target.Target.write = counted
drl_sync.sync(target={target!r}, store={postgres_database!r})
"""
    died = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=120, env=os.environ)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert plain(target, "SELECT count(*) FROM market_data") == [(30_000,)]
    [one] = sync(target=target, store=store).series
    assert (one.read, one.inserted, one.updated) == (30_000, 30_000, 0)
    assert same(store, postgres_database, target)
    assert counts(sync(target=target, store=store)) == (0, 0, 0)


def test_pieces_are_small_and_two_syncs_take_turns(store: Store, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drl_sync, "PIECE_ROWS", 7)
    store.write(klines(0, 50))
    assert counts(sync(target=target, store=store)) == (50, 0, 0)
    with psycopg.connect(driver_url(target), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [0x64726C73])
        child = (
            "from airflow_provider_binance.integrations.drl_trading import sync\n"
            f"print(sync(target={target!r}, store={store.server_url!r}).changed)"
        )
        waiting = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
        blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while plain(target, blocked) == [(0,)]:
            assert waiting.poll() is None
    assert waiting.communicate(timeout=60)[0].strip() == "0"


def test_the_command_line(store: Store, postgres_database: str, target: str, capsys: pytest.CaptureFixture[str],
                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    store.write(klines(0, 10))
    assert main(["sync", "drl", "--store", postgres_database]) == 2
    assert "--target is missing" in capsys.readouterr().err
    assert main(["sync", "drl", "--store", postgres_database, "--target", target, "--timeframe", "1m"]) == 0
    out = capsys.readouterr().out
    assert "spot BTCUSDT 1m: 10 rows compared, 10 inserted, 0 updated, 0 deleted" in out
    assert "public.market_data: 10 rows changed in 1 series, volumes by round" in out
    monkeypatch.setenv("BINANCE_DRL_TARGET", target)
    assert main(["sync", "drl", "--store", postgres_database, "--json"]) == 0
    assert '"rows_inserted": 0' in capsys.readouterr().out
    assert main(["sync", "drl", "--sql"]) == 0
    assert "CREATE TABLE IF NOT EXISTS binance_sync.drl_series" in capsys.readouterr().out
    secret = target.replace("postgres@", "nobody:geheim@")
    assert main(["sync", "drl", "--store", postgres_database, "--target", secret]) == 5
    assert "geheim" not in "".join(capsys.readouterr())
