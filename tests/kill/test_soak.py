"""kill -9 at random moments, many times over: rows and ledger end where an undisturbed load's do.

SOAK_SEED repeats the choices of a run (not its timing, which is the machine's); SOAK_KILLS says how many kills a test.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import driver_url
from tests.kill import test_kill
from tests.kill.test_kill import LOAD, REPO, Ledger
from tests.realdata.reader import Rows, rest_rows
from tests.realdata.stored import select, stored

SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
KILLS = int(os.environ.get("SOAK_KILLS") or 30)
#: Both windows have April, its file and its hole; together they are the whole one.
OVERLAPPING = ({**LOAD, "end": "2026-05-03T06:00:00Z"}, {**LOAD, "start": "2026-04-01T00:00:00Z"})

#: The share of kills that may strike before there is data: as the process starts, plans, makes the tables.
EARLY = 0.15
#: Of the time from first data to the end of the process; the rest is Python taking its leave.
BUSY = 0.6
_DATA = re.compile("/archive/|/klines")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300 + 30 * KILLS)]

simulator = test_kill.simulator
undisturbed = test_kill.undisturbed


@dataclass
class Child:
    """A load in a process of its own."""

    process: subprocess.Popen[bytes]
    output: Any
    kill_at: float = float("inf")

    def ended(self) -> int:
        """Its exit status, by itself or by the signal; a failure shows what it printed."""
        with self.output:
            try:
                status = self.process.wait(120)
            finally:
                self.process.kill()
            self.output.seek(0)
            assert status in (0, -signal.SIGKILL), f"seed {SEED}: {self.output.read().decode()}"
        return status


@dataclass(frozen=True)
class Soak:
    """Loads one store again and again, and kills as it goes."""

    simulator: Simulator
    url: str
    folder: Path
    chance: random.Random
    expected: Rows
    ledger: Ledger

    def start(self, load: dict[str, Any]) -> Child:
        hosts = {name.removeprefix("BINANCE_").lower(): value for name, value in self.simulator.settings.items()}
        order = {
            "point": "",
            "times": 0,
            "marker": "",
            "config": {"store_url": self.url, "rate_limit_store": "memory://", **hosts},
            "load": load,
        }
        output = tempfile.TemporaryFile()  # noqa: SIM115  # the child's, who closes it
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.child", json.dumps(order)],
            cwd=REPO,
            env={**os.environ, "TMPDIR": str(self.folder)},
            stdout=output,
            stderr=output,
        )
        return Child(process, output)

    def wait_for_data(self, children: Sequence[Child]) -> float:
        """Wait until one of them fetches a file or a page, or all have ended; the moment."""
        while not any(_DATA.search(request.path) for request in self.simulator.requests):
            if all(child.process.poll() is not None for child in children):
                break
            time.sleep(0.002)
        return time.monotonic()

    def run(self, loads: Sequence[dict[str, Any]], within: float) -> list[int]:
        """Exit statuses of loads at once, each killed at a random moment: mostly within so many seconds of the first
        data, at times before."""
        self.simulator.clear_requests()
        children = [self.start(load) for load in loads]
        try:
            began = time.monotonic() if self.chance.random() < EARLY else self.wait_for_data(children)
            for child in children:
                child.kill_at = began + self.chance.uniform(0, within)
            for child in sorted(children, key=lambda child: child.kill_at):
                while child.process.poll() is None and time.monotonic() < child.kill_at:
                    time.sleep(0.002)
                child.process.kill()
        finally:
            for child in children:
                child.process.kill()
        statuses = [child.ended() for child in children]
        self.settle()
        assert list(self.folder.iterdir()) == [], "temporary files were left behind"
        return statuses

    def load_whole(self) -> float:
        """One load that nobody kills, and everything is there; how long it took from the first data to its end."""
        self.simulator.clear_requests()
        child = self.start(LOAD)
        began = self.wait_for_data([child])
        assert child.ended() == 0
        took = time.monotonic() - began
        assert stored(self.url, "spot", "BTCUSDT", "15m") == self.expected
        assert test_kill._assert_at_one(self.url) == len(self.expected)
        assert test_kill._ledger(self.url) == self.ledger
        return took

    def settle(self) -> None:
        """Wait until PostgreSQL has noticed who is dead: a COMMIT may have been under way."""
        if self.url.startswith("sqlite"):
            return
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        deadline = time.monotonic() + 30
        while select(self.url, others) != [(0,)]:
            assert time.monotonic() < deadline, "a server process outlives its client"
            time.sleep(0.005)

    def empty(self) -> None:
        """Make the store a database that has nothing yet."""
        if self.url.startswith("sqlite"):
            database = Path(self.url.removeprefix("sqlite:///"))
            for path in database.parent.glob(f"{database.name}*"):
                path.unlink()
            return
        import psycopg

        with psycopg.connect(driver_url(self.url), autocommit=True) as server:
            server.execute("DROP SCHEMA public CASCADE")
            server.execute("CREATE SCHEMA public")


@pytest.fixture
def soak(
    simulator: Simulator,
    undisturbed: Callable[[str], Ledger],
    store_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Soak:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with capsys.disabled():
        print(f" SOAK_SEED={SEED} SOAK_KILLS={KILLS} ", end="", flush=True)
    expected = rest_rows(simulator.truth("spot", "BTCUSDT", "15m", LOAD["start"], LOAD["end"]))
    ledger = undisturbed(store_url.partition(":")[0])
    return Soak(simulator, store_url, folder, random.Random(SEED), expected, ledger)


def _assert_consistent(url: str) -> None:
    """No row twice, none that the log does not count, and no range that says more or less than the table has."""
    [(count, distinct)] = select(url, "SELECT count(*), count(DISTINCT open_time) FROM klines")
    [(inserted,)] = select(url, "SELECT CAST(coalesce(sum(rows_inserted), 0) AS integer) FROM ingest_log")
    assert count == distinct == inserted
    uneven = select(
        url,
        "SELECT c.range_start, c.row_count, count(k.open_time) FROM coverage c LEFT JOIN klines k "
        "ON k.open_time >= c.range_start AND k.open_time < c.range_end WHERE c.state = 'complete' "
        "GROUP BY c.range_start, c.row_count HAVING count(k.open_time) <> c.row_count",
    )
    assert uneven == []


@pytest.mark.parametrize("loads", [(LOAD,), OVERLAPPING], ids=["one", "two_that_overlap"])
def test_killed_at_random_moments(soak: Soak, loads: Sequence[dict[str, Any]]) -> None:
    """Every time what is there is consistent; whenever a load gets through, all is as if nobody had been killed."""
    within = soak.load_whole() * BUSY
    soak.empty()
    kills = 0
    while kills < KILLS:
        statuses = soak.run(loads, within)
        kills += statuses.count(-signal.SIGKILL)
        if test_kill._has_tables(soak.url):
            _assert_consistent(soak.url)
            if len(loads) == 1:
                test_kill._assert_at_one(soak.url)
        if not any(statuses):
            soak.load_whole()
            soak.empty()
    soak.load_whole()
