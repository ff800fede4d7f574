"""Parsing the shipped DAGs asks nobody, loads nothing heavy and takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import CronDataIntervalTimetable

REPO = Path(__file__).resolve().parents[2]
DAGS = ("binance_daily", "binance_backfill", "binance_gap_repair")

SCRIPT = """
import json, socket, sqlite3, sys, time
import airflow.sdk
# What any DAG file has:
from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable, ExceptionRetryPolicy, Param, task

heavy = ("pandas", "binance", "sqlalchemy", "numpy", "requests", "aiohttp")
before = set(sys.modules)
def refuse(*_, **__):
    raise RuntimeError("asked the network or a database")
socket.socket.connect = refuse
sqlite3.connect = refuse
began = time.monotonic()
import importlib.util
names = []
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("parsed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names.append(module.dag.dag_id)
seconds = time.monotonic() - began
added = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & set(heavy))
print(json.dumps({"names": names, "seconds": seconds, "added": added}))
"""


def test_parsing_is_cheap() -> None:
    files = [str(REPO / "dags" / f"{name}.py") for name in DAGS]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *files], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["names"] == list(DAGS)
    assert told["added"] == []
    assert told["seconds"] < 1


@pytest.mark.parametrize("name", DAGS)
def test_two_parses_give_the_same_dag(name: str) -> None:
    """Nothing in a DAG depends on when it was parsed, else every parse would make a new version."""
    from airflow.serialization.serialized_objects import DagSerialization

    parsed = [json.dumps(DagSerialization.to_dict(load(name)), sort_keys=True, default=str) for _ in range(2)]
    assert parsed[0] == parsed[1]


def test_daily_names_its_timetable() -> None:
    dag = load("binance_daily")
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert not dag.catchup


@pytest.mark.parametrize("name", DAGS)
def test_every_task_has_a_time_out_and_retries(name: str) -> None:
    from airflow_provider_binance.operators.binance import BINANCE_RETRY_POLICY

    for task in load(name).tasks:
        assert task.retries
        assert task.execution_timeout
        assert task.retry_policy is BINANCE_RETRY_POLICY


def load(name: str):  # type: ignore[no-untyped-def]
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"parsed_{name}", REPO / "dags" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag
