"""A key is replaced in Airflow while a task signs with it: the task goes on, and the old key is never sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests

from airflow_provider_binance.simulator.server import Simulator
from tests.airflow.scene import Scene
from tests.keys import key_pair

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

OLD, NEW = "o" * 64, "n" * 64


def sent(simulator: Simulator) -> list[tuple[str, int]]:
    """First letter of the key and status of each request that carried one of ours, in the order of the answers."""
    return [
        (key[0], record.status)
        for record in simulator.requests
        if (key := record.header("X-MBX-APIKEY") or "") in (OLD, NEW)
    ]


def wait_for(simulator: Simulator, key: str, count: int) -> None:
    deadline = time.monotonic() + 240
    while sum(seen == (key, 200) for seen in sent(simulator)) < count:
        assert time.monotonic() < deadline, f"key {key} was not sent {count} times"
        time.sleep(0.5)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A Binance whose clock runs: signed requests are refused by one that stands."""
    with Simulator(seed=7, speed=1, symbols=["BTCUSDT"]) as simulator:
        yield simulator


def test_the_connection_is_read_again_by_the_running_task(scene: Scene, simulator: Simulator) -> None:
    """Put the new key into the connection, revoke the old one; the simulator's log is the witness."""
    accounts = f"{simulator.settings['BINANCE_SPOT_REST_URL']}/simulator/accounts"
    pair = key_pair("ed25519")
    requests.post(accounts, json={"api_key": OLD, "api_secret": "old"}, timeout=20).raise_for_status()
    requests.post(accounts, json={"api_key": NEW, "public_key": pair.public}, timeout=20).raise_for_status()
    places = {name.removeprefix("BINANCE_").lower(): value for name, value in simulator.settings.items()}
    common = {**places, "markets": ["spot"], "rate_limit_store": "memory://"}
    connection = {"connection_id": "rotated", "conn_type": "binance"}
    scene.airflow.create_connection({**connection, "login": OLD, "password": "old", "extra": common})
    scene.airflow.wait_for_dags("rotated")
    scene.airflow.unpause("rotated")
    run_id = scene.airflow.trigger("rotated")
    wait_for(simulator, "o", 20)
    extra = json.dumps({**common, "private_key": pair.private})
    scene.airflow.call("PATCH", "/api/v2/connections/rotated", {**connection, "login": NEW, "extra": extra})
    requests.delete(accounts, json={"api_key": OLD}, timeout=20).raise_for_status()
    wait_for(simulator, "n", 20)
    scene.rotated_stop.touch()
    state = scene.airflow.wait_for_run("rotated", run_id)
    assert state == "success", scene.airflow.task_logs()[-4000:]
    seen = sent(simulator)
    assert scene.airflow.xcom("rotated", run_id, "sign") == sum(status == 200 for _, status in seen)
    first = seen.index(("n", 200))
    assert {key for key, _ in seen[first:]} == {"n"}
    assert 1 <= seen.count(("o", 401)) <= 4
    assert {status for _, status in seen} == {200, 401}
