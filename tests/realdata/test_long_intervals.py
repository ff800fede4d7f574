"""Weeks, three-day candles and months across the ends of archive files, which hold a candle that was still forming."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.simulator.server import Simulator
from tests.realdata.conftest import asked_for_klines
from tests.realdata.reader import instant, rest_rows
from tests.realdata.stored import assert_same, config_for, states, stored

DAY = 86_400_000_000
NOW = "2026-06-01T12:00:00Z"
START, END = "2025-10-01T00:00:00Z", "2026-03-01T00:00:00Z"
SYMBOLS = {"spot": "BTCUSDT", "um": "ETHUSDT", "cm": "BTCUSD_PERP"}

#: Open times of the candles that a file's end cuts, and how many days they last. Worked out by hand: weeks begin on
#: Mondays, three-day candles are counted from 1970-01-02.
CUT = {
    "1w": (7, ["2025-10-27", "2025-12-29", "2026-01-26", "2026-02-23"]),
    "3d": (3, ["2025-10-31", "2025-11-30", "2025-12-30", "2026-02-28"]),
    "1M": (31, []),
}


@pytest.fixture(scope="module")
def _market() -> Iterator[Simulator]:
    symbols = [f"{market}:{symbol}" for market, symbol in SYMBOLS.items()]
    with Simulator(seed=7, symbols=symbols, now=NOW) as simulator:
        yield simulator


@pytest.fixture
def simulator(_market: Simulator) -> Simulator:
    _market.clear_faults()
    _market.set_clock(NOW)
    _market.clear_requests()
    _market.reset_limits()
    return _market


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("interval", ["1w", "3d", "1M"])
def test_the_candle_that_a_file_cuts_comes_from_rest(
    simulator: Simulator, store_url: str, market: str, interval: str
) -> None:
    """The archive alone leaves it out, whole and due at once; then REST brings that candle and nothing else."""
    symbol, (days, cut) = SYMBOLS[market], CUT[interval]
    config = config_for(simulator, store_url)

    def load(source: str) -> LoadReport:
        return ingest.load(
            market=market, symbols=symbol, intervals=interval, start=START, end=END, source=source, config=config
        )

    expected = rest_rows(simulator.truth(market, symbol, interval, START, END), coin=market == "cm")
    missing = [instant(day) for day in cut]
    assert load("archive").exit_status == (3 if cut else 0)
    found = stored(store_url, market, symbol, interval)
    assert_same(found, {at: row for at, row in expected.items() if at not in missing})
    gaps = [(a, b) for a, b, state, _ in states(store_url, market, symbol, interval) if state == "unpublished"]
    assert gaps == [(at, at + days * DAY) for at in missing]

    simulator.clear_requests()
    second = load("auto")
    assert (second.exit_status, second.counts.rows_inserted, second.counts.rows_read) == (0, len(cut), len(cut))
    assert all("/data/" not in path for path in asked_for_klines(simulator))
    assert_same(stored(store_url, market, symbol, interval), expected)
    ranges = states(store_url, market, symbol, interval)
    assert {state for _, _, state, _ in ranges} == {"complete"}
    assert all(a == b for (_, a, _, _), (b, _, _, _) in itertools.pairwise(ranges))
    assert sum(rows for _, _, _, rows in ranges) == len(expected)

    simulator.clear_requests()
    assert load("auto").exit_status == 0
    assert simulator.requests == []


@pytest.mark.parametrize("interval", ["1w", "3d", "1M"])
def test_a_window_between_two_files_loads_in_one_go(simulator: Simulator, store_url: str, interval: str) -> None:
    """By the source that the planner picks: the same candles."""
    config = config_for(simulator, store_url)
    report = ingest.load(market="spot", symbols="BTCUSDT", intervals=interval, start=START, end=END, config=config)
    assert report.exit_status == 0
    expected = rest_rows(simulator.truth("spot", "BTCUSDT", interval, START, END))
    assert_same(stored(store_url, "spot", "BTCUSDT", interval), expected)


def test_a_file_made_too_early_is_no_witness_of_a_gap(simulator: Simulator, store_url: str) -> None:
    """It had no closed candle, which says nothing: one answer of REST is not believed, a second one a day later is."""
    simulator.add_fault("missing-rest=BTCUSDT:1w:2025-10-27..2025-11-03")
    config = config_for(simulator, store_url)

    def load(source: str) -> int:
        report = ingest.load(
            market="spot", symbols="BTCUSDT", intervals="1w", start=START, end=END, source=source, config=config
        )
        return report.exit_status

    def gaps() -> list[tuple[int, str]]:
        return [(at, state) for at, _, state, _ in states(store_url, "spot", "BTCUSDT", "1w") if state != "complete"]

    at = instant("2025-10-27")
    assert [load("archive"), load("auto")] == [3, 3]
    assert gaps() == [(at, "unpublished")]
    simulator.set_clock("2026-06-02T12:01:00Z")
    assert load("auto") == 0
    assert gaps() == [(at, "exchange_gap")]
