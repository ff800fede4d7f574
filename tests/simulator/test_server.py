"""The server around it all: request log, controls, command line, isolation."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from airflow_provider_binance import simulator as simulator_package
from airflow_provider_binance.simulator.clock import SimulatedClock, to_ms
from airflow_provider_binance.simulator.pytest_plugin import binance_simulator
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import Ask

__all__ = ["binance_simulator"]

SETTINGS = {
    "BINANCE_SPOT_REST_URL",
    "BINANCE_UM_REST_URL",
    "BINANCE_CM_REST_URL",
    "BINANCE_ARCHIVE_URL",
    "BINANCE_ARCHIVE_LISTING_URL",
    "BINANCE_SPOT_STREAM_URL",
    "BINANCE_UM_STREAM_URL",
    "BINANCE_CM_STREAM_URL",
}


def test_no_code_is_shared_with_the_package() -> None:
    """No module of the simulator imports anything of the package outside of it."""
    folder = Path(simulator_package.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                outside = name.startswith("airflow") and not name.startswith("airflow_provider_binance.simulator")
                assert not outside, f"{path.name} imports {name}"


def test_requests_are_recorded_as_received(ask: Ask, simulator: Simulator) -> None:
    """Method, raw path and query, headers in their own case, status, weight and simulated time."""
    ask("/api/v3/klines", {"X-MBX-APIKEY": "leaked"}, symbol="币安人生USDT", interval="1h")
    (record,) = simulator.requests
    assert (record.method, record.path, record.status, record.weight) == ("GET", "/api/v3/klines", 200, 2)
    assert record.query == "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&interval=1h"
    assert ("X-MBX-APIKEY", "leaked") in record.headers
    assert record.header("x-mbx-apikey") == "leaked"
    assert record.time_ms == simulator.now_ms()
    simulator.clear_requests()
    assert simulator.requests == []


def test_dates_and_types_of_answers(ask: Ask) -> None:
    """The Date header is the simulated one."""
    spot, um = ask("/api/v3/time"), ask("/fapi/v1/time")
    assert spot.headers["Date"] == "Fri, 20 Nov 2026 12:00:30 GMT"
    assert spot.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert um.headers["Content-Type"] == "application/json"
    assert spot.json() == um.json() == {"serverTime": to_ms("2026-11-20T12:00:30")}
    assert (
        ask("/api/v3/time", {"X-MBX-TIME-UNIT": "MICROSECOND"}).json()["serverTime"]
        == to_ms("2026-11-20T12:00:30") * 1000
    )
    assert spot.headers["x-mbx-uuid"]


@pytest.mark.parametrize("path", ["/", "/api/v3/nothing", "/api/v1/klines", "/fapi/v1/", "/simulator/nothing"])
def test_unknown_paths(ask: Ask, path: str) -> None:
    """Lead nowhere."""
    assert ask(path).status_code == 404


def test_controls_over_http(ask: Ask, simulator: Simulator) -> None:
    """A simulator in another process is set, broken and read by HTTP."""
    base = simulator.settings["BINANCE_SPOT_REST_URL"] + "/simulator/"
    assert requests.post(base + "clock", json={"now": "2026-11-21T00:00:00Z"}, timeout=5).status_code == 200
    assert ask("/api/v3/time").json()["serverTime"] == to_ms("2026-11-21")
    assert requests.get(base + "clock", timeout=5).json() == {"now": to_ms("2026-11-21"), "speed": 0}
    assert requests.post(base + "faults", json={"fault": ["http=503:1", "429=1"]}, timeout=5).status_code == 200
    assert [ask("/api/v3/ping").status_code for _ in range(3)] == [503, 429, 200]
    assert requests.post(base + "faults", json={"fault": "nosuch"}, timeout=5).status_code == 400
    requests.post(base + "faults", json={"fault": "451"}, timeout=5)
    requests.delete(base + "faults", timeout=5)
    assert ask("/api/v3/ping").status_code == 200
    records = requests.get(base + "requests", timeout=5).json()
    assert [record["status"] for record in records][-4:] == [503, 429, 200, 200]
    requests.delete(base + "requests", timeout=5)
    assert requests.get(base + "requests", timeout=5).json() == []


def test_clock_runs_at_its_speed() -> None:
    """Real seconds times speed, from where it was set."""
    real = [100.0]
    clock = SimulatedClock(1_000, 60.0, lambda: real[0])
    real[0] += 2
    assert clock.now_ms() == 121_000
    clock.set(5_000)
    real[0] += 1
    assert clock.now_ms() == 65_000
    with pytest.raises(ValueError, match="negative"):
        clock.set(0, -1)


def test_fixture(binance_simulator: Simulator) -> None:
    """The plugin's fixture is a simulator that answers."""
    url = binance_simulator.settings["BINANCE_CM_REST_URL"] + "/dapi/v1/ping"
    assert requests.get(url, timeout=5).json() == {}
    assert binance_simulator.env().items() >= binance_simulator.settings.items()


def test_port_in_use_is_an_error(simulator: Simulator) -> None:
    """Two simulators cannot share a port."""
    port = int(simulator.settings["BINANCE_SPOT_REST_URL"].rpartition(":")[2])
    with pytest.raises(RuntimeError, match="could not listen"), Simulator(port=port):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line(tmp_path: Path, number: signal.Signals) -> None:
    """One JSON line when it listens, requests in the log, a clean end on a signal."""
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "airflow_provider_binance.simulator", "--symbols", "BTCUSDT", "cm:BTCUSD_PERP"]
    command += [
        "--now",
        "2026-11-20T12:00:00Z",
        "--speed",
        "0",
        "--seed",
        "1",
        "--request-log",
        str(log),
        "--no-limits",
    ]
    command += ["--fault", "http=503:1@/ping", "--fault", "late-day=2026-11-01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        settings = json.loads(process.stdout.readline())
        assert settings.keys() == SETTINGS
        assert settings["BINANCE_UM_STREAM_URL"].startswith("ws://127.0.0.1:")
        url = settings["BINANCE_SPOT_REST_URL"] + "/api/v3/ping"
        assert [requests.get(url, timeout=5).status_code for _ in range(2)] == [503, 200]
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert process.stdout.read() == ""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["status"] for line in lines] == [503, 200]
    assert lines[1].keys() == {"method", "path", "query", "headers", "status", "weight", "used_weight", "time"}


@pytest.mark.parametrize(
    "arguments", [["--symbols", "btc/usdt"], ["--fault", "nosuch"], ["--replay", "/nowhere"], ["--now", "x"]]
)
def test_bad_arguments(arguments: list[str]) -> None:
    """End with status 2 and one line that says why."""
    command = [sys.executable, "-m", "airflow_provider_binance.simulator", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("simulate: ")
    assert "Traceback" not in done.stderr
