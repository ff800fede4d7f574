"""Beats, progress and leases, in both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_binance.errors import StoreVersionError
from airflow_provider_binance.records import Series
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Progress, Sidecar
from tests.store.helpers import plain

ME = Sidecar("host:1", "1/2", "1.0")
ALL = [Series("spot", "klines", f"S{number:04d}USDT", "1m") for number in range(3000)]


def test_a_beat_tells_whether_the_last_one_was_in_time(store: Store) -> None:
    """By the database's clock; nothing is there before the first."""
    assert (store.sidecars(), store.progress(), store.leases()) == ([], [], [])
    assert not store.beat(ME, ttl_seconds=60)
    assert store.beat(ME, ttl_seconds=60)
    assert not store.beat(ME, ttl_seconds=0)
    [found] = store.sidecars()
    assert found[:3] == ME[:3]
    assert found.started_at_us <= found.beat_at_us
    assert 0 <= found.silent_seconds <= found.age_seconds < 60


def test_progress_is_the_newest(store: Store) -> None:
    line = Progress(ME.instance, "um", "klines", 1_700_000_000_000_001, 1_700_000_000_500_000, 0.499999)
    other = Progress(ME.instance, "spot", "trades")
    store.beat(ME, [line, other], ttl_seconds=60)
    assert store.progress() == [other, line]
    newer = line._replace(event_us=1_700_000_060_000_000, lag_seconds=2.5)
    store.beat(ME, [newer], ttl_seconds=60)
    assert store.progress() == [other, newer]


def test_leases_are_taken_claimed_given_and_freed(store: Store) -> None:
    """Thousands at once."""
    store.beat(ME, ttl_seconds=60)

    def change(instance: str, **what: object) -> None:
        wanted = LeaseChange(**what)  # type: ignore[arg-type]
        assert store.change_leases(instance, lambda leases, sidecars: wanted) == wanted

    change("a", take=tuple((series, True) for series in ALL))
    assert sorted(lease.series for lease in store.leases()) == ALL
    change("b", claim=tuple(ALL[:2]))
    assert sorted(store.leases())[:3] == [Lease(ALL[0], "a", True, "b"), Lease(ALL[1], "a", True, "b"),
                                          Lease(ALL[2], "a", True)]  # fmt: skip
    change("a", give=((ALL[0], "b"),), free=tuple(ALL[2:]))
    assert sorted(store.leases()) == [Lease(ALL[0], "b", True), Lease(ALL[1], "a", True, "b")]
    change("b", free=(ALL[1],))
    assert len(store.leases()) == 2  # it is another's
    store.forget_sidecars([ME.instance, "b"])
    assert [lease.instance for lease in store.leases()] == ["a"]
    assert store.sidecars() == []


def test_one_at_a_time_changes_leases(store: Store, store_url: str) -> None:
    """Of many who want the same at once, one gets it."""
    store.migrate()

    def take(instance: str) -> int:
        def choose(leases: list[Lease], sidecars: list[Sidecar]) -> LeaseChange:
            held = {lease.series for lease in leases}
            return LeaseChange(take=tuple((series, True) for series in ALL[:50] if series not in held))

        with open_store(store_url) as mine:
            mine.beat(Sidecar(instance, "1/1", "1"), ttl_seconds=60)
            return len(mine.change_leases(instance, choose).take)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, "abcd")) == [0, 0, 0, 50]
    assert len({lease.instance for lease in store.leases()}) == 1


def test_an_older_store_gets_the_tables_with_the_first_beat(store: Store, store_url: str) -> None:
    store.migrate()
    for table in ("stream_sidecars", "stream_progress", "stream_leases"):
        plain(store_url, f"DROP TABLE {table}")
    plain(store_url, "DELETE FROM schema_version WHERE name = '0006_sidecars'")
    with open_store(store_url, create=False) as guest:
        assert guest.sidecars() == []
        with pytest.raises(StoreVersionError, match="run `binance-ingest migrate`"):
            guest.beat(ME, ttl_seconds=60)
    with open_store(store_url) as owner:
        owner.beat(ME, ttl_seconds=60)
        assert len(owner.sidecars()) == 1
        assert owner.migrate() == []
