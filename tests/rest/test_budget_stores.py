"""The budget's stores: atomic among threads and processes, safe when a holder dies, honest when the file is broken."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.rest.budget import PoolState
from airflow_provider_binance.rest.budget_stores import (
    LOST,
    FileBudgetStore,
    MemoryBudgetStore,
    default_budget_path,
    open_budget_store,
)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryBudgetStore() if request.param == "memory" else FileBudgetStore(tmp_path / "budget.json")


def add_one(value):
    count = (value or {"n": 0})["n"] + 1
    return {"n": count}, count


def test_a_step_sees_the_last_value_and_gives_its_result(store):
    assert [store.transact("a", add_one) for _ in range(3)] == [1, 2, 3]
    assert store.transact("b", add_one) == 1


def test_a_step_that_raises_changes_nothing(store):
    store.transact("a", add_one)
    with pytest.raises(ZeroDivisionError):
        store.transact("a", lambda value: (1 / 0, None))
    assert store.transact("a", add_one) == 2


def test_threads_lose_no_step(store):
    threads = [threading.Thread(target=lambda: [store.transact("a", add_one) for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.transact("a", add_one) == 201


def test_the_cache_keeps_bytes_until_they_are_too_old(store):
    assert store.cache_get("https://a/b?c", 60) is None
    store.cache_put("https://a/b?c", b"\x00value")
    store.cache_put("https://a/b?c", b"newer")
    assert store.cache_get("https://a/b?c", 60) == b"newer"
    assert store.cache_get("https://a/b?c", -1) is None


def test_two_stores_on_one_file_are_one(tmp_path):
    one, two = FileBudgetStore(tmp_path / "b.json"), FileBudgetStore(tmp_path / "b.json")
    one.transact("a", add_one)
    assert two.transact("a", add_one) == 2
    one.cache_put("k", b"v")
    assert two.cache_get("k", 60) == b"v"


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"values": 3}', b'{"values": {"a": 1}}', b"\xff\xfe", b"null"])
def test_a_corrupted_file_starts_anew_with_every_pool_suspect(tmp_path, broken, caplog):
    path = tmp_path / "budget.json"
    path.write_bytes(broken)
    seen = []
    store = FileBudgetStore(path)
    for key in ("a", "b"):
        store.transact(key, lambda value: (seen.append(value) or PoolState().to_json(), None))
    assert seen == [LOST, LOST]
    assert PoolState.from_json(LOST).suspect
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    seen.clear()
    FileBudgetStore(path).transact("a", lambda value: (seen.append(value) or {}, None))
    assert seen == [PoolState().to_json()]


def test_old_keys_are_dropped(tmp_path):
    store = FileBudgetStore(tmp_path / "budget.json")
    for i in range(80):
        store.transact(str(i), add_one)
    values = json.loads(store.path.read_text())["values"]
    assert len(values) == 64
    assert "79" in values


def test_no_temporary_files_stay(tmp_path):
    store = FileBudgetStore(tmp_path / "budget.json")
    for _ in range(5):
        store.transact("a", add_one)
    assert {p.name for p in tmp_path.iterdir()} <= {"budget.json", "budget.json.lock"}


def test_urls(tmp_path, monkeypatch):
    assert open_budget_store("memory://") is open_budget_store("memory://")
    opened = open_budget_store(f"file://{tmp_path}/with%20space.json")
    assert opened.path == tmp_path / "with space.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_budget_store("auto").path == tmp_path / "xdg" / "airflow-provider-binance" / "budget.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_budget_path() == Path.home() / ".cache/airflow-provider-binance/budget.json"


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@h/d", "redis://h", "file://host/path", "file://", "nonsense", ""]
)
def test_other_urls_are_refused_with_the_accepted_ones(url):
    with pytest.raises(ConfigError, match=r"use auto, memory:// or file:///absolute/path") as caught:
        open_budget_store(url)
    assert "secret" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_told_with_the_remedy(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(ConfigError, match="rate_limit_store"):
        FileBudgetStore(blocker / "budget.json")
    with pytest.raises(ConfigError, match="memory://"):
        FileBudgetStore(tmp_path)


WORKER = """
import sys, time
from airflow_provider_binance.rest.budget import *
from airflow_provider_binance.rest.budget_stores import FileBudgetStore
path, seconds = sys.argv[1], float(sys.argv[2])
store, pool = FileBudgetStore(path), Pool("p", 400, 1000)
until, n, spent = time.monotonic() + seconds, 0, {}
while time.monotonic() < until:
    n += 1
    def step(value):
        now = int(time.time() * 1000)
        state, outcome = acquire(PoolState.from_json(value), pool, now_ms=now, cost=2, priority=Priority.BACKFILL,
                                 ticket=f"{sys.argv[3]}-{n}")
        if isinstance(outcome, Grant):
            state = settle(state, pool, outcome, now_ms=now)
        return state.to_json(), outcome
    outcome = store.transact("p", step)
    if isinstance(outcome, Wait):
        n -= 1
        time.sleep(min(outcome.seconds, 0.2))
    else:
        spent[outcome.windows[0]] = spent.get(outcome.windows[0], 0) + 2
print(spent)
"""


def start(tmp_path, seconds, name):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path / "budget.json"), str(seconds), name],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_six_processes_never_exceed_a_window_together(tmp_path):
    workers = [start(tmp_path, 3.5, str(i)) for i in range(6)]
    total: dict[int, int] = {}
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        spent = eval(output)
        assert spent, "every process gets its share"
        for window, weight in spent.items():
            total[window] = total.get(window, 0) + weight
    assert max(total.values()) <= 388
    assert sorted(total.values())[len(total) // 2] >= 0.9 * 388


def test_the_lock_is_free_when_its_holder_is_killed(tmp_path):
    script = (
        "import sys, time\n"
        "from airflow_provider_binance.rest.budget_stores import FileBudgetStore\n"
        "def hang(value):\n    print('held', flush=True)\n    time.sleep(60)\n"
        "FileBudgetStore(sys.argv[1]).transact('a', hang)\n"
    )
    path = tmp_path / "budget.json"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    began = time.monotonic()
    assert FileBudgetStore(path).transact("a", add_one) == 1
    assert time.monotonic() - began < 2
