"""A key is replaced in Airflow while a task signs with it: the task goes on, and the old key is never sent again."""

from __future__ import annotations

import json
import time

import pytest
import requests

from tests.airflow.scene import Scene
from tests.keys import key_pair

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

OLD, NEW = "o" * 64, "n" * 64


def sent(scene: Scene) -> list[tuple[str, int]]:
    """First letter of the key and status of each request that carried one of ours, in the order of the answers."""
    found = []
    for line in scene.request_log.read_text().splitlines():
        request = json.loads(line)
        key = {name.lower(): value for name, value in request["headers"]}.get("x-mbx-apikey", "")
        if key in (OLD, NEW):
            found.append((key[0], request["status"]))
    return found


def wait_for(scene: Scene, key: str, count: int) -> None:
    deadline = time.monotonic() + 240
    while sum(seen == (key, 200) for seen in sent(scene)) < count:
        assert time.monotonic() < deadline, f"key {key} was not sent {count} times"
        time.sleep(0.5)


def test_the_connection_is_read_again_by_the_running_task(scene: Scene) -> None:
    """Put the new key into the connection, revoke the old one; the simulator's log is the witness."""
    accounts = f"{scene.binance_extra['spot_rest_url']}/simulator/accounts"
    pair = key_pair("ed25519")
    requests.post(accounts, json={"api_key": OLD, "api_secret": "old"}, timeout=20).raise_for_status()
    requests.post(accounts, json={"api_key": NEW, "public_key": pair.public}, timeout=20).raise_for_status()
    connection = {"connection_id": "rotated", "conn_type": "binance"}
    scene.airflow.create_connection(
        {**connection, "login": OLD, "password": "old", "extra": {**scene.binance_extra, "markets": ["spot"]}}
    )
    scene.airflow.wait_for_dags("rotated")
    scene.airflow.unpause("rotated")
    run_id = scene.airflow.trigger("rotated")
    wait_for(scene, "o", 20)
    extra = json.dumps({**scene.binance_extra, "private_key": pair.private})
    scene.airflow.call("PATCH", "/api/v2/connections/rotated", {**connection, "login": NEW, "extra": extra})
    requests.delete(accounts, json={"api_key": OLD}, timeout=20).raise_for_status()
    wait_for(scene, "n", 20)
    scene.rotated_stop.touch()
    assert scene.airflow.wait_for_run("rotated", run_id) == "success"
    seen = sent(scene)
    assert scene.airflow.xcom("rotated", run_id, "sign") == sum(status == 200 for _, status in seen)
    first = seen.index(("n", 200))
    assert {key for key, _ in seen[first:]} == {"n"}
    assert 1 <= seen.count(("o", 401)) <= 4
    # 400 is −1021: the scene's clock stands, so that ours leaves it behind every second and is measured anew.
    assert {status for _, status in seen} <= {200, 400, 401}
