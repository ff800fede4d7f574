"""The sensor for a sidecar's data and its trigger, on a store in which a sidecar said this and that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred
from airflow.sdk.module_loading import import_string

from airflow_provider_binance.freshness import Awaited, staleness
from airflow_provider_binance.market import INTERVALS, MINUTE_US, SECOND_US
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.sensors.binance import BinanceFreshnessSensor
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.store.sidecars import LeaseChange, Progress, Sidecar

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("connections")]

ME = Sidecar("host:1", "1/1", "1")
BTC, ETH = (Series("um", "klines", name, "1m") for name in ("BTCUSDT", "ETHUSDT"))


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with open_store(store_path) as opened:
        opened.migrate()
        yield opened


def say(store: Store, *, lag_seconds: float = 1.0, covered: dict[Series, float] | None = None) -> None:
    """The sidecar lives, its newest event is so old, and these series are streamed and covered until then."""
    now_us = time.time_ns() // 1000
    covered = {BTC: lag_seconds} if covered is None else covered
    event_us = now_us - int(lag_seconds * SECOND_US)
    store.beat(ME, [Progress(ME.instance, "um", "klines", event_us, now_us, lag_seconds)], ttl_seconds=60)
    take = LeaseChange(take=tuple((series, True) for series in covered))
    store.change_leases(ME.instance, lambda leases, sidecars: take)
    for series, age in covered.items():
        end_us = INTERVALS["1m"].floor(now_us - int(age * SECOND_US))
        ranges = [CoverageRange(end_us - 60 * MINUTE_US, end_us, State.COMPLETE, 60)]
        store.record_coverage("klines", series, ranges)


def sensor(**arguments: Any) -> BinanceFreshnessSensor:
    return BinanceFreshnessSensor(task_id="wait", **{"market": "um", "poke_interval": 0.05, **arguments})


def told(store: Store, **awaited: Any) -> list[str]:
    arguments = {"dataset": "klines", "symbols": [], "intervals": [], "max_lag": 180, "max_heartbeat_age": 30}
    return staleness(store, Awaited.checked(**{"market": "um", **arguments, **awaited}))


def test_what_is_fresh_and_what_is_not(store: Store) -> None:
    assert "no sidecar has ever said that it lives" in told(store)[0]
    say(store, covered={BTC: 1.0, ETH: 600.0})
    assert told(store) == told(store, symbols=["BTC*"], intervals=["1m"]) == []
    [behind] = told(store, symbols=["btc/usdt", "ETHUSDT"])
    assert behind.startswith("behind by more than 180 s: ETHUSDT 1m (up to ")
    assert told(store, symbols=["BNBUSDT"]) == ["nobody streams um klines of BNBUSDT"]
    assert told(store, symbols=["BTCUSDT"], intervals=["1h"]) == ["nobody streams um klines at 1h"]
    [other] = told(store, market="spot")
    assert other == "no event of spot klines is stored yet by the 1 of 1 sidecars that live"
    time.sleep(0.01)
    [dead] = told(store, max_heartbeat_age=0.001)
    assert dead.startswith("no sidecar lives: the last beat, of host:1, was ")
    say(store, lag_seconds=1000.0)
    [old] = told(store)
    assert old.startswith("the newest event of um klines, ")
    assert old.endswith(" s old (max_lag: 180)")


def test_it_is_done_when_the_data_are_fresh(store: Store) -> None:
    assert not sensor().poke({}).is_done  # type: ignore[typeddict-item]
    say(store)
    assert sensor(symbols="BTCUSDT", max_lag="200").poke({}).is_done  # type: ignore[typeddict-item]
    sensor(deferrable=True).execute({})  # type: ignore[typeddict-item]
    with pytest.raises(AirflowSensorTimeout):
        sensor(symbols="BNBUSDT", timeout=0.01).execute({"task_instance": None})  # type: ignore[typeddict-item]


def test_it_waits_in_the_triggerer(store: Store) -> None:
    one = sensor(deferrable=True, symbols="BTCUSDT", timeout=500)
    with pytest.raises(TaskDeferred) as deferred:
        one.execute({})  # type: ignore[typeddict-item]
    assert (deferred.value.timeout, deferred.value.method_name) == (timedelta(seconds=500), "execute_complete")
    path, arguments = deferred.value.trigger.serialize()
    again = import_string(path)(**arguments)
    assert again.serialize() == (path, arguments)

    async def become_fresh() -> Any:
        waiting = asyncio.create_task(anext(again.run()))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await asyncio.to_thread(say, store)
        async with asyncio.timeout(60):
            return (await waiting).payload

    event = asyncio.run(become_fresh())
    assert event == {"status": "success", "message": ""}
    one.execute_complete({}, event=event)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"market": "margin"}, "margin"),
        ({"dataset": "candles"}, "unknown dataset 'candles'"),
        ({"intervals": "7m"}, "unknown interval '7m'"),
        ({"symbols": "BTC$"}, "is no symbol"),
        ({"max_lag": "soon"}, "max_lag='soon' is no number of seconds"),
        ({"store_conn_id": "nowhere"}, "'nowhere' does not exist"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_mistake_fails_the_task_for_good(arguments: dict[str, Any], part: str, deferrable: bool) -> None:
    with pytest.raises(AirflowFailException, match=part):
        sensor(deferrable=deferrable, **arguments).execute({})  # type: ignore[typeddict-item]


def test_a_store_that_is_not_there_ends_or_is_waited_for(set_connection: Callable[..., None]) -> None:
    """No file yet: the sidecar makes it. A connection that is wrong is told by the trigger too."""
    assert not sensor().poke({}).is_done  # type: ignore[typeddict-item]
    with pytest.raises(TaskDeferred) as deferred:
        sensor(deferrable=True).execute({})  # type: ignore[typeddict-item]
    set_connection("ingest_default", conn_type="http")
    event = asyncio.run(anext(deferred.value.trigger.run())).payload  # type: ignore[attr-defined]
    assert (event["status"], "postgres or sqlite" in event["message"]) == ("error", True)
    with pytest.raises(AirflowFailException, match="postgres or sqlite"):
        sensor().execute_complete({}, event=event)  # type: ignore[typeddict-item]
