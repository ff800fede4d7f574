"""Store URLs: what is accepted, what is refused, and that neither shows a password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_binance.errors import ConfigError, StoreUnavailableError
from airflow_provider_binance.store import open_store, schema_sql
from tests.store.helpers import EVER, SERIES


def test_sqlite_paths_are_absolute_in_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("sqlite:///a b.db").url == f"sqlite:///{tmp_path}/a b.db"
    assert open_store(f"sqlite:///{tmp_path}/x.db").url == f"sqlite:///{tmp_path}/x.db"
    assert open_store(Path("sub/x.db")).url == f"sqlite:///{tmp_path}/sub/x.db"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["postgresql://u:geheim%40x@h:1/d", "postgresql+psycopg://u:geheim%40x@h:1/d?sslmode=disable"]
)
def test_postgresql_passwords_are_masked(url: str) -> None:
    store = open_store(url)
    assert "geheim" not in store.url
    assert "***" in store.url


@pytest.mark.parametrize(
    "url",
    ["", "binance.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://u:geheim@h/d",
     "postgresql+psycopg2://u:geheim@h/d", "postgresql://u:geheim@h:port/d"],
)  # fmt: skip
def test_other_urls_are_refused_with_the_accepted_forms(url: str) -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg://.*sqlite:////absolute") as told:
        open_store(url)
    assert "geheim" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_schema_name_that_postgresql_would_cut_is_refused() -> None:
    for name in ("", "x" * 64):
        with pytest.raises(ConfigError, match="store_schema"):
            open_store("postgresql://h/d", schema=name)


def test_an_unreachable_database_is_unavailable_and_keeps_its_password() -> None:
    with (
        open_store("postgresql://u:geheim@127.0.0.1:1/d") as store,
        pytest.raises(StoreUnavailableError) as told,
    ):
        store.coverage("klines", [SERIES], *EVER)
    assert told.value.retryable
    assert "geheim" not in str(told.value)
    assert told.value.__cause__ is None


def test_importing_the_store_loads_no_driver() -> None:
    code = (
        "import sys, airflow_provider_binance.store as s; s.open_store('sqlite:///x.db'); "
        "print({'sqlalchemy', 'psycopg', 'pandas', 'binance', 'airflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "set()"


def test_the_ddl_is_printed_for_both_databases() -> None:
    assert 'CREATE SCHEMA IF NOT EXISTS "we""ird"' in schema_sql("postgresql", 'we"ird')
    assert "WITHOUT ROWID" in schema_sql("sqlite")
    with pytest.raises(ConfigError, match="postgresql or sqlite"):
        schema_sql("oracle")
