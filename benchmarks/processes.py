"""What only a fresh process shows: the memory of a load, and what imports cost and bring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

#: Libraries that the core must not load by being imported.
HEAVY = ("airflow", "binance", "matplotlib", "pandas", "sqlalchemy")

# Linux's ru_maxrss outlives exec, so that a child would report its parent's peak; VmHWM is of this program alone.
_PEAK = """
def peak():
    import pathlib, resource, sys
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""

_LOAD = (
    _PEAK
    + """
import json, sys
from airflow_provider_binance.cli import main
code = main(sys.argv[1:])
print(json.dumps({"exit": code, "peak": peak()}), file=sys.stderr)
"""
)

_TASK = (
    _PEAK
    + """
import json, sys
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
arguments = json.loads(sys.argv[1])
with DAG("bench", schedule=None):
    if arguments is None:
        task = EmptyOperator(task_id="task")
    else:
        from airflow_provider_binance.operators.binance import BinanceLoadOperator
        task = BinanceLoadOperator(task_id="task", **arguments)
print(task.execute({}))
print(json.dumps({"peak": peak()}), file=sys.stderr)
"""
)

_IMPORT = """
import json, sys, time
before = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "loaded": sorted(set(sys.argv[2:]) & set(sys.modules))}), file=sys.stderr)
"""


def cli_load(arguments: Sequence[str], settings: Mapping[str, str], *, first: str = "") -> tuple[dict[str, Any], int]:
    """`binance-ingest load --json …` in a process of its own, after the statements `first`: its report, and the most
    memory it had (bytes)."""
    environment = {**os.environ, **{f"BINANCE_{name.upper()}": value for name, value in settings.items()}}
    done = _run([first + _LOAD, "load", "--json", *arguments], environment)
    told = json.loads(done.stderr.splitlines()[-1])
    if told["exit"]:
        raise RuntimeError(f"load ended with {told['exit']}: {done.stderr}")
    return json.loads(done.stdout)["loads"][0], told["peak"]


def task_memory(store: Mapping[str, Any], settings: Mapping[str, str], arguments: Mapping[str, str]) -> tuple[int, int]:
    """The most memory (bytes) of a process with an empty Airflow task, and of one with a `BinanceLoadOperator`."""
    connections = {
        "AIRFLOW_CONN_BINANCE_DEFAULT": json.dumps({"conn_type": "binance", "extra": dict(settings)}),
        "AIRFLOW_CONN_INGEST_DEFAULT": json.dumps(store),
    }
    peaks = []
    for given in (None, dict(arguments)):
        done = _run([_TASK, json.dumps(given)], {**os.environ, **connections})
        peaks.append(int(json.loads(done.stderr.splitlines()[-1])["peak"]))
    return peaks[0], peaks[1]


def imported(module: str) -> tuple[float, list[str]]:
    """Seconds that the import takes, and which of HEAVY it brings."""
    told = json.loads(_run([_IMPORT, module, *HEAVY], dict(os.environ)).stderr.splitlines()[-1])
    return told["seconds"], told["loaded"]


def _run(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", *arguments], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done
