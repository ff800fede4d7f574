"""Airflow connections as plain values: a `binance` one as settings, a `postgres` or `sqlite` one as the store.

The store's connection is read without its provider's hook, and both are read from the environment variables
`AIRFLOW_CONN_<ID>` without Airflow, so that a container without it shares its configuration. Every error names the
connection and the way out, never a password.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from airflow_provider_binance.errors import ConfigError

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
#: The connections that are used where nothing else is said.
BINANCE_CONN_ID = "binance_default"
STORE_CONN_ID = "ingest_default"
_REMOTE_EXECUTORS = ("celery", "kubernetes", "edge", "ecs", "batch", "lambda")


class Connection(Protocol):
    """What is read of a connection: Airflow's own, or one of the environment."""

    @property
    def conn_id(self) -> str: ...

    @property
    def conn_type(self) -> str | None: ...

    @property
    def host(self) -> str | None: ...

    @property
    def schema(self) -> str | None: ...

    @property
    def login(self) -> str | None: ...

    @property
    def password(self) -> str | None: ...

    @property
    def port(self) -> int | None: ...

    @property
    def extra(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class WrittenConnection:
    """A connection as a text has it. Nothing of it is shown: logins, passwords and extras are secret."""

    conn_id: str
    conn_type: str = ""
    host: str | None = field(default=None, repr=False)
    schema: str | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    port: int | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """Where the ingest database is: a URL for `open_store`, and the schema of its tables."""

    url: str = field(repr=False)  # holds the password
    schema: str | None = None


def environment_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that `AIRFLOW_CONN_BINANCE_DEFAULT` and `AIRFLOW_CONN_INGEST_DEFAULT` hold, by `BinanceConfig`'s
    names; an empty one counts as none.

    Raises:
        ConfigError: malformed, or as `binance_settings` and `store_target`.
    """
    values: dict[str, Any] = {}
    if text := environ.get(f"AIRFLOW_CONN_{BINANCE_CONN_ID.upper()}", "").strip():
        values |= binance_settings(parse_connection(BINANCE_CONN_ID, text))
    if text := environ.get(f"AIRFLOW_CONN_{STORE_CONN_ID.upper()}", "").strip():
        target = store_target(parse_connection(STORE_CONN_ID, text), executor="")
        values |= {"store_url": target.url, "store_schema": target.schema}
    return values


def parse_connection(conn_id: str, text: str) -> WrittenConnection:
    """The connection that `text`, a URI or JSON, describes to Airflow; raises ConfigError, which does not quote it."""
    try:
        fields = _of_json(text) if text.lstrip().startswith("{") else _of_uri(text.strip())
    except ValueError:
        raise ConfigError(
            f"connection {conn_id!r}: its text (AIRFLOW_CONN_{conn_id.upper()}) is neither a URI such as "
            'postgres://user:password@host:5432/database nor JSON such as {"conn_type": "binance", "login": "KEY"} '
            "with conn_type, host, schema, login, password, port and extra",
            conn_id=conn_id,
        ) from None
    kind = str(fields.pop("conn_type", None) or "")
    kind = "postgres" if kind == "postgresql" else kind.replace("-", "_")
    return WrittenConnection(conn_id, kind, **fields)


def _of_json(text: str) -> dict[str, Any]:
    given = json.loads(text)
    given.pop("description", None)
    extra, port = given.pop("extra", None), given.pop("port", None)
    if unknown := given.keys() - {"conn_type", "host", "schema", "login", "password"}:
        raise ValueError(unknown)
    fields: dict[str, Any] = {name: None if value is None else str(value) for name, value in given.items()}
    if extra:
        fields["extra"] = extra if isinstance(extra, str) else json.dumps(extra)
    return fields | ({"port": int(port)} if port else {})


def _of_uri(text: str) -> dict[str, Any]:
    """As Airflow reads it: parts percent-encoded, the extra as query or as JSON in its `__extra__`."""
    parts = urlsplit(text)
    if not parts.scheme or text.partition("?")[0].count("://") != 1:
        raise ValueError("a URI has one scheme")
    fields: dict[str, Any] = {"conn_type": parts.scheme, "port": parts.port, "schema": unquote(parts.path[1:]) or None}
    fields["host"] = unquote(parts.hostname or "")
    if "/" in fields["host"]:  # a path, which `hostname` gives in lower case
        fields["host"] = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
    for name, value in (("login", parts.username), ("password", parts.password)):
        fields[name] = unquote(value) if value else None
    if query := dict(parse_qsl(parts.query, keep_blank_values=True)):
        fields["extra"] = query.get("__extra__") or json.dumps(query)
    return fields


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


def store_target(connection: Connection, *, executor: str) -> StoreTarget:
    """The ingest database that a `postgres` or `sqlite` connection names.

    Args:
        connection: the store's connection.
        executor: Airflow's executor; empty where Airflow has no part.

    Raises:
        ConfigError: another type, no database named, an extra without meaning, a relative SQLite path, or SQLite
            under an executor whose tasks run on several hosts.
    """
    if connection.conn_type in ("postgres", "postgresql"):
        return _postgres(connection)
    if connection.conn_type == "sqlite":
        return _sqlite(connection, executor)
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
