"""No two sidecars stream the same series, and none is left alone when one dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Sidecar
from airflow_provider_binance.stream import leases
from airflow_provider_binance.stream.leases import decide, gone, instance_name
from airflow_provider_binance.stream.subscriptions import Shard
from tests.stream.test_sidecar import NOW, check, ended, wait_for

TTL = 15.0
ONE, TWO = Shard(1, 2), Shard(2, 2)
ALL = [Series("spot", "klines", name, "1m") for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")]
HOME = {shard: [series for series in sorted(ALL) if shard.has(series)] for shard in (ONE, TWO)}


def living(*names: str, age: float = 60.0) -> list[Sidecar]:
    return [Sidecar(name, "1/2", "1", silent_seconds=1.0, age_seconds=age) for name in names]


def chosen(me: str, shard: Shard, held: list[Lease], sidecars: list[Sidecar]) -> LeaseChange:
    return decide(me, shard, ALL, held, sidecars, TTL)


def test_a_part_is_taken_at_once_and_what_nobody_has_after_a_while() -> None:
    """Portions, so that those that live share it."""
    home = tuple((series, True) for series in HOME[ONE])
    assert HOME[ONE]
    assert HOME[TWO]
    assert chosen("a", ONE, [], living("a", age=1.0)) == LeaseChange(take=home)
    mine = [Lease(series, "a", True) for series in HOME[ONE]]
    rest = tuple((series, False) for series in HOME[TWO])
    assert chosen("a", ONE, mine, living("a")) == LeaseChange(take=rest)
    assert chosen("a", ONE, mine, living("a", "b")) == LeaseChange(take=rest[: -(-len(rest) // 2)])


def test_what_a_dead_one_held_is_free_and_what_a_living_one_holds_is_not() -> None:
    held = [Lease(series, "b", True) for series in HOME[ONE]]
    assert not chosen("a", ONE, held, living("a", "b", age=1.0))
    dead = [*living("a", age=1.0), Sidecar("b", "1/2", "1", silent_seconds=TTL)]
    assert chosen("a", ONE, held, dead).take == tuple((series, True) for series in HOME[ONE])


def test_who_comes_back_claims_its_part_and_gets_it() -> None:
    fostered = [Lease(series, "b", False) for series in HOME[ONE]]
    assert chosen("a", ONE, fostered, living("a", "b", age=1.0)) == LeaseChange(claim=tuple(HOME[ONE]))
    claimed = [Lease(series, "b", False, "a") for series in HOME[ONE]]
    own = [Lease(series, "b", True) for series in HOME[TWO]]
    given = chosen("b", TWO, [*own, *claimed], living("a", "b"))
    assert given == LeaseChange(give=tuple((series, "a") for series in HOME[ONE]))
    assert not chosen("b", TWO, [*own, *claimed], living("b"))  # who claimed is dead
    assert decide("b", TWO, HOME[TWO], [*own, *fostered], living("b"), TTL).free == tuple(HOME[ONE])


def test_processes_of_this_place_that_ended_are_known() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    host, _, place, word = instance_name().rsplit(":", 3)
    names = [f"{host}:{child.pid}:{place}:{word}", f"{host}:{os.getppid()}:{place}:{word}",
             f"{host}:{child.pid}:elsewhere:{word}", "odd"]  # fmt: skip
    assert gone("me", living(*names)) == names[:1]
    assert leases.BEAT_SECONDS * 3 < leases.TTL_SECONDS


#: The command with quicker beats.
CHILD = """
import sys
from airflow_provider_binance.stream import leases
leases.BEAT_SECONDS, leases.TTL_SECONDS = 0.3, 3.0
from airflow_provider_binance.cli import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def sidecar(simulator: Simulator, store: str, shard: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, **simulator.env(), "BINANCE_RATE_LIMIT_STORE": "memory://",
               "AIRFLOW_CONN_INGEST_DEFAULT": json.dumps(connection_of(store))}  # fmt: skip
    words = ["--market", "spot", "--symbol", *(series.symbol for series in ALL), "--interval", "1m", "--shard", shard]
    command = [sys.executable, "-c", CHILD, "stream", "--json", "-v", *words]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def connection_of(store: str) -> dict[str, object]:
    """The Airflow connection of a PostgreSQL URL: the container shares Airflow's."""
    from sqlalchemy.engine import make_url

    url = make_url(store)
    return {"conn_type": "postgres", "host": url.host, "port": url.port, "login": url.username,
            "password": url.password, "schema": url.database, "extra": dict(url.query)}  # fmt: skip


@pytest.mark.postgres
def test_who_is_killed_is_taken_over_and_gets_its_part_back(postgres_database: str) -> None:
    """Two real processes of one selection: every kline is stored, and at no time does a series have two."""
    store = postgres_database
    with (
        Simulator(seed=7, symbols=[f"spot:{series.symbol}" for series in ALL], now=NOW, speed=60) as simulator,
        ExitStack() as stack,
        open_store(store) as opened,
    ):
        opened.migrate()

        def held() -> dict[str, set[Series]]:
            found: dict[str, set[Series]] = {}
            for lease in opened.leases():
                found.setdefault(lease.instance.split(":")[1], set()).add(lease.series)
            return found

        def until(is_so: Callable[[], bool]) -> None:
            for _ in range(600):
                if is_so():
                    return
                assert first.poll() is None, first.communicate()[1]
                time.sleep(0.1)
            raise AssertionError(held())

        first = stack.enter_context(sidecar(simulator, store, "1/2"))
        second = stack.enter_context(sidecar(simulator, store, "2/2"))
        parts = {str(first.pid): set(HOME[ONE]), str(second.pid): set(HOME[TWO])}
        until(lambda: held() == parts)
        wait_for(store, HOME[TWO][0], 2, second)
        second.kill()
        until(lambda: held() == {str(first.pid): set(ALL)})
        third = stack.enter_context(sidecar(simulator, store, "2/2"))
        until(lambda: held() == {str(first.pid): set(HOME[ONE]), str(third.pid): set(HOME[TWO])})
        for series in ALL:
            wait_for(store, series, 6, first)
        for process in (first, third):
            status, _, log = ended(process)
            assert status == 0, log
        assert not opened.leases()
        assert [one.instance.split(":")[1] for one in opened.sidecars()] in ([], [str(second.pid)])
        for series in ALL:
            check(simulator, store, series)
