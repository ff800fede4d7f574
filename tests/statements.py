"""Counting what a database is asked, by the driver's own account of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

#: libpq's trace of what goes to the server: each statement is parsed once, since none is kept prepared.
_SENT = re.compile(r'^.*?F\t\d+\t(?:Parse\t *"[^"]*"|Query\t) *"(.*)"', re.MULTILINE)
#: Transactions, settings and the catalogue are no questions to the store's tables.
_ASIDE = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|PRAGMA|SET\b|SELECT current_schema\(\)|SELECT 1 FROM (pg_|sqlite_))")


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[list[str]]:
    """Every statement about the tables that new connections send, of both drivers; the list is full at the end."""
    found: list[str] = []
    traces: list[Path] = []
    sqlite_connect, postgres_connect = sqlite3.connect, psycopg.connect

    def to_file(*args: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite_connect(*args, **named)
        connection.set_trace_callback(found.append)
        return connection

    def to_server(*args: Any, **named: Any) -> psycopg.Connection[Any]:
        connection = postgres_connect(*args, **named)
        traces.append(folder / f"trace{len(traces)}")
        file = traces[-1].open("w")
        connection.pgconn.trace(file.fileno())
        opened.append(file)
        return connection

    opened: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", to_file)
        patch.setattr(psycopg, "connect", to_server)
        yield found
    for file in opened:
        file.close()
    found += [text for trace in traces for text in _SENT.findall(trace.read_text())]
    found[:] = [text for text in found if not _ASIDE.match(text)]
