"""The sensor for archive files and its trigger, against an archive whose files come late."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseHook
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.module_loading import import_string

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.sensors.binance import BinanceArchiveFileSensor
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.triggers.binance import ArchiveFileTrigger
from tests.airflow.conftest import END, START, extras
from tests.airflow.test_dags import known
from tests.keys import key_pair

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("connections")]

DAY = "data/spot/daily/klines/{0}/1h/{0}-1h-2026-11-{1}.zip"
LATE = "late-day=2026-11-18"


def sensor(**arguments: Any) -> BinanceArchiveFileSensor:
    given = {"market": "spot", "symbols": ["BTCUSDT", "ETHUSDT"], "intervals": ["1h"], "start": START, "end": END}
    return BinanceArchiveFileSensor(task_id="wait", **{**given, **arguments})


def poke(**arguments: Any) -> Any:
    return sensor(**arguments).poke({})  # type: ignore[typeddict-item]


def deferred(one: BinanceArchiveFileSensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as told:
        one.execute({})  # type: ignore[typeddict-item]
    return told.value


def waiting_for(first: str, **files: Any) -> ArchiveFileTrigger:
    given = {"market": "spot", "symbols": ["BTCUSDT"], "intervals": ["1h"], "start": START, "end": END, **files}
    return ArchiveFileTrigger(binance_conn_id="binance_default", files=given, first=first, poke_interval=0.05)


async def fired(trigger: Any) -> Any:
    async with asyncio.timeout(60):
        return (await anext(trigger.run())).payload


def test_it_is_done_when_all_files_of_the_window_are_out(simulator: Simulator) -> None:
    simulator.add_fault(LATE)
    looked = poke(start="2026-11-17")
    assert (looked.is_done, looked.xcom_value) == (False, None)
    simulator.clear_faults()
    looked = poke(start="2026-11-17")
    assert looked.is_done
    assert looked.xcom_value == {
        "count": 4,
        "paths": [DAY.format(symbol, day) for symbol in ("BTCUSDT", "ETHUSDT") for day in (17, 18)],
    }


def test_looking_costs_no_weight_and_ends_at_the_first_file_that_lacks(simulator: Simulator) -> None:
    simulator.add_fault(LATE)
    simulator.clear_requests()
    poke()
    asked = [request.path for request in simulator.requests if request.path.endswith(".CHECKSUM")]
    assert [path.rpartition("/")[2] for path in asked] == ["BTCUSDT-1h-2026-11-18.zip.CHECKSUM"]
    assert not [request for request in simulator.requests if "/klines" in request.path and "/api/" in request.path]


def test_the_data_interval_is_the_window() -> None:
    day = datetime(2026, 11, 18, tzinfo=UTC)
    context: Any = {"data_interval_start": day, "data_interval_end": day + timedelta(days=1)}
    looked = sensor(start=None, end=None).poke(context)
    assert looked.xcom_value["count"] == 2


def test_monthly_files(simulator: Simulator) -> None:
    assert not poke(partition="monthly").is_done  # November is not over
    looked = poke(partition="monthly", start="2026-09-10", end="2026-10-02", symbols="BTCUSDT", intervals="1w,1h")
    names = [path.rpartition("/")[2] for path in looked.xcom_value["paths"]]
    assert names == [f"BTCUSDT-{interval}-2026-{month}.zip" for interval in ("1w", "1h") for month in ("09", "10")]


def test_what_was_before_the_listing_is_not_waited_for() -> None:
    looked = poke(start="2010-01", end="2010-03", partition="monthly", symbols="BTCUSDT")
    assert (looked.is_done, looked.xcom_value["count"]) == (True, 0)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"symbols": ["BTCUSD"]}, "near matches: BTCUSDT"),
        ({"partition": "weekly"}, "use monthly or daily"),
        ({"intervals": ["1M"]}, "1M has no daily files"),
        ({"intervals": []}, "no interval given"),
        ({"start": END, "end": START}, "the window is empty"),
        ({"start": None, "end": None}, "task wait has no window"),
        ({"start": None}, "the window has no start"),
        ({"market": "margin"}, "margin"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_mistake_fails_the_task_for_good(arguments: dict[str, Any], part: str, deferrable: bool) -> None:
    with pytest.raises(AirflowFailException, match=part):
        sensor(deferrable=deferrable, **arguments).execute({})  # type: ignore[typeddict-item]


def test_test_hosts_have_no_files(set_connection: Callable[..., None]) -> None:
    set_connection("binance_default", conn_type="binance", extra={"testnet": True})
    with pytest.raises(AirflowFailException, match="no archive"):
        poke()


def test_it_waits_in_the_triggerer(simulator: Simulator) -> None:
    """One look on the worker, then the triggerer's; the files that are out already are not asked for again."""
    simulator.add_fault(LATE)
    one = sensor(deferrable=True, start="2026-11-17", symbols="BTCUSDT", poke_interval=0.05, timeout=500)
    told = deferred(one)
    assert (told.timeout, told.method_name) == (timedelta(seconds=500), "execute_complete")
    path, arguments = told.trigger.serialize()
    assert arguments["first"] == DAY.format("BTCUSDT", 18)
    again = import_string(path)(**arguments)
    assert again.serialize() == (path, arguments)

    async def come_late() -> Any:
        waiting = asyncio.create_task(fired(again))
        await asyncio.sleep(0.5)
        assert any(request.status == 404 for request in simulator.requests)
        assert not waiting.done()
        simulator.clear_faults()
        return await waiting

    simulator.clear_requests()
    event = asyncio.run(come_late())
    assert event["status"] == "success"
    checksums = {request.path for request in simulator.requests if request.path.endswith(".CHECKSUM")}
    assert checksums == {f"/archive/{DAY.format('BTCUSDT', 18)}.CHECKSUM"}
    found = one.execute_complete({}, event=event, **(told.kwargs or {}))  # type: ignore[typeddict-item]
    assert found == {"count": 2, "paths": [DAY.format("BTCUSDT", day) for day in (17, 18)]}


def test_files_that_are_out_need_no_triggerer() -> None:
    assert sensor(deferrable=True).execute({}) == {  # type: ignore[typeddict-item]
        "count": 2,
        "paths": [DAY.format(symbol, 18) for symbol in ("BTCUSDT", "ETHUSDT")],
    }


def test_an_archive_out_of_reach_is_no_file_yet(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ArchiveHttp.__init__.__kwdefaults__, "attempts", 1)  # type: ignore[misc]
    simulator.add_fault("http=503@CHECKSUM")
    assert not poke().is_done
    trigger = deferred(sensor(deferrable=True, poke_interval=0.05)).trigger
    simulator.clear_faults()
    simulator.add_fault("http=503:2@CHECKSUM")
    assert asyncio.run(fired(trigger))["status"] == "success"


def test_what_waiting_cannot_mend_ends_it(
    simulator: Simulator, set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sensor(deferrable=True)
    trigger = waiting_for(DAY.format("BTCUSDT", 18))
    set_connection("binance_default", conn_type="binance", extra={**extras(simulator), "tesnet": True})
    event = asyncio.run(fired(trigger))
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match=r"ConfigError: connection 'binance_default'.*tesnet"):
        one.execute_complete({}, event=event)  # type: ignore[typeddict-item]


def test_what_airflow_keeps_of_a_long_wait_is_short(simulator: Simulator) -> None:
    """Three years of two symbols are 2,000 files."""
    simulator.add_fault("late-day=2023-11-18")
    told = deferred(sensor(deferrable=True, start="2023-11-18"))
    kept = json.dumps(told.trigger.serialize())
    assert (len(kept) < 500, json.loads(kept)[1]["first"][-14:]) == (True, "2023-11-18.zip")


def test_a_connection_that_cannot_be_read_now_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's API server restarts, say; a connection that is not there ends the wait."""
    read, failures = BaseHook.aget_connection, [RuntimeError("no answer"), ConnectionError("reset")]

    async def hiccup(conn_id: str) -> Any:
        if failures:
            raise failures.pop()
        return await read(conn_id)

    monkeypatch.setattr(BaseHook, "aget_connection", hiccup)
    assert asyncio.run(fired(waiting_for(DAY.format("BTCUSDT", 18))))["status"] == "success"
    assert not failures
    monkeypatch.delenv("AIRFLOW_CONN_BINANCE_DEFAULT")
    event = asyncio.run(fired(waiting_for(DAY.format("BTCUSDT", 18))))
    assert (event["status"], "binance_default" in event["message"]) == ("error", True)


def test_the_event_loop_reads_no_file(
    simulator: Simulator, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    """The key is in a named pipe that nobody writes yet: other triggers go on meanwhile."""
    pipe = tmp_path / "key.pem"
    os.mkfifo(pipe)
    extra = {**extras(simulator), "private_key": str(pipe)}
    set_connection("binance_default", conn_type="binance", login="k" * 64, extra=extra)

    async def write_meanwhile() -> Any:
        waiting = asyncio.create_task(fired(waiting_for(DAY.format("BTCUSDT", 18))))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(pipe.write_text, key_pair("ed25519").private)
        return await waiting

    assert asyncio.run(write_meanwhile())["status"] == "success"


@pytest.mark.usefixtures("metadata")
def test_a_run_goes_on_when_the_file_comes(simulator: Simulator) -> None:
    """By `dag.test`, trigger included."""
    simulator.add_fault(LATE)
    with DAG("waits", schedule=None) as dag:
        sensor(deferrable=True, poke_interval=0.2)
    release = threading.Timer(3, simulator.clear_faults)
    release.start()
    dagrun = known(dag).test()
    release.join()
    assert str(dagrun.state) == "success"
    [ti] = dagrun.get_task_instances()
    assert ti.xcom_pull(task_ids="wait", key="return_value")["count"] == 2
