"""What `binance_daily` costs, over its two tasks: weight as Binance counts it, and queries as the driver sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from airflow_provider_binance.example_dags.planning import plan_window
from airflow_provider_binance.hooks.binance import BinanceHook
from airflow_provider_binance.market import to_us
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store import open_store
from airflow_provider_binance.universe import UniverseEntry, cut
from tests.airflow.conftest import extras
from tests.statements import statements

pytestmark = pytest.mark.airflow

DAY = datetime(2026, 11, 19, tzinfo=UTC)
MIDNIGHT = DAY + timedelta(days=1)
#: limit → weight by the venue's documentation, below the edges at which it and measurement disagree.
LIMITS = {"spot": {1000: 2}, "um": {99: 1, 499: 2, 1000: 5, 1500: 10}}


@cache
def least_weight(market: str, rows: int) -> int:
    """The weight of the cheapest requests that hold so many rows, whatever the planner thinks of it."""
    if rows <= 0:
        return 0
    return min(weight + least_weight(market, rows - limit) for limit, weight in LIMITS[market].items())


@pytest.fixture
def venue(set_connection: Callable[..., None], store_url: str) -> Iterator[Callable[[str, int], Simulator]]:
    """Makes a Binance with so many symbols of a market, a connection to it, and one to the store."""
    running: list[Simulator] = []

    def make(market: str, symbols: int) -> Simulator:
        specs = [f"{market}:{name}" for name in names(symbols)]
        sim = Simulator(seed=7, now=MIDNIGHT + timedelta(minutes=5), speed=0, symbols=specs)
        running.append(sim.__enter__())
        set_connection("binance_default", conn_type="binance", extra=extras(sim))
        url = make_url(store_url)
        if url.drivername == "sqlite":
            set_connection("ingest_default", conn_type="sqlite", host=url.database)
        else:
            set_connection(
                "ingest_default", conn_type="postgres", host=url.host, port=url.port, login=url.username,
                schema=url.database,
            )  # fmt: skip
        return sim

    yield make
    for sim in running:
        sim.__exit__(None, None, None)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"A{n:03d}USDT" for n in range(count))


def run_tasks(entry: UniverseEntry, start: datetime = DAY) -> list[Any]:
    """Plan, cut, and load each chunk, every task with a hook of its own, as `binance_daily` does; the loads."""
    with closing(BinanceHook(priority="daily")) as hook:
        options = {"confirm": True, "republished": False}
        planned, _ = plan_window(hook, [entry], start, start + timedelta(days=1), by_close=True, **options)
    loads: list[Any] = []
    for chunk in cut(planned):
        with closing(BinanceHook(priority="daily")) as hook:
            loads += hook.load(**chunk, confirm=True, republished=False).loads
    return loads


def cover_until(store_url: str, market: str, symbols: int, end: datetime) -> None:
    """A ledger that knows a year, confirmed by archive files, of each symbol."""
    with open_store(store_url) as store:
        store.ensure_environment("simulator")
        for name in names(symbols):
            known = CoverageRange(
                to_us(end - timedelta(days=365)), to_us(end), State.COMPLETE, confirmed_by="0" * 64,
                checked_at_us=to_us(end),
            )  # fmt: skip
            store.record_coverage("klines", Series(market, "klines", name, "1m"), [known])


def test_nothing_new_asks_nobody_and_the_store_once_in_a_hundred_series(
    venue: Callable[[str, int], Simulator], store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sim = venue("spot", 500)
    cover_until(store_url, "spot", 500, MIDNIGHT)
    with statements(monkeypatch, tmp_path) as sent:
        loads = run_tasks(UniverseEntry("spot", names(500), ("1m",)))
    assert len(loads) == 500
    assert sim.requests == []
    assert 1 <= len(sent) <= 5, sent
    assert all("coverage" in text or "schema_version" in text for text in sent)


@pytest.mark.parametrize(
    ("store_url", "market"),
    [("sqlite", "spot"), pytest.param("postgresql", "um", marks=pytest.mark.postgres)],
    indirect=["store_url"],
)
def test_a_new_day_costs_what_its_pages_cost_and_later_runs_no_weight(
    venue: Callable[[str, int], Simulator], store_url: str, market: str
) -> None:
    """At midnight by REST; again, while no file is out; at noon from the files; and once more."""
    count = 12
    sim = venue(market, count)
    cover_until(store_url, market, count, DAY)
    entry = UniverseEntry(market, names(count), ("1m",))

    loads = run_tasks(entry)
    assert sum(load.counts.rows_inserted for load in loads) == count * 1440
    assert spent(sim) <= 1.05 * count * least_weight(market, 1440)

    assert changes(run_tasks(entry)) == 0
    assert spent(sim) == 0

    sim.set_clock(MIDNIGHT + timedelta(hours=12))
    loads = run_tasks(entry)
    assert {load.archive_files for load in loads} == {1}
    assert changes(loads) == 0
    assert spent(sim) == 0

    assert changes(run_tasks(entry)) == 0
    assert sim.requests == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_day_whose_files_are_out_costs_no_weight(venue: Callable[[str, int], Simulator], store_url: str) -> None:
    """As when a catch-up loads the days of last week: the archive has the rows, and tells the time."""
    sim = venue("spot", 5)
    sim.set_clock(MIDNIGHT + timedelta(days=3))
    cover_until(store_url, "spot", 5, DAY)
    loads = run_tasks(UniverseEntry("spot", names(5), ("1m",)))
    assert sum(load.counts.rows_inserted for load in loads) == 5 * 1440
    assert spent(sim) == 0


def spent(sim: Simulator) -> int:
    """The weight of what was asked since the last time, as the venue counts it."""
    weight = sum(request.weight or 0 for request in sim.requests)
    sim.clear_requests()
    return weight


def changes(loads: list[Any]) -> int:
    return sum(load.counts.rows_inserted + load.counts.rows_updated for load in loads)
