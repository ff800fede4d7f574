"""kill -9 at any point leaves rows and ledger at one, and the next load ends where an undisturbed one does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import driver_url
from tests.realdata.reader import rest_rows
from tests.realdata.stored import select, stored

REPO = Path(__file__).resolve().parents[2]
START, END = "2026-03-01T00:00:00Z", "2026-05-10T12:00:00Z"
LOAD = {"market": "spot", "symbols": "BTCUSDT", "intervals": "15m", "start": START, "end": END, "jobs": 2}

#: Two monthly files of three parts each come first, then the pages of May, the day whose rows the month lacks, and the
#: halt, of which REST has the last word.
KILLS = [
    ("download", 2),
    ("mid_rows", 2),
    ("rows_without_line", 3),
    ("before_commit", 4),
    ("after_commit", 1),
    ("after_commit", 7),
]


@dataclass(frozen=True)
class Ledger:
    """What must be the same after any number of kills: everything but times and who came when."""

    rows: str
    count: int
    coverage: list[tuple[Any, ...]]
    written: list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(seed=3, symbols=["BTCUSDT"], now="2026-05-10T12:30:00Z", limits=False) as simulator:
        simulator.add_fault("missing-monthly=BTCUSDT:15m:2026-04-20T05:00..2026-04-20T09:00")
        simulator.add_fault("missing-both=BTCUSDT:15m:2026-03-12T02:00..2026-03-12T04:30")
        yield simulator


@pytest.fixture(scope="module")
def undisturbed(
    simulator: Simulator, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
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
                assert _run(simulator, url, folder) == 0
                known[kind] = _ledger(url)
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


def _run(simulator: Simulator, url: str, folder: Path, point: str = "", times: int = 0) -> int:
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    hosts = {name.removeprefix("BINANCE_").lower(): value for name, value in simulator.settings.items()}
    order = {
        "point": point,
        "times": times,
        "marker": str(folder / "marker"),
        "config": {"store_url": url, "rate_limit_store": "memory://", **hosts},
        "load": LOAD,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill.child", json.dumps(order)],
        cwd=REPO,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert list(temporary.iterdir()) == [], "temporary files were left behind"
    return done.returncode


def _ledger(url: str) -> Ledger:
    rows = stored(url, "spot", "BTCUSDT", "15m")
    digest = hashlib.sha256(repr([[str(value) for value in row.values()] for row in rows.values()]).encode())
    coverage = select(
        url, "SELECT range_start, range_end, state, row_count, confirmed_by FROM coverage ORDER BY range_start"
    )
    written = select(
        url,
        "SELECT source, CAST(sum(rows_inserted) AS integer), CAST(sum(rows_updated) AS integer) FROM ingest_log "
        "GROUP BY source ORDER BY source",
    )
    return Ledger(digest.hexdigest(), len(rows), coverage, written)


def _has_tables(url: str) -> bool:
    if url.startswith("sqlite"):
        return Path(url.removeprefix("sqlite:///")).exists() and bool(
            select(url, "SELECT 1 FROM sqlite_master WHERE name = 'ingest_log'")
        )
    return bool(select(url, "SELECT 1 FROM pg_tables WHERE tablename = 'ingest_log'"))


def _assert_at_one(url: str) -> int:
    """Rows and ledger agree, by plain SQL; returns the number of rows."""
    [(count, distinct)] = select(url, "SELECT count(*), count(DISTINCT open_time) FROM klines")
    [(inserted,)] = select(url, "SELECT CAST(coalesce(sum(rows_inserted), 0) AS integer) FROM ingest_log")
    assert count == distinct == inserted
    uneven = select(
        url,
        "SELECT c.range_start, c.row_count, count(k.open_time) FROM coverage c LEFT JOIN klines k "
        "ON k.open_time >= c.range_start AND k.open_time < c.range_end "
        "GROUP BY c.range_start, c.state, c.row_count HAVING count(k.open_time) <> c.row_count "
        "OR (c.state <> 'complete' AND count(k.open_time) > 0)",
    )
    assert uneven == []
    strays = select(
        url,
        "SELECT k.open_time FROM klines k WHERE NOT EXISTS (SELECT 1 FROM coverage c WHERE c.state = 'complete' "
        "AND k.open_time >= c.range_start AND k.open_time < c.range_end) AND NOT EXISTS (SELECT 1 FROM ingest_log l "
        "WHERE l.part < l.parts AND k.open_time >= l.range_start AND k.open_time < l.range_end AND NOT EXISTS ("
        "SELECT 1 FROM ingest_log e WHERE e.source_ref = l.source_ref AND e.part = e.parts))",
    )
    assert strays == []
    return int(count)


@pytest.mark.parametrize(("point", "times"), KILLS)
def test_killed_and_run_again(
    simulator: Simulator,
    undisturbed: Callable[[str], Ledger],
    store_url: str,
    tmp_path: Path,
    point: str,
    times: int,
) -> None:
    """The signal strikes where it should; what is there then is consistent; the second run makes it whole."""
    expected = rest_rows(simulator.truth("spot", "BTCUSDT", "15m", START, END))
    assert _run(simulator, store_url, tmp_path, point, times) == -signal.SIGKILL
    assert (tmp_path / "marker").read_text() == point
    before = _assert_at_one(store_url) if _has_tables(store_url) else 0
    assert before < len(expected)
    if point == "after_commit":
        assert before > 0

    assert _run(simulator, store_url, tmp_path) == 0
    assert _assert_at_one(store_url) == len(expected)
    assert stored(store_url, "spot", "BTCUSDT", "15m") == expected
    assert _ledger(store_url) == undisturbed(store_url.partition(":")[0])


def test_the_undisturbed_load_comes_to_every_point(simulator: Simulator, undisturbed: Callable[[str], Ledger]) -> None:
    """The load that is killed has both sources, a halt, and a hole of the monthly file that others fill."""
    ledger = undisturbed("sqlite")
    assert [source for source, _, _ in ledger.written] == ["archive", "rest"]
    assert sorted({line[2] for line in ledger.coverage}) == ["complete", "exchange_gap"]
    assert ledger.count == len(simulator.truth("spot", "BTCUSDT", "15m", START, END))
