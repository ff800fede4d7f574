"""The simulator with its holes, and the scene on either store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import driver_url
from tests.kill.scene import END, KILLED, SEED, START, Ledger, Scene, read_ledger
from tests.realdata.reader import Rows, rest_rows

MakeScene = Callable[[str], Scene]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was killed where."""
    if KILLED:
        places = ", ".join(f"{place} {count}" for place, count in sorted(KILLED.items()))
        terminalreporter.write_line(f"kill -9: {KILLED.total()} in all ({places}); SOAK_SEED={SEED}")


@pytest.fixture(scope="package")
def simulator() -> Iterator[Simulator]:
    with Simulator(seed=3, symbols=["BTCUSDT"], now="2026-05-10T12:30:00Z", limits=False) as simulator:
        simulator.add_fault("missing-monthly=BTCUSDT:15m:2026-04-20T05:00..2026-04-20T09:00")
        simulator.add_fault("missing-both=BTCUSDT:15m:2026-03-12T02:00..2026-03-12T04:30")
        yield simulator


@pytest.fixture(scope="package")
def expected(simulator: Simulator) -> Rows:
    """Every row there is."""
    return rest_rows(simulator.truth("spot", "BTCUSDT", "15m", START, END))


@pytest.fixture(scope="package")
def undisturbed(
    simulator: Simulator, expected: Rows, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Ledger]]:
    """By kind of store, what a load leaves that nobody kills."""
    known: dict[str, Ledger] = {}
    with ExitStack() as databases:

        def ledger(kind: str) -> Ledger:
            if kind not in known:
                folder = tmp_path_factory.mktemp("undisturbed")
                url = f"sqlite:///{folder / 'ingest.db'}"
                if kind != "sqlite":
                    url = databases.enter_context(_database(request.getfixturevalue("postgres_url")))
                temporary = tmp_path_factory.mktemp("temporary")
                assert Scene(simulator, url, temporary, expected, Ledger("", 0, [], [])).run() == 0
                known[kind] = read_ledger(url)
            return known[kind]

        yield ledger


@contextmanager
def _database(server_url: str) -> Iterator[str]:
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"undisturbed_{os.getpid()}"
    with psycopg.connect(driver_url(server_url), autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        url = make_url(server_url).set(database=name, drivername="postgresql+psycopg")
        yield url.render_as_string(hide_password=False)
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def make_scene(simulator: Simulator, expected: Rows, undisturbed: Callable[[str], Ledger], tmp_path: Path) -> MakeScene:
    """A scene on the store of that URL."""

    def make(url: str) -> Scene:
        folder = tmp_path / "temporary"
        folder.mkdir(exist_ok=True)
        simulator.clear_requests()
        return Scene(simulator, url, folder, expected, undisturbed(url.partition(":")[0]))

    return make


@pytest.fixture
def scene(make_scene: MakeScene, store_url: str) -> Scene:
    """A scene on an empty database, in both kinds."""
    return make_scene(store_url)
