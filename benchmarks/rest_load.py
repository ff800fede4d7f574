"""REST into PostgreSQL, limits off, from a server in a process of its own whose pages are made beforehand.

The client, ours and the baseline's, has one core to itself, the two servers have the others.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psycopg

from airflow_provider_binance.market import from_us
from benchmarks import postgres
from benchmarks.measure import Took, client_core, on_cores, timed
from benchmarks.peer_rest import rest
from benchmarks.workload import Workload

ROOT = Path(__file__).resolve().parents[1]


def measure(url: str, files: Path, work: Workload, plain: bytes, rounds: int) -> dict[str, list[Took]]:
    """`copy` and `rest`, by turns; `plain` is the text of the same rows for the plain table."""
    took: dict[str, list[Took]] = {"copy": [], "rest": []}
    days = [from_us(at_us).date().isoformat() for at_us in work.window_us]
    client, others = client_core()
    with contextlib.ExitStack() as opened:
        if postmaster := postgres.postmaster(url):
            opened.enter_context(on_cores(others, postmaster))
        with on_cores(others):
            server = opened.enter_context(rest(files, work.months, work.series.interval))
        db = opened.enter_context(psycopg.connect(url, autocommit=True))
        for number in range(rounds):
            postgres.make_plain(db)
            postgres.settle(db)
            with on_cores(client):
                took["copy"].append(timed(lambda: postgres.copy(db, "plain", plain)))
            postgres.settle(db)
            with on_cores(client):
                took["rest"].append(_ours(url, server, work, days, f"rest_{number}"))
            print(f"  REST: {took['rest'][-1].seconds:.2f} s, CPU {took['rest'][-1].cpu_seconds:.2f} s", flush=True)
            db.execute(f"DROP SCHEMA rest_{number} CASCADE")
    return took


def _ours(url: str, server: str, work: Workload, days: list[str], schema: str) -> Took:
    """One load in a process of its own, imports not counted."""
    order = {
        "variant": "rest", "rest": server, "archive": server, "dsn": url, "table": schema,
        "symbol": work.series.symbol, "interval": work.series.interval, "first_day": days[0], "after_day": days[1],
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.peer_scripts.with_ours", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = json.loads(done.stdout)
    assert told["rows"] == work.rows, told
    return Took(told["seconds"], told["cpu"])
