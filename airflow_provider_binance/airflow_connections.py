"""Airflow connections as plain values: a `binance` one as settings, a `postgres` or `sqlite` one as the store.

The store's connection is read without its provider's hook, so that neither provider need be installed. Every error
names the connection and the way out, never a password.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow_provider_binance.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

#: Extras of a `postgres` connection that libpq understands; they go into the store's URL as they are.
LIBPQ_EXTRAS = frozenset(
    {
        "application_name", "channel_binding", "client_encoding", "connect_timeout", "gssencmode", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "options", "passfile", "service",
        "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
        "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip
#: Extras that only Airflow's own PostgresHook reads; they say nothing about where the database is.
_HOOK_EXTRAS = frozenset({"cursor", "sqlalchemy_scheme", "sqlalchemy_query", "log_sql", "openlineage_api_endpoint"})
_TOKEN_EXTRAS = frozenset({"iam", "redshift", "redshift-serverless", "azure_conn_id", "aws_conn_id"})
#: Executors whose tasks run on other hosts than the one that was meant by the path of a SQLite file.
_REMOTE_EXECUTORS = ("celery", "kubernetes", "edge", "ecs", "batch", "lambda")


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """Where the ingest database is: a URL for `open_store`, and the schema of its tables."""

    url: str = field(repr=False)  # holds the password
    schema: str | None = None


def get_connection(conn_id: str) -> Connection:
    """The Airflow connection called `conn_id`; raises ConfigError with the ways to create it if there is none."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigError(
            f"the Airflow connection {conn_id!r} does not exist. Create it in the UI (Admin → Connections), with "
            f"`airflow connections add {conn_id} …`, or as JSON in the environment variable "
            f"AIRFLOW_CONN_{conn_id.upper()}",
            conn_id=conn_id,
        ) from None


def binance_settings(connection: Connection) -> dict[str, Any]:
    """The settings of a `binance` connection, by `BinanceConfig`'s names: login, password and extras.

    Empty fields count as not given, since a form sends them.

    Raises:
        ConfigError: another connection type, an extra that is no JSON object, a field or an extra that has no meaning.
    """
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != "binance":
        raise ConfigError(f"{where} is of type {connection.conn_type!r}; a connection of type 'binance' is needed")
    if given := [name for name in ("host", "port", "schema") if getattr(connection, name)]:
        raise ConfigError(
            f"{where}: {', '.join(given)} has no meaning here; leave it empty. Other hosts are set by the extras "
            "spot_rest_url, um_rest_url, cm_rest_url, archive_url, archive_listing_url"
        )
    extras = _extras(connection)
    for name in ("store_url", "store_schema"):
        if name in extras:
            raise ConfigError(
                f"{where}: the extra {name} is refused, since two places could then name two databases. The ingest "
                "database has its own connection, of type postgres or sqlite (store_conn_id, by default "
                "'ingest_default'; its extra store_schema names the schema)"
            )
    standard = {"api_key": connection.login, "api_secret": connection.password}
    values = {**extras, **{name: value for name, value in standard.items() if value}}
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def store_target(connection: Connection, *, executor: str | None = None) -> StoreTarget:
    """The ingest database that a `postgres` or `sqlite` connection names.

    Args:
        connection: the store's connection.
        executor: Airflow's executor; by default what `[core] executor` says.

    Raises:
        ConfigError: another type, no database named, an extra without meaning, a relative SQLite path, or SQLite
            under an executor whose tasks run on several hosts.
    """
    if connection.conn_type in ("postgres", "postgresql"):
        return _postgres(connection)
    if connection.conn_type == "sqlite":
        return _sqlite(connection, _executor() if executor is None else executor)
    raise ConfigError(
        f"connection {connection.conn_id!r} is of type {connection.conn_type!r}; the ingest database needs a "
        "connection of type postgres or sqlite"
    )


def _postgres(connection: Connection) -> StoreTarget:
    where = f"connection {connection.conn_id!r}"
    extras = _extras(connection)
    schema = extras.pop("store_schema", None) or None
    if token := sorted(name for name in extras if name in _TOKEN_EXTRAS and extras[name]):
        raise ConfigError(
            f"{where}: {', '.join(token)} asks for a token login, which this store cannot do; use a password"
        )
    query = {}
    for name, value in extras.items():
        if name in _HOOK_EXTRAS or name in _TOKEN_EXTRAS or value in (None, ""):
            continue
        if name not in LIBPQ_EXTRAS:
            near = difflib.get_close_matches(name, [*LIBPQ_EXTRAS, "store_schema"], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{where}: unknown extra {name!r}{hint}. Accepted: store_schema {' '.join(sorted(LIBPQ_EXTRAS))}"
            )
        query[name] = str(value)
    if not connection.schema:
        raise ConfigError(f"{where}: the field Database (schema in JSON and URI) is empty; name the ingest database")
    host = connection.host or ""
    if host.startswith("/"):  # a unix socket's directory cannot stand where a URL has its host
        query["host"], host = host, ""
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    port = f":{connection.port}" if connection.port else ""
    user = quote(connection.login or "", safe="")
    if connection.password:
        user += ":" + quote(connection.password, safe="")
    url = f"postgresql+psycopg://{user}{'@' if user else ''}{host}{port}/{quote(connection.schema, safe='')}"
    return StoreTarget(url + (f"?{urlencode(query, quote_via=quote)}" if query else ""), schema)


def _sqlite(connection: Connection, executor: str) -> StoreTarget:
    where = f"connection {connection.conn_id!r}"
    # As Airflow's SqliteHook reads it: host, then schema behind a slash; the URI sqlite:///a/b.db puts all in schema.
    path = (connection.host or "") + (f"/{connection.schema}" if connection.schema else "")
    if not path or path == ":memory:":
        raise ConfigError(f"{where} names no file; put the absolute path of the SQLite file in its field Host")
    if not path.startswith("/"):
        raise ConfigError(
            f"{where}: the SQLite path {path!r} is relative, so every process of Airflow would mean another file. "
            f"Write it absolute, for example {str(Path(path).absolute())!r}"
        )
    if any(name in executor.lower() for name in _REMOTE_EXECUTORS):
        raise ConfigError(
            f"{where} is a SQLite file, but the executor is {executor}: its workers run on several hosts, and each "
            "would load into a file of its own. Use a postgres connection, or the LocalExecutor"
        )
    return StoreTarget("sqlite:////" + path.lstrip("/"))


def _extras(connection: Connection) -> dict[str, Any]:
    import json

    if not connection.extra:
        return {}
    try:
        extras = json.loads(connection.extra)
    except ValueError:
        extras = None
    if not isinstance(extras, dict):
        raise ConfigError(
            f'connection {connection.conn_id!r}: its extra is not a JSON object such as {{"testnet": true}}'
        )
    return extras


def _executor() -> str:
    from airflow.sdk import conf

    return str(conf.get("core", "executor", fallback="LocalExecutor"))
