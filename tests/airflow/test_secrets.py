"""No key, no secret, no password comes out of a DAG run that uses them all; and what lets one out is found.

Airflow runs at DEBUG. The API key signs requests, the store is a PostgreSQL connection with a password.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL, make_url

from airflow_provider_binance import ingest
from tests.airflow.conftest import API_KEY, API_SECRET
from tests.airflow.scene import Scene
from tests.fix_postgres import driver_url

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

#: Made up, of characters that a URL must encode.
PASSWORD = "cAnArY pA55/+=@:%&?#w0rd"
SECRETS = {"key": API_KEY, "secret": API_SECRET, "password": PASSWORD}
SIGNED = ("/api/v3/account", "/api/v3/myTrades", "/sapi/v1/account/apiRestrictions")

#: Of a run: the name of a text, and the text.
Texts = dict[str, str]


@pytest.fixture(scope="module")
def database(postgres_url: str, scene: Scene) -> Iterator[URL]:
    """An empty database whose owner has the password, and connections to it in Airflow."""
    name = f"canary_{os.getpid()}"
    url = make_url(postgres_url).set(database=name, username=name, password=PASSWORD)
    with psycopg.connect(driver_url(postgres_url), autocommit=True) as admin:
        role = sql.Identifier(name)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, PASSWORD))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    fields = {"conn_type": "postgres", "host": url.host, "login": name, "password": PASSWORD, "schema": name}
    scene.airflow.create_connection({"connection_id": "canary_store", "port": url.port, **fields})
    # Nobody listens at port 9.
    scene.airflow.create_connection({"connection_id": "canary_lost", "port": 9, **fields, "host": "127.0.0.1"})
    yield url
    with psycopg.connect(driver_url(postgres_url), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture(scope="module")
def states(scene: Scene, database: URL) -> dict[str, str]:
    """How the tasks of the run with all secrets ended."""
    return run(scene, "canary")


@pytest.fixture(scope="module")
def texts(scene: Scene, database: URL, states: dict[str, str]) -> Texts:
    """All that can be read after that run, and after those of the tests before."""
    scene.airflow.wait_for_runs("binance_daily", "scheduled")
    return gather(scene, database)


@pytest.fixture(scope="module")
def leaky_texts(scene: Scene, database: URL, texts: Texts) -> Texts:
    """All that can be read after a run that lets every secret out."""
    urls = [f"{scene.binance_extra['spot_rest_url']}{path}" for path in (PUBLIC, FILE)]
    scene.canaries.write_text(json.dumps({"secrets": list(SECRETS.values()), "urls": urls}))
    run(scene, "leaky")
    return gather(scene, database)


PUBLIC = "/api/v3/time"
FILE = "/archive/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-11-18.zip"


def run(scene: Scene, dag_id: str) -> dict[str, str]:
    scene.airflow.wait_for_dags(dag_id)
    scene.airflow.unpause(dag_id)
    run_id, _ = scene.run(dag_id, {})
    return {task["task_id"]: task["state"] for task in scene.airflow.task_instances(dag_id, run_id)}


def gather(scene: Scene, database: URL) -> Texts:
    """Logs, XComs, reports, ledgers, Airflow's own database, and what Binance received where no key is due."""
    airflow = scene.airflow
    files = [path for path in airflow.home.rglob("*") if path.suffix in (".log", ".json", ".cfg") and path.is_file()]
    texts = {f"log {path.relative_to(airflow.home)}": path.read_text(errors="replace") for path in files}
    for dag_id in ("binance_daily", "binance_backfill", "canary", "leaky"):
        path = f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances/~/xcomEntries?limit=100"
        listed = airflow.call("GET", path)
        assert len(listed["xcom_entries"]) == listed["total_entries"]
        for entry in listed["xcom_entries"]:
            run_id, task_id, key = entry["run_id"], entry["task_id"], entry["key"]
            value = airflow.xcom(dag_id, run_id, task_id, map_index=entry["map_index"], key=key)
            name = f"xcom {dag_id}/{task_id}/{key}"
            texts[name] = texts.get(name, "") + json.dumps(value, ensure_ascii=False)
    texts |= {f"metadata {table}": text for table, text in postgres_tables(make_url(scene.metadata_url)).items()}
    texts |= {f"ledger sqlite {table}": text for table, text in sqlite_tables(scene.store).items()}
    texts |= {f"ledger postgresql {table}": text for table, text in postgres_tables(database).items()}
    report = ingest.coverage(store=database.set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    texts["report"] = repr(report) + json.dumps(report.to_dict(), ensure_ascii=False)
    for request in received(scene):
        told = json.dumps(request, ensure_ascii=False)
        if request["path"] in SIGNED:  # which alone have the key, and nothing else
            told = told.replace(json.dumps(API_KEY), "KEY")
        texts[f"request {request['path']}"] = texts.get(f"request {request['path']}", "") + told
    return texts


def received(scene: Scene) -> list[dict[str, Any]]:
    return [json.loads(line) for line in scene.request_log.read_text().splitlines()]


def sqlite_tables(path: Path) -> dict[str, str]:
    """Every row of every table, as text."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = lambda raw: raw.decode(errors="replace")
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: "\n".join(map(shown, database.execute(f'SELECT * FROM "{name}"'))) for name in names}


def postgres_tables(url: URL) -> dict[str, str]:
    with psycopg.connect(make_conninfo(host=url.host, port=url.port, user=url.username, password=url.password,
                                       dbname=url.database)) as database:  # fmt: skip
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        names = [row[0] for row in database.execute(query)]
        return {
            name: "\n".join(map(shown, database.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))))
            for name in names
        }


def shown(row: tuple[Any, ...]) -> str:
    return " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row)


def leaks(texts: Texts) -> set[tuple[str, str, str]]:
    """Which text holds which secret in which spelling: plain, URL-encoded in whatever way, or within base64."""
    found = set()
    for name, text in texts.items():
        standard = text.replace("-", "+").replace("_", "/")
        for label, secret in SECRETS.items():
            if secret in text:
                found.add((name, label, "plain"))
            rest = text.replace(secret, "")
            if secret in unquote(rest) or secret in unquote_plus(rest):
                found.add((name, label, "URL-encoded"))
            if any(core in standard for core in base64_cores(secret)):
                found.add((name, label, "base64"))
    return found


def base64_cores(secret: str) -> list[str]:
    """What base64 makes of the inner bytes of a secret, wherever in a longer text it begins."""
    cores = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        cores.append(encoded[(0, 2, 3)[before] : -1])
    return cores


def test_run_uses_every_secret(scene: Scene, states: dict[str, str], texts: Texts) -> None:
    """Else the next test would show nothing."""
    assert states == {"sign": "success", "load": "success", "refused": "failed", "lost": "failed"}
    signed = [
        request
        for request in received(scene)
        if request["path"] in SIGNED
        and API_KEY in [value for name, value in request["headers"] if name.lower() == "x-mbx-apikey"]
    ]
    assert {request["status"] for request in signed} == {200, 404}
    for request in signed:
        assert "signature=" in request["query"]
    assert {"request /api/v3/klines", f"request {FILE}", "report", "ledger postgresql ingest_log"} <= texts.keys()
    logs = {name: text for name, text in texts.items() if name.startswith("log ")}
    for told in ("StoreUnavailableError", "/api/v3/myTrades", "BinanceConfig("):
        assert any(told in text for text in logs.values()), told
    assert any('"level":"debug"' in text for name, text in logs.items() if "dag_id=canary" in name)


def test_no_secret_is_anywhere(texts: Texts) -> None:
    # Airflow itself keeps a connection's login in the clear: in its database, and in its audit log when one is made.
    audit = "\n".join(line for line in texts["metadata log"].splitlines() if " post_connection " not in line)
    found = leaks({**texts, "metadata log": audit})
    assert found - {("metadata connection", "key", "plain")} == set()


@pytest.mark.parametrize("spelling", ["plain", "URL-encoded", "base64"])
@pytest.mark.parametrize("secret", list(SECRETS))
@pytest.mark.parametrize(
    "place",
    [
        "task_id=log/",
        "task_id=printed/",
        "task_id=exception/",
        "xcom leaky/xcom/",
        "metadata xcom",
        "ledger postgresql ingest_log",
        "report",
        f"request {PUBLIC}",
        f"request {FILE}",
    ],
)
def test_a_planted_leak_is_found(leaky_texts: Texts, place: str, secret: str, spelling: str) -> None:
    """The check of the test above, after a run that let the secret out here."""
    assert [name for name, *what in leaks(leaky_texts) if place in name and what == [secret, spelling]]
