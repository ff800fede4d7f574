"""The budget's stores: atomic among threads and processes, safe when a holder dies, honest when the file is broken."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_binance import cli
from airflow_provider_binance.errors import ConfigError, StoreRightsError, StoreUnavailableError
from airflow_provider_binance.rest import budget_postgres, budget_redis, budget_stores
from airflow_provider_binance.rest.budget_postgres import PostgresBudgetStore
from airflow_provider_binance.rest.budget_stores import (
    LOST,
    FileBudgetStore,
    MemoryBudgetStore,
    default_budget_path,
    open_budget_store,
)
from airflow_provider_binance.rest.pools import PoolState
from tests.fix_postgres import driver_url


@pytest.fixture(params=["memory", "file", pytest.param("postgresql", marks=pytest.mark.postgres), "redis"])
def make(request, tmp_path):
    """Opens one more store on the same place."""
    if request.param == "memory":
        one = MemoryBudgetStore()
        return lambda: one
    if request.param == "file":
        return lambda: FileBudgetStore(tmp_path / "budget.json")
    url = request.getfixturevalue({"postgresql": "postgres_database", "redis": "redis_url"}[request.param])
    return lambda: open_budget_store(url)


@pytest.fixture
def store(make):
    opened = make()
    yield opened
    opened.close()


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.postgres), "redis"])
def shared_url(request, tmp_path):
    """The URL of a place that processes share."""
    if request.param == "file":
        return (tmp_path / "budget.json").as_uri()
    return request.getfixturevalue({"postgresql": "postgres_database", "redis": "redis_url"}[request.param])


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


def test_two_stores_on_one_place_are_one(make):
    one, two = make(), make()
    for turn in range(3):
        assert one.transact("a", add_one) == 2 * turn + 1
        assert two.transact("a", add_one) == 2 * turn + 2
    one.cache_put("k", b"v" * 1000)
    assert two.cache_get("k", 60) == b"v" * 1000
    one.close()
    two.close()
    assert one.transact("a", add_one) == 7, "a closed one opens again"
    one.close()


@pytest.mark.parametrize("broken", [b"", b"{", b"\0" * 400, b'{"values": 3}', b'{"values": {"a": 1}}', b'{"val'])
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


@pytest.mark.parametrize(
    "content", [b"root:x:0:0:root:/root:/bin/bash\n", b'{"name": "x"}', b"[]", b"\xff\xfe", b"null"]
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="precious is no file of a weight budget"):
        FileBudgetStore(path).transact("a", add_one)
    assert path.read_bytes() == content


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
    "url", ["mysql://u:secret@h/d", "file://host/path", "file://", "nonsense", "", "postgres", "redis:h"]
)
def test_other_urls_are_refused_with_the_accepted_ones(url):
    with pytest.raises(
        ConfigError, match=r"use auto, memory://, file:///absolute/path, postgresql://.* or redis://"
    ) as caught:
        open_budget_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/d?nosuch=1", "redis://u:secret@h:port/x"])
def test_what_cannot_be_read_is_told_without_its_password(url):
    with pytest.raises(ConfigError, match="looks like") as caught:
        open_budget_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
def test_a_missing_driver_is_told_with_the_extra(scheme, monkeypatch):
    name = {"postgresql": "postgres", "redis": "redis"}[scheme]
    monkeypatch.setitem(sys.modules, f"airflow_provider_binance.rest.budget_{name}", None)
    with pytest.raises(ConfigError, match=rf"airflow-provider-binance\[{name}\]"):
        open_budget_store(f"{scheme}://h")


def test_auto_is_the_stores_own_postgresql_or_a_file(tmp_path):
    for url in ("postgresql+psycopg://u:secret@h/d", "postgresql://u:secret@h/d"):
        opened = open_budget_store("auto", url)
        assert isinstance(opened, PostgresBudgetStore)
        assert "secret" not in opened.url
    assert open_budget_store("auto", "sqlite:///binance.db").path == default_budget_path()


def test_a_place_without_room_is_a_retryable_error_and_keeps_its_value(tmp_path):
    """As a full disk or a quota says it: the kernel refuses the write. What was there stays."""
    store = FileBudgetStore(tmp_path / "budget.json")
    store.transact("pool", lambda value: ({"n": 1}, None))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with pytest.raises(StoreUnavailableError, match=r"budget\.json cannot be written now"):
            store.transact("pool", lambda value: ({"n": 2}, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.transact("pool", lambda value: (value, value)) == {"n": 1}
    assert {path.name for path in tmp_path.iterdir()} <= {"budget.json", "budget.json.lock"}


def test_a_place_that_cannot_be_written_is_told_with_the_remedy(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(ConfigError, match="rate_limit_store"):
        FileBudgetStore(blocker / "budget.json")
    with pytest.raises(ConfigError, match="memory://"):
        FileBudgetStore(tmp_path)


WORKER = """
import sys, time
from airflow_provider_binance.rest.budget import acquire, settle
from airflow_provider_binance.rest.pools import Grant, Pool, PoolState, Priority, Wait
from airflow_provider_binance.rest.budget_stores import open_budget_store
url, seconds = sys.argv[1], float(sys.argv[2])
store, pool = open_budget_store(url), Pool("p", 400, 1000)
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


def test_six_processes_never_exceed_a_window_together(shared_url):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, shared_url, "2.5", str(i)], stdout=subprocess.PIPE, text=True)
        for i in range(6)
    ]
    total: dict[int, int] = {}
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        spent = eval(output)
        assert spent, "every process gets its share"
        for window, weight in spent.items():
            total[window] = total.get(window, 0) + weight
    assert max(total.values()) <= 388


HOLDER = """
import sys, time
from airflow_provider_binance.rest.budget_stores import open_budget_store
def hang(value):
    print('held', flush=True)
    time.sleep(60)
open_budget_store(sys.argv[1]).transact('a', hang)
"""


def hold_and(url, end):
    """Have a process hold the place, send it the signal `end`, and take a step after it."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            os.kill(holder.pid, end)
            if end == signal.SIGKILL:
                holder.wait()
            store = open_budget_store(url)
            assert store.transact("a", add_one) == 1
            store.close()
        finally:
            holder.kill()


def test_the_place_is_free_when_its_holder_is_killed(shared_url):
    hold_and(shared_url, signal.SIGKILL)


@pytest.mark.postgres
def test_postgresql_ends_the_session_of_a_holder_that_was_stopped(postgres_database):
    hold_and(postgres_database, signal.SIGSTOP)


def test_a_holder_that_was_stopped_holds_nothing_in_redis(redis_url):
    hold_and(redis_url, signal.SIGSTOP)


def test_the_cache_is_bounded_and_cleaned(make, monkeypatch):
    for module in (budget_stores, budget_postgres, budget_redis):
        monkeypatch.setattr(module, "CACHE_ENTRIES", 5)
        if hasattr(module, "CLEAN_SECONDS"):
            monkeypatch.setattr(module, "CLEAN_SECONDS", -1.0)
    store = make()
    for i in range(12):
        store.cache_put(f"k{i}", b"%d" % i)
        time.sleep(0.005)  # a file system's clock is coarse
    kept = [i for i in range(12) if store.cache_get(f"k{i}", 60) is not None]
    assert len(kept) <= 6
    assert kept[-1] == 11, "the newest"
    assert kept == sorted(kept)[-len(kept) :] == list(range(12 - len(kept), 12))
    store.close()


def test_old_and_half_written_cache_files_are_removed(tmp_path):
    store = FileBudgetStore(tmp_path / "b.json")
    store.cache_put("old", b"1")
    folder = tmp_path / "b.json.cache"
    (folder / ".half").write_bytes(b"")
    for path in folder.iterdir():
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    FileBudgetStore(tmp_path / "b.json").cache_put("new", b"2")
    assert len(list(folder.iterdir())) == 1


def test_a_big_cache_goes_by_bytes(make, monkeypatch):
    for module in (budget_stores, budget_postgres):
        monkeypatch.setattr(module, "CACHE_BYTES", 3000)
        monkeypatch.setattr(module, "CLEAN_SECONDS", -1.0)
    store = make()
    if isinstance(store, budget_redis.RedisBudgetStore):
        store.close()
        return  # there the server's own maxmemory is the bound in bytes
    for i in range(6):
        store.cache_put(f"k{i}", random.Random(i).randbytes(1000))
        time.sleep(0.005)
    kept = [i for i in range(6) if store.cache_get(f"k{i}", 60) is not None]
    assert 5 in kept
    assert len(kept) <= 4
    store.close()


def test_a_value_that_redis_lost_is_suspect(redis_url):
    import redis

    one, two = open_budget_store(redis_url), open_budget_store(redis_url)
    one.transact("a", add_one)
    redis.Redis.from_url(redis_url).flushdb()
    assert one.transact("a", lambda value: ({"n": 0}, value)) == LOST
    assert two.transact("a", add_one) == 1, "who never saw it goes by what is there"
    for store in (one, two):
        store.close()


def test_redis_keeps_a_ban_for_its_whole_length(redis_url):
    import redis

    with redis.Redis.from_url(redis_url) as server:
        store = open_budget_store(redis_url)
        store.transact("a", add_one)
        [key] = server.keys("*")
        assert server.ttl(key) > 4 * 86_400
        store.close()


@pytest.mark.postgres
def test_eight_make_the_schema_at_once(postgres_database):
    script = (
        "import sys\nfrom airflow_provider_binance.rest.budget_stores import open_budget_store\n"
        "store = open_budget_store('auto', sys.argv[1])\nsys.stdin.readline()\n"
        "print(store.transact('a', lambda v: ({'n': (v or {'n': 0})['n'] + 1},) * 2))\n"
        "store.cache_put('k', b'v')\nprint(store.cache_get('k', 60))"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, postgres_database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert sorted(output.splitlines()[0] for output in outputs) == [f"{{'n': {i}}}" for i in range(1, 9)]
    assert {output.splitlines()[1] for output in outputs} == {"b'v'"}


def as_role(postgres_database, *grants):
    """The URL for a new role that may connect, and what `grants` say; %s is the role."""
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"budget_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(driver_url(postgres_database), autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pa55word'")
        for grant in grants:
            owner.execute(grant.replace("%s", name))
    return make_url(postgres_database).set(username=name, password="pa55word").render_as_string(hide_password=False)


@pytest.mark.postgres
def test_a_role_that_may_not_create_is_told_the_way_out_and_it_is_one(postgres_database, capsys):
    import psycopg

    store = open_budget_store("auto", url := as_role(postgres_database))
    with pytest.raises(StoreRightsError) as caught:
        store.transact("a", add_one)
    for word in ("binance-ingest migrate --sql", "GRANT".lower(), "rate_limit_store", "file:///"):
        assert word in str(caught.value)
    assert "pa55word" not in str(caught.value)
    assert store.cache_get("k", 60) is None

    cli.main(["migrate", "--sql", "--store", postgres_database])
    role = url.split("//")[1].split(":")[0]
    with psycopg.connect(driver_url(postgres_database), autocommit=True) as owner:
        owner.execute(capsys.readouterr().out)
        with pytest.raises(StoreRightsError, match="grant"):
            store.transact("a", add_one)
        owner.execute(f"GRANT USAGE ON SCHEMA binance_budget TO {role}")
        owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA binance_budget TO {role}")
    assert store.transact("a", add_one) == 1
    store.cache_put("k", b"v")
    assert store.cache_get("k", 60) == b"v"
    store.close()


@pytest.mark.postgres
def test_a_broken_value_in_postgresql_is_suspect(postgres_database):
    import psycopg

    store = open_budget_store(postgres_database)
    store.transact("a", add_one)
    with psycopg.connect(driver_url(postgres_database), autocommit=True) as admin:
        admin.execute("UPDATE binance_budget.pools SET value = '{'")
    assert store.transact("a", lambda value: ({}, value)) == LOST
    store.close()


@pytest.mark.parametrize("url", ["postgresql://u:secret@127.0.0.1:1/d", "redis://:secret@127.0.0.1:1"])
def test_a_server_that_is_away_is_a_retryable_error(url):
    store = open_budget_store(url)
    with pytest.raises(StoreUnavailableError) as caught:
        store.transact("a", add_one)
    assert caught.value.retryable
    assert "secret" not in str(caught.value)
    assert store.cache_get("k", 60) is None
    store.cache_put("k", b"v")


@pytest.mark.postgres
def test_a_lost_connection_is_opened_again(postgres_database):
    import psycopg

    store = open_budget_store(postgres_database)
    store.transact("a", add_one)
    with psycopg.connect(driver_url(postgres_database), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'binance-budget'"
        )
    with pytest.raises(StoreUnavailableError):
        store.transact("a", add_one)
    assert store.transact("a", add_one) == 2
    store.close()
