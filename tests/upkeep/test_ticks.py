"""`verify`, `repair` and `forget` of aggregates and trades: ids tell what lacks, and what does not belong."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.stored import config_for, select
from tests.upkeep.conftest import Shop, told

SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
KEYS = {"agg_trades": "agg_trade_id", "trades": "trade_id"}
WINDOW = {"start": "2024-06-13T20:00:00Z", "end": "2024-06-14"}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """One for all tests here: it makes a day's file once."""
    symbols = [f"{market}:{symbol}" for market, symbol in SYMBOL.items()]
    with Simulator(seed=7, symbols=symbols, now="2024-06-15T12:30:20Z", trades_per_minute=100, speed=0) as running:
        yield running


@pytest.fixture
def bench(sim: Simulator, store_url: str) -> Shop:
    """It, and a store."""
    sim.clear_faults()
    return Shop(sim, store_url, config_for(sim, store_url))


def state(it: Shop, dataset: str) -> str:
    """A digest of all rows and of what coverage says, but for when it was asked."""
    rows = select(it.url, f"SELECT * FROM {dataset} ORDER BY market, symbol, {KEYS[dataset]}, trade_time")
    ranges = select(
        it.url,
        "SELECT market, symbol, range_start, range_end, state, row_count, first_id, last_id, confirmed_by "
        "FROM coverage ORDER BY market, symbol, range_start",
    )
    return hashlib.sha256(repr(([tuple(map(str, row)) for row in rows], ranges)).encode()).hexdigest()


def filled(it: Shop, market: str = "um", dataset: str = "agg_trades", **window: Any) -> Shop:
    """The shop with the ticks of an evening."""
    it.load(SYMBOL[market], None, market=market, dataset=dataset, **{**WINDOW, **window})
    return it


def ids_of(it: Shop, dataset: str = "agg_trades") -> list[int]:
    return [row[0] for row in it.sql(f"SELECT {KEYS[dataset]} FROM {dataset}_data ORDER BY 1")]


@pytest.mark.soak
@pytest.mark.parametrize(("market", "dataset"), [("spot", "agg_trades"), ("um", "trades"), ("cm", "agg_trades")])
def test_what_was_loaded_is_found_sound(bench: Shop, market: str, dataset: str) -> None:
    """By itself without a request; row by row against the archive."""
    it = filled(bench, market, dataset)
    alone = it.verify(dataset=dataset)
    assert (alone.findings, it.sim.requests) == ((), [])
    compared = it.verify(dataset=dataset, against="archive")
    assert compared.findings == ()
    [checked] = compared.checked
    assert checked.rows == checked.compared["archive"] == len(ids_of(it, dataset)) > 5_000
    assert [load.bytes_downloaded for load in it.repair(dataset=dataset).loads] == [0]


@pytest.mark.soak
def test_rows_of_rest_are_compared_with_rest_by_id(bench: Shop) -> None:
    """Spot gives microseconds by REST, milliseconds in the files of that year: the same rows."""
    it = filled(bench, "spot", start="2024-06-14T22:00:00Z", end="2024-06-14T23:00:00Z", source="rest")
    assert it.verify(dataset="agg_trades", against=["archive", "rest"]).findings == ()
    it.sql(f"UPDATE agg_trades_data SET quantity = '77' WHERE agg_trade_id = {ids_of(it)[50]}")
    fixed = it.verify(dataset="agg_trades", against="rest", fix=True)
    assert told(fixed.findings) == [("value", "ours", "fixed")]


def test_repair_brings_back_what_was_deleted(bench: Shop) -> None:
    """In the midst, at both ends of a range, and everything: one look finds it, the files give it back."""
    it = filled(bench)
    before, ids = state(it, "agg_trades"), ids_of(it)
    for low, high in ((ids[0], ids[4]), (ids[900], ids[950]), (ids[-3], ids[-1])):
        it.sql(f"DELETE FROM agg_trades_data WHERE agg_trade_id BETWEEN {low} AND {high}")
    report = it.repair(dataset="agg_trades")
    assert told(report.findings) == [("rows_missing", "ours", "fixed")] * 3
    assert sum(finding.rows for finding in report.findings) == 5 + 51 + 3
    assert state(it, "agg_trades") == before
    it.sql("DELETE FROM agg_trades_data")
    lost = it.repair(dataset="agg_trades")
    assert sum(finding.rows for finding in lost.findings) == len(ids)
    assert state(it, "agg_trades") == before
    assert it.repair(dataset="agg_trades").findings == ()
    assert it.asked("/daily/") == []


def test_trades_whose_ids_have_holes_are_counted(bench: Shop) -> None:
    """On futures a hole says nothing, a lower count does."""
    it = filled(bench, "um", "trades")
    before, ids = state(it, "trades"), ids_of(it, "trades")
    assert ids[-1] - ids[0] + 1 > len(ids)
    it.sql(f"DELETE FROM trades_data WHERE trade_id = {ids[500]}")
    assert told(it.verify(dataset="trades").findings) == [("rows_missing", "ours", "open")]
    assert it.verify(dataset="trades", fix=True).exit_status == 0
    assert state(it, "trades") == before


@pytest.mark.soak
def test_a_row_in_the_place_of_another_is_found_by_the_file(bench: Shop) -> None:
    """The count is right, and the id may be one."""
    it = filled(bench, "um", "trades")
    before, ids = state(it, "trades"), ids_of(it, "trades")
    burnt = next(a + 1 for a, b in itertools.pairwise(ids) if b - a > 1)
    it.sql(f"UPDATE trades_data SET trade_id = {burnt} WHERE trade_id = {burnt - 1}")
    assert it.verify(dataset="trades").findings == ()
    found = it.verify(dataset="trades", against="archive")
    assert sorted(told(found.findings)) == [("rows_foreign", "ours", "open"), ("rows_missing", "ours", "open")]
    assert it.verify(dataset="trades", against="archive", fix=True).exit_status == 0
    assert state(it, "trades") == before


def test_a_row_that_cannot_be_is_asked_of_its_file(bench: Shop) -> None:
    it = filled(bench)
    before, ids = state(it, "agg_trades"), ids_of(it)
    it.sql(f"UPDATE agg_trades_data SET price = '-1' WHERE agg_trade_id = {ids[40]}")
    it.sql(f"UPDATE agg_trades_data SET last_trade_id = first_trade_id - 1 WHERE agg_trade_id = {ids[80]}")
    assert told(it.verify(dataset="agg_trades").findings) == [("rule_broken", "unknown", "open")] * 2
    assert it.verify(dataset="agg_trades", fix=True).exit_status == 0
    assert state(it, "agg_trades") == before


@pytest.mark.parametrize(
    ("market", "dataset", "column"),
    [
        ("um", "agg_trades", "is_best_match"),
        pytest.param("spot", "agg_trades", "normal_quantity", marks=pytest.mark.soak),
        pytest.param("spot", "trades", "base_quantity", marks=pytest.mark.soak),
        ("cm", "trades", "quote_quantity"),
    ],
)
def test_values_in_columns_of_other_markets_are_emptied(bench: Shop, market: str, dataset: str, column: str) -> None:
    """By the store alone; what belongs to cm's rows is missed there, what a stream does not say is missed nowhere."""
    it = filled(bench, market, dataset)
    before = state(it, dataset)
    it.sql(f"UPDATE {dataset}_data SET {column} = '1' WHERE {KEYS[dataset]} % 1000 = 0")
    report = it.verify(dataset=dataset)
    assert {str(finding.kind) for finding in report.findings} == {"column_foreign"}
    assert {finding.status for finding in it.verify(dataset=dataset, fix=True).findings} == {"fixed"}
    assert (state(it, dataset), it.sim.requests) == (before, [])
    needed = {"cm": "base_quantity", "spot": "quote_quantity"}
    if dataset == "trades":
        it.sql(f"UPDATE trades_data SET {needed[market]} = NULL WHERE trade_id % 1000 = 0")
        kinds = {str(finding.kind) for finding in it.verify(dataset=dataset).findings}
        assert kinds == ({"rule_broken"} if market == "cm" else set())


def test_gaps_keep_the_rows_on_either_side(bench: Shop) -> None:
    """A gap of ids begins with the row before it: that is no row where there are none."""
    it = bench
    it.sim.add_fault("missing-both=um:BTCUSDT:aggTrades:2024-06-11T10:00:00..2024-06-11T10:20:00")
    it.load("BTCUSDT", None, market="um", dataset="agg_trades", start="2024-06-11", end="2024-06-11T12:00:00Z")
    before = state(it, "agg_trades")
    assert told(it.verify(dataset="agg_trades", against="archive").findings) == [("halt", "binance", "explained")]
    it.sim.clear_faults()
    made_up = (
        "SELECT series_id, {} agg_trade_id + 5, price, quantity, first_trade_id, last_trade_id, {}, is_buyer_maker"
    )
    names = "agg_trade_id, price, quantity, first_trade_id, last_trade_id, trade_time, is_buyer_maker"
    [(_start, last_id)] = it.sql(
        "SELECT c.range_start, d.agg_trade_id FROM coverage c JOIN agg_trades d ON d.trade_time = c.range_start "
        "WHERE c.state = 'unavailable'"
    )
    is_sqlite = it.url.startswith("sqlite")
    day, later = ("", "trade_time + 1000000") if is_sqlite else ("trade_day,", "trade_time + interval '1 second'")
    it.sql(
        f"INSERT INTO agg_trades_data (series_id, {day} {names}) {made_up.format(day, later)} FROM agg_trades_data "
        f"WHERE agg_trade_id = {last_id}"
    )
    assert ("rows_in_gap", "ours", "open") in told(it.verify(dataset="agg_trades").findings)
    it.sim.add_fault("missing-both=um:BTCUSDT:aggTrades:2024-06-11T10:00:00..2024-06-11T10:20:00")
    assert it.verify(dataset="agg_trades", fix=True).exit_status == 0
    assert state(it, "agg_trades") == before


@pytest.mark.soak
def test_another_tools_rows_are_adopted(bench: Shop) -> None:
    """Compared with their file before they are covered."""
    it = filled(bench)
    before, ids = state(it, "agg_trades"), ids_of(it)
    it.sql("DELETE FROM coverage")
    it.sql("DELETE FROM ingest_log")
    it.sql(f"UPDATE agg_trades_data SET quantity = '77' WHERE agg_trade_id = {ids[50]}")
    assert {kind for kind, _, _ in told(it.verify(dataset="agg_trades", fix=True).findings)} == {"rows_uncovered"}
    it.verify(dataset="agg_trades", adopt=True)
    rows = it.sql("SELECT quantity FROM agg_trades WHERE agg_trade_id = %s", ids[50])
    assert str(rows[0][0]) != "77"
    assert it.verify(dataset="agg_trades", against="archive", fix=True, adopt=True).exit_status == 0
    assert len(ids_of(it)) == len(ids)
    assert before


def test_forgetting_and_loading_again(bench: Shop) -> None:
    """Rows, ledger and corrections of the window, and nothing beside it."""
    it = filled(bench)
    before, ids = state(it, "agg_trades"), ids_of(it)
    it.sql(f"UPDATE agg_trades_data SET quantity = '77' WHERE agg_trade_id IN ({ids[10]}, {ids[-10]})")
    it.verify(dataset="agg_trades", against="archive", fix=True)
    assert it.sql("SELECT count(*) FROM corrections") == [(2,)]
    chosen = {
        "market": "um",
        "dataset": "agg_trades",
        "symbols": "BTCUSDT",
        "end": "2024-06-13T22:00:00Z",
        "config": it.config,
    }
    counted = ingest.forget(**chosen, dry_run=True).forgotten
    emptied = ingest.forget(**chosen).forgotten
    assert [each.rows for each in counted] == [each.rows for each in emptied] == [len(ids) - len(ids_of(it))]
    assert emptied[0].corrections == 1
    assert it.sql("SELECT count(*) FROM corrections") == [(1,)]
    assert it.verify(dataset="agg_trades").findings == ()
    it.load("BTCUSDT", None, market="um", dataset="agg_trades", **WINDOW)
    assert state(it, "agg_trades") == before


def test_an_interval_makes_no_sense(bench: Shop) -> None:
    it = bench
    with pytest.raises(InputError, match="has no intervals"):
        it.verify(dataset="agg_trades", intervals="1m")


@pytest.mark.postgres
def test_ids_that_are_there_twice_across_midnight(sim: Simulator, postgres_database: str) -> None:
    """PostgreSQL's key has the day, so that only a look finds them; and rows under a day that is not theirs."""
    sim.clear_faults()
    it = Shop(sim, postgres_database, config_for(sim, postgres_database))
    it.load(
        "BTCUSDT", None, market="um", dataset="agg_trades", start="2024-06-13T23:00:00Z", end="2024-06-14T01:00:00Z"
    )
    before = state(it, "agg_trades")
    names = "series_id, agg_trade_id, price, quantity, first_trade_id, last_trade_id, is_buyer_maker"
    it.sql(
        f"INSERT INTO agg_trades_data ({names}, trade_day, trade_time) SELECT {names}, '2024-06-14', "
        "'2024-06-14T00:00:00.001Z' FROM agg_trades_data WHERE trade_day = '2024-06-13' ORDER BY agg_trade_id DESC "
        "LIMIT 1"
    )
    it.sql("UPDATE agg_trades_data SET trade_time = trade_time + interval '1 day' WHERE agg_trade_id = "
           f"{ids_of(it)[70]}")  # fmt: skip
    found = told(it.verify(dataset="agg_trades").findings)
    assert sorted(found) == [("off_grid", "unknown", "open"), ("rows_misdated", "ours", "open"),
                             ("rows_missing", "ours", "open")]  # fmt: skip
    assert it.verify(dataset="agg_trades", fix=True).exit_status == 0
    assert state(it, "agg_trades") == before
