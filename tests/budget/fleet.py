"""A simulator in a process of its own, a fleet of processes that load from it, and what it counted of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

HERE = Path(__file__).parent
REPO = HERE.parents[1]
KLINES = {
    "spot": "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1",
    "um": "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1",
}
POOL_OF = {"api": "spot", "fapi": "futures", "dapi": "futures"}


@dataclass
class Window:
    """One minute of the simulator's clock in one pool."""

    minute: int
    used: int = 0
    requests: int = 0


def windows_of(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Window]]:
    """What the simulator counted, by pool: its counter begins anew with each window."""
    found: dict[str, list[Window]] = {"spot": [], "futures": []}
    for record in records:
        if record["used_weight"] is None:
            continue
        windows = found[POOL_OF[record["path"].split("/")[1]]]
        if not windows or record["used_weight"] < windows[-1].used:
            windows.append(Window(record["time"] // 60_000))
        windows[-1].used = max(windows[-1].used, record["used_weight"])
        windows[-1].requests += 1
    return found


@dataclass
class Venue:
    """A simulator in a process of its own."""

    settings: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return self.settings["BINANCE_SPOT_REST_URL"]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def now_ms(self) -> int:
        return int(requests.get(f"{self.url}/simulator/clock", timeout=10).json()["now"])

    def set_clock(self, now: str) -> None:
        requests.post(f"{self.url}/simulator/clock", json={"now": now}, timeout=10).raise_for_status()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def simulator(folder: Path, *arguments: str) -> Iterator[Venue]:
    """`binance-ingest simulate` with a request log."""
    log = folder / "requests.jsonl"
    command = [sys.executable, "-m", "airflow_provider_binance.simulator", "--request-log", str(log), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Venue(json.loads(process.stdout.readline()), log)
        finally:
            process.terminate()


@dataclass
class Fleet:
    """Processes that load; all are killed in the end, whatever happens."""

    settings: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self, home: Path, *, settings: Mapping[str, str] | None = None, within: Sequence[str] = (), **spec: Any
    ) -> subprocess.Popen[str]:
        """A child with `home` for its files, as of a host, started by the command `within`."""
        environ = {**os.environ, **self.settings, **(settings or {}), "XDG_CACHE_HOME": str(home)}
        command = [*within, sys.executable, str(HERE / "child.py"), json.dumps(spec)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, cwd=REPO
        )
        self.processes.append(process)
        return process

    def foreigner(self, url: str, path: str, per_minute: float, seconds: float) -> None:
        """Another user of the address."""
        command = [sys.executable, str(HERE / "foreigner.py"), url, path, str(per_minute), str(seconds)]
        self.processes.append(subprocess.Popen(command))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def ready(*processes: subprocess.Popen[str]) -> None:
    """Wait until children have loaded all that they need."""
    for process in processes:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}


def go(now_ms: int, *processes: subprocess.Popen[str]) -> None:
    """Let children begin, at `now_ms` by the simulator's clock."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{now_ms}\n")
        process.stdin.flush()


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The last line of a child, which has ended."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())
