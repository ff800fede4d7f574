"""Aggregates and trades from the simulator into a store: every row that there was, once, and each hole explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.market import iso
from airflow_provider_binance.records import Series
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.store import open_store
from airflow_provider_binance.windows import parse_instant
from tests.ingest.conftest import Bench

NOW = "2024-06-15T12:30:20Z"
MAKE = Callable[..., Bench]
SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
NAMES = {
    "agg_trades": {"a": "agg_trade_id", "p": "price", "q": "quantity", "nq": "normal_quantity", "f": "first_trade_id",
                   "l": "last_trade_id", "T": "trade_time", "m": "is_buyer_maker", "M": "is_best_match"},
    "trades": {"id": "trade_id", "price": "price", "qty": "quantity", "quoteQty": "quote_quantity",
               "baseQty": "base_quantity", "time": "trade_time", "isBuyerMaker": "is_buyer_maker"},
}  # fmt: skip
DECIMALS = {"price", "quantity", "normal_quantity", "quote_quantity", "base_quantity"}


def make_bench(make: MAKE, market: str = "spot", **more: Any) -> Bench:
    return make(now=NOW, symbols=[f"{market}:{SYMBOL[market]}"], speed=0, trades_per_minute=100, **more)


def load(bench: Bench, market: str, dataset: str, start: str, end: str, **more: Any) -> LoadReport:
    return bench.load(SYMBOL[market], market=market, dataset=dataset, start=start, end=end, intervals=None, **more)


def us(text: str) -> int:
    at = parse_instant(text)
    assert isinstance(at, int)
    return at


def stored(bench: Bench, market: str, dataset: str, start: str, end: str) -> list[dict[str, Any]]:
    """The rows of a window by plain SQL, by id; decimals as numbers, NULL left out."""
    order = f"{dataset.removesuffix('s')}_id"
    names = list(NAMES[dataset].values())
    rows = bench.sql(
        f"SELECT {', '.join(names)} FROM {dataset} WHERE market = '{market}' AND trade_time >= {us(start)} "
        f"AND trade_time < {us(end)} ORDER BY {order}"
    )
    return [
        {n: Decimal(v) if n in DECIMALS else v for n, v in zip(names, row, strict=True) if v is not None}
        for row in rows
    ]


def true(
    bench: Bench, market: str, dataset: str, start: str, end: str, *, fine: bool = False, nq: bool = True
) -> list[dict[str, Any]]:
    """The same by the simulator's own record."""
    kind = "aggTrades" if dataset == "agg_trades" else "trades"
    found = []
    for row in bench.sim.true_ticks(market, kind, SYMBOL[market], start, end, microseconds=fine):
        made: dict[str, Any] = {}
        for key, name in NAMES[dataset].items():
            if key in row and (nq or key != "nq"):
                made[name] = Decimal(row[key]) if name in DECIMALS else int(row[key])
        made["trade_time"] *= 1 if fine else 1000
        found.append(made)
    return found


def ledger(bench: Bench, dataset: str = "agg_trades") -> list[tuple[Any, ...]]:
    return [
        (iso(start), iso(end), state, count)
        for start, end, state, count in bench.sql(
            f"SELECT range_start, range_end, state, row_count FROM coverage WHERE dataset = '{dataset}' "
            "AND state <> 'not_listed' ORDER BY range_start"
        )
    ]


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("dataset", ["agg_trades", "trades"])
def test_an_archive_day_holds_every_row_once(bench: MAKE, market: str, dataset: str) -> None:
    """Of every market: a day's file, its ids in the ledger, and a second load that asks nobody."""
    made = make_bench(bench, market)
    window = "2024-06-13", "2024-06-14"
    report = load(made, market, dataset, *window)
    expected = true(made, market, dataset, *window, nq=False)
    assert stored(made, market, dataset, *window) == expected
    [line] = report.loads
    assert (line.counts.rows_inserted, line.archive_files, line.rest_requests) == (len(expected), 1, 0)
    first, last = (expected[at][f"{dataset.removesuffix('s')}_id"] for at in (0, -1))
    assert made.sql("SELECT state, row_count, first_id, last_id FROM coverage WHERE state <> 'not_listed'") == [
        ("complete", len(expected), first, last)
    ]
    again = load(made, market, dataset, *window)
    assert (again.loads[0].counts.rows_read, made.sim.requests) == (0, [])


@pytest.mark.parametrize(("market", "dataset"), [("spot", "agg_trades"), ("um", "agg_trades"), ("cm", "agg_trades"),
                                                 ("spot", "trades")])  # fmt: skip
def test_rest_is_paged_by_id_after_one_question_by_time(bench: MAKE, market: str, dataset: str) -> None:
    """Spot answers in microseconds because it was asked to; nothing is asked by time but the first id."""
    made = make_bench(bench, market)
    window = "2024-06-15T06:00:00Z", "2024-06-15T11:17:03.123456Z"
    report = load(made, market, dataset, *window)
    expected = true(made, market, dataset, "2024-06-15T06:00:00Z", "2024-06-15T11:18:00Z", fine=market == "spot")
    expected = [row for row in expected if row["trade_time"] < us(window[1])]
    assert len(expected) > 20_000
    assert stored(made, market, dataset, *window) == expected
    asked = [*made.asked("/aggTrades"), *made.asked("/historicalTrades")]
    assert len([each for each in asked if "Time=" in each]) == 1
    assert len(asked) == report.loads[0].rest_requests <= 3 + len(expected) // 1000
    records = [record for record in made.sim.requests if "rades" in record.path]
    units = {name.lower(): each for record in records for name, each in record.headers}
    assert units.get("x-mbx-time-unit", "") == ("MICROSECOND" if market == "spot" else "")
    [(lines,)] = made.sql("SELECT count(*) FROM ingest_log")
    assert lines <= 1 + len(expected) // 1000


def test_the_archive_leaves_the_finer_time_and_what_it_does_not_carry(bench: MAKE) -> None:
    """REST brought microseconds; the file of 2024 has milliseconds of the same rows: unchanged, and now confirmed."""
    made = make_bench(bench)
    window = "2024-06-14T10:00:00Z", "2024-06-14T11:00:00Z"
    load(made, "spot", "agg_trades", *window, source="rest")
    fine = stored(made, "spot", "agg_trades", *window)
    assert fine == true(made, "spot", "agg_trades", *window, fine=True)
    counts = load(made, "spot", "agg_trades", *window, source="archive", reload=True).loads[0].counts
    assert (counts.rows_unchanged, counts.rows_updated, counts.rows_inserted) == (len(fine), 0, 0)
    assert stored(made, "spot", "agg_trades", *window) == fine
    assert made.sql("SELECT count(*) FROM corrections") == [(0,)]
    assert made.sql("SELECT confirmed_by IS NOT NULL FROM coverage WHERE state = 'complete'") == [(1,)]


@pytest.mark.parametrize(
    "hole",
    ["2024-06-13T10:00:00..2024-06-13T10:20:00", "2024-06-13T23:40:00..2024-06-14T00:00:00"],
    ids=["within a file", "at the end of a file"],
)
def test_a_hole_of_the_archive_is_found_by_ids_and_filled_by_rest(bench: MAKE, hole: str) -> None:
    """Within a file the ids tell; at its end those of the next file do."""
    made = make_bench(bench)
    made.sim.add_fault(f"missing-archive=spot:BTCUSDT:aggTrades:{hole}")
    window = "2024-06-13", "2024-06-15"
    report = load(made, "spot", "agg_trades", *window)
    assert 0 < report.loads[0].rest_requests < 10
    got = stored(made, "spot", "agg_trades", *window)
    expected = true(made, "spot", "agg_trades", *window)
    assert [row["agg_trade_id"] for row in got] == [row["agg_trade_id"] for row in expected]
    assert {state for _, _, state, _ in ledger(made)} == {"complete"}
    assert sum(count for *_, count in ledger(made)) == len(expected)
    assert ledger(made)[0][0] == "2024-06-13T00:00:00Z"
    assert ledger(made)[-1][1] == "2024-06-15T00:00:00Z"


def test_what_neither_source_has_is_a_gap_of_the_exchange(bench: MAKE) -> None:
    made = make_bench(bench)
    made.sim.add_fault("missing-both=spot:BTCUSDT:aggTrades:2024-06-13T10:00:00..2024-06-13T10:20:00")
    report = load(made, "spot", "agg_trades", "2024-06-13", "2024-06-14")
    [gap] = report.loads[0].gaps
    assert gap.state == "exchange_gap"
    assert gap.start_us <= us("2024-06-13T10:00:00Z") < us("2024-06-13T10:20:00Z") <= gap.end_us
    assert gap.end_us - gap.start_us < 22 * 60 * 10**6
    load(made, "spot", "agg_trades", "2024-06-13", "2024-06-14")
    assert made.sim.requests == []


def test_nobody_traded_is_no_gap(bench: MAKE) -> None:
    """A halt uses up no ids: they follow one another across it."""
    made = make_bench(bench)
    made.sim.add_fault("halt=spot:BTCUSDT:*:2024-06-15T08:00:00..2024-06-15T10:00:00")
    report = load(made, "spot", "agg_trades", "2024-06-15T07:30:00Z", "2024-06-15T08:30:00Z")
    assert report.loads[0].gaps == ()
    report = load(made, "spot", "agg_trades", "2024-06-15T08:30:00Z", "2024-06-15T09:00:00Z")
    assert (report.loads[0].gaps, report.loads[0].counts.rows_read) == ((), 0)
    [(_, _, state, _)] = ledger(made)
    assert state == "complete"


def test_an_empty_page_is_no_end_of_history(bench: MAKE) -> None:
    """The newest row says otherwise, so the page is asked for again."""
    made = make_bench(bench)
    made.sim.add_fault("empty-page=1@/aggTrades")
    window = "2024-06-15T10:00:00Z", "2024-06-15T11:00:00Z"
    assert load(made, "spot", "agg_trades", *window).loads[0].gaps == ()
    assert stored(made, "spot", "agg_trades", *window) == true(made, "spot", "agg_trades", *window, fine=True)


def test_rows_that_rest_kept_back_are_missed_by_the_next_load(bench: MAKE) -> None:
    """A server that says that its newest row is two hours old is believed, until an id says otherwise."""
    made = make_bench(bench)
    made.sim.add_fault("missing-rest=spot:BTCUSDT:aggTrades:2024-06-15T10:00:00..2024-06-15T12:30:00")
    load(made, "spot", "agg_trades", "2024-06-15T09:30:00Z", "2024-06-15T11:00:00Z")
    made.sim.clear_faults()
    load(made, "spot", "agg_trades", "2024-06-15T11:00:00Z", "2024-06-15T11:30:00Z")
    window = "2024-06-15T09:30:00Z", "2024-06-15T11:30:00Z"
    assert stored(made, "spot", "agg_trades", *window) == true(made, "spot", "agg_trades", *window, fine=True)
    assert {state for _, _, state, _ in ledger(made)} == {"complete"}


def test_what_binance_offers_nowhere_is_unavailable(bench: MAKE) -> None:
    """Aggregates of um older than 48 hours are in the archive or nowhere; the evidence says both."""
    made = make_bench(bench, "um")
    made.sim.add_fault("missing-archive=um:BTCUSDT:aggTrades:2024-06-11T10:00:00..2024-06-11T10:20:00")
    [gap] = load(made, "um", "agg_trades", "2024-06-11", "2024-06-12").loads[0].gaps
    assert gap.state == "unavailable"
    assert "BTCUSDT-aggTrades-2024-06-11.zip" in gap.evidence
    assert "48 h" in gap.evidence
    assert made.asked("/fapi/v1/aggTrades") == []
    recent = load(made, "um", "agg_trades", "2024-06-14", "2024-06-15")
    assert recent.loads[0].gaps == ()


def test_dear_trades_of_futures_wait_for_their_file_unless_forced(bench: MAKE) -> None:
    """historicalTrades wants a key, and weighs 200 for 500 rows."""
    made = make_bench(bench, "um")
    window = "2024-06-15T12:00:00Z", "2024-06-15T12:10:00Z"
    assert [gap.state for gap in load(made, "um", "trades", *window).loads[0].gaps] == ["unpublished"]
    assert made.asked("historicalTrades") == []
    made.config = made.config.model_copy(update={"api_key": None})
    load(made, "um", "trades", *window, source="rest")
    assert made.asked("historicalTrades") == []


def test_forced_trades_of_futures_go_with_the_key(bench: MAKE) -> None:
    made = make_bench(bench, "um")
    settings = made.config.model_dump() | {"api_key": made.sim.api_key, "api_secret": "x" * 64}
    made.config = type(made.config)(**settings)
    window = "2024-06-15T12:00:00Z", "2024-06-15T12:10:00Z"
    load(made, "um", "trades", *window, source="rest")
    assert stored(made, "um", "trades", *window) == true(made, "um", "trades", *window)
    asked = made.asked("historicalTrades")
    assert asked
    assert all("fromId" in each for each in asked)


@pytest.mark.parametrize("fault", ["duplicated", "disordered"])
def test_rows_twice_and_out_of_order_end_as_they_should(bench: MAKE, fault: str) -> None:
    made = make_bench(bench, "um")
    made.sim.add_fault(f"{fault}=um:BTCUSDT:aggTrades:2024-06-13T00:00:00..2024-06-14T00:00:00")
    window = "2024-06-13", "2024-06-14"
    assert load(made, "um", "agg_trades", *window).loads[0].gaps == ()
    assert stored(made, "um", "agg_trades", *window) == true(made, "um", "agg_trades", *window, nq=False)


def test_withdrawn_aggregates_stay_as_binance_shows_them(bench: MAKE) -> None:
    made = make_bench(bench)
    made.sim.add_fault("voided=spot:BTCUSDT:aggTrades:2024-06-15T10:10:00..2024-06-15T10:12:00")
    assert load(made, "spot", "agg_trades", "2024-06-15T10:00:00Z", "2024-06-15T10:30:00Z").loads[0].gaps == ()
    void = made.sql("SELECT DISTINCT price, quantity, first_trade_id, last_trade_id FROM agg_trades WHERE price = '0'")
    assert void == [("0", "0", -1, -1)]
    window = "2024-06-15T10:11:00Z", "2024-06-15T10:13:00Z"
    load(made, "spot", "trades", *window)
    assert stored(made, "spot", "trades", *window) == true(made, "spot", "trades", *window, fine=True)


def test_plan_and_coverage_know_ticks(bench: MAKE) -> None:
    made = make_bench(bench)
    pieces = made.plan(dataset="agg_trades", intervals=None, start="2024-06-13", end="2024-06-15T06:00:00Z")  # type: ignore[arg-type]
    assert [piece["source"] for piece in pieces] == ["archive", "archive", "rest"]
    assert pieces[-1]["ref"] == "/api/v3/aggTrades"
    assert pieces[-1]["weight"] == 4 * pieces[-1]["requests"] > 0
    load(made, "spot", "agg_trades", "2024-06-13", "2024-06-14")
    [told] = ingest.coverage(dataset="agg_trades", config=made.config).to_dict()["coverage"]
    assert told["rows"] == told["expected"] > 100_000
    assert [each["state"] for each in told["ranges"]] == ["complete"]


def test_an_interval_makes_no_sense_for_ticks(bench: MAKE) -> None:
    with pytest.raises(ingest.InputError, match="has no intervals"):
        make_bench(bench).load(dataset="agg_trades", start="2024-06-13", end="2024-06-14")


@pytest.mark.postgres
def test_a_day_into_postgresql(bench: MAKE, postgres_database: str) -> None:
    """The same rows, by COPY; a second look at the file finds nothing to change."""
    made = make_bench(bench, "um")
    window = "2024-06-13", "2024-06-14"
    load(made, "um", "agg_trades", *window, store=postgres_database)
    with open_store(postgres_database) as store:
        rows = list(store.rows("agg_trades", Series("um", "agg_trades", "BTCUSDT"), us(window[0]), us(window[1])))
    expected = true(made, "um", "agg_trades", *window, nq=False)
    assert [(row[0], Decimal(str(row[1])), Decimal(str(row[2])), row[6]) for row in rows] == [
        (row["agg_trade_id"], row["price"], row["quantity"], row["trade_time"]) for row in expected
    ]
    counts = load(made, "um", "agg_trades", *window, store=postgres_database, reload=True).loads[0].counts
    assert counts == replace(counts, rows_read=len(expected), rows_unchanged=len(expected), rows_inserted=0)


def test_what_is_retired_is_not_loaded_again_unless_forced(bench: MAKE) -> None:
    made = make_bench(bench, "um")
    load(made, "um", "agg_trades", "2024-06-12", "2024-06-13")
    with pytest.raises(ingest.InputError, match="retention_days"):
        ingest.retire(dataset="agg_trades", config=made.config)
    made.config = made.config.model_copy(update={"retention_days": {"agg_trades": 1}})
    gone = ingest.retire(dataset="agg_trades", config=made.config)
    assert (iso(gone.end_us), gone.series, gone.rows > 50_000) == ("2024-06-14T00:00:00Z", 1, True)
    assert made.sql("SELECT count(*) FROM agg_trades") == [(0,)]
    again = load(made, "um", "agg_trades", "2024-06-12", "2024-06-13")
    assert ([gap.state for gap in again.loads[0].gaps], made.sim.requests) == (["retired"], [])
    assert load(made, "um", "agg_trades", "2024-06-12", "2024-06-13", reload=True).loads[0].gaps == ()
