from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Connection
from sqlalchemy.engine import make_url

from airflow_provider_binance.airflow_connections import get_connection, store_target
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.connections import binance_settings, environment_settings, parse_connection
from airflow_provider_binance.errors import ConfigError


def binance(**fields: Any) -> Connection:
    return Connection(conn_id="b", conn_type="binance", **fields)


def postgres(**fields: Any) -> Connection:
    return Connection(**{"conn_id": "p", "conn_type": "postgres", "host": "db", "schema": "ingest", **fields})


def test_login_is_the_key_and_password_the_secret() -> None:
    settings = binance_settings(
        binance(login="k", password="s", extra='{"testnet": "true", "symbols": "BTCUSDT,ETHUSDT"}')
    )
    config = BinanceConfig.load(connection=settings, environ={})
    assert config.api_key is not None
    assert config.api_secret is not None
    assert (config.api_key.get_secret_value(), config.api_secret.get_secret_value()) == ("k", "s")
    assert config.testnet is True
    assert config.symbols == ["BTCUSDT", "ETHUSDT"]


def test_json_and_uri_mean_the_same() -> None:
    by_uri = Connection(conn_id="b", uri="binance://k%2F:s%40@/?testnet=true&rate_limit_requests_per_minute=100")
    by_json = binance(login="k/", password="s@", extra='{"testnet": true, "rate_limit_requests_per_minute": 100}')
    one, other = (BinanceConfig.load(connection=binance_settings(c), environ={}) for c in (by_uri, by_json))
    assert one == other


@pytest.mark.parametrize(
    "text",
    [
        "postgres://me%40x:p%40ss%2Fw@Db.Example:5433/in%20gest?sslmode=require&connect_timeout=5",
        "postgresql://ingest@%2Frun%2Fpg/market",
        "postgres://me:secret@[::1]:5432/market",
        "sqlite:///data/in%20gest.db",
        "sqlite:////data/ingest.db",
        "binance://k:s@/?__extra__=%7B%22testnet%22%3A+true%7D",
        "binance://:s@",
        "google-cloud-platform://",
        '{"conn_type": "postgresql", "host": "db", "port": "5432", "schema": "m", "extra": {"sslmode": "require"}}',
        ' {"conn_type": "binance", "login": "k", "password": "s", "extra": "{\\"testnet\\": true}"}',
    ],
)
def test_the_environment_is_read_as_airflow_reads_it(text: str) -> None:
    """Without Airflow: what is empty there may be None here."""
    theirs = (
        Connection.from_json(text, conn_id="c") if text.strip().startswith("{") else Connection(conn_id="c", uri=text)
    )
    ours = parse_connection("c", text)
    for name in ("conn_type", "host", "schema", "login", "password", "port", "extra"):
        assert (getattr(ours, name) or None) == (getattr(theirs, name) or None), name
    assert "s@" not in repr(ours)


@pytest.mark.parametrize("text", ["secret", "{secret", '{"secret": 1}', "postgres://a:b@c:secret/d", "a://secret://b"])
def test_a_text_that_is_no_connection_is_refused_unseen(text: str) -> None:
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_INGEST_DEFAULT") as caught:
        environment_settings({"AIRFLOW_CONN_INGEST_DEFAULT": text})
    assert "secret" not in str(caught.value).replace("user:password", "")


def test_connections_of_the_environment_go_before_its_other_variables() -> None:
    """And arguments before them: both are `BinanceConfig.load`'s rule."""
    environ = {
        "AIRFLOW_CONN_BINANCE_DEFAULT": "binance://k:s@/?testnet=true",
        "AIRFLOW_CONN_INGEST_DEFAULT": "postgres://me:pw@db:5432/market?store_schema=ingest",
        "BINANCE_STORE_URL": "sqlite:////x.db",
    }
    config = BinanceConfig.load(connection=environment_settings(environ), environ=environ)
    assert (config.store_url, config.store_schema) == ("postgresql+psycopg://me:pw@db:5432/market", "ingest")
    assert config.testnet
    assert environment_settings({"AIRFLOW_CONN_INGEST_DEFAULT": " "}) == {}


def test_what_a_form_leaves_empty_is_not_given() -> None:
    extra = '{"environment": null, "symbols": [], "spot_rest_url": "", "testnet": false}'
    assert binance_settings(binance(extra=extra)) == {"testnet": False}


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        (binance(extra='{"store_url": "sqlite:////x.db"}'), "store_conn_id"),
        (binance(host="api.binance.com"), "spot_rest_url"),
        (binance(extra="[1]"), "JSON object"),
        (binance(extra="{"), "JSON object"),
        (Connection(conn_id="b", conn_type="http"), "'binance' is needed"),
    ],
)
def test_refuses_what_has_no_meaning(connection: Connection, told: str) -> None:
    with pytest.raises(ConfigError, match=r"connection 'b'") as caught:
        binance_settings(connection)
    assert told in str(caught.value)


def test_missing_connection_is_told_with_the_ways_to_make_it() -> None:
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_NOT_THERE"):
        get_connection("not_there")


def test_postgres_url_is_quoted_and_carries_what_libpq_understands() -> None:
    extra = '{"sslmode": "require", "options": "-c search_path=a,b", "store_schema": "market", "cursor": "dictcursor"}'
    target = store_target(postgres(login="me@x", password="p@ss/w:rd#", port=5433, extra=extra))
    url = make_url(target.url)
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg", "me@x", "p@ss/w:rd#")
    assert (url.host, url.port, url.database) == ("db", 5433, "ingest")
    assert dict(url.query) == {"sslmode": "require", "options": "-c search_path=a,b"}
    assert target.schema == "market"
    assert "p@ss" not in repr(target)
    assert "p%40ss" not in repr(target)


def test_postgres_takes_sockets_and_ipv6() -> None:
    assert make_url(store_target(postgres(host="/run/pg")).url).query["host"] == "/run/pg"
    assert make_url(store_target(postgres(host="::1")).url).host == "::1"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"schema": None}, "Database"),
        ({"extra": '{"sslmod": "require"}'}, "did you mean sslmode"),
        ({"extra": '{"iam": true}'}, "token"),
    ],
)
def test_postgres_refusals_never_show_the_password(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        store_target(postgres(password="hidden!", **fields))
    assert told in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "connection",
    [
        Connection(conn_id="s", conn_type="sqlite", host="/data/in gest.db"),
        Connection(conn_id="s", uri="sqlite:///data/in%20gest.db"),
        Connection(conn_id="s", uri="sqlite:////data/in%20gest.db"),
        Connection(conn_id="s", conn_type="sqlite", host="/data", schema="in gest.db"),
    ],
)
def test_sqlite_path_as_airflow_reads_it(connection: Connection) -> None:
    assert store_target(connection, executor="LocalExecutor").url == "sqlite:////data/in gest.db"


def test_relative_sqlite_path_is_refused_with_the_absolute_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        store_target(Connection(conn_id="s", conn_type="sqlite", host="ingest.db"))
    assert str(tmp_path / "ingest.db") in str(caught.value)


@pytest.mark.parametrize("executor", ["CeleryExecutor", "LocalExecutor,KubernetesExecutor"])
def test_sqlite_under_a_remote_executor_is_refused(executor: str) -> None:
    with pytest.raises(ConfigError, match="several hosts"):
        store_target(Connection(conn_id="s", conn_type="sqlite", host="/x.db"), executor=executor)


def test_executor_is_read_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(ConfigError, match="CeleryExecutor"):
        store_target(Connection(conn_id="s", conn_type="sqlite", host="/x.db"))


def test_other_types_and_empty_paths_are_refused() -> None:
    for connection in (
        Connection(conn_id="s", conn_type="mysql", host="x"),
        Connection(conn_id="s", conn_type="sqlite"),
        Connection(conn_id="s", conn_type="sqlite", host=":memory:"),
    ):
        with pytest.raises(ConfigError, match="connection 's'"):
            store_target(connection)
