"""What the tests of crashes and races share: the load, the processes that carry it out, and how the store is judged."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_binance.simulator.server import Simulator
from tests.fix_postgres import driver_url
from tests.kill.child import place_of
from tests.realdata.reader import Rows
from tests.realdata.stored import select, stored

REPO = Path(__file__).resolve().parents[2]
START, END = "2026-03-01T00:00:00Z", "2026-05-10T12:00:00Z"
#: Two monthly files of three parts each come first, then the pages of May, the day whose rows the month lacks, and the
#: halt, of which REST has the last word.
LOAD = {"market": "spot", "symbols": "BTCUSDT", "intervals": "15m", "start": START, "end": END, "jobs": 2}

SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
KILLS = int(os.environ.get("SOAK_KILLS") or 60)
#: Where the soak's kills struck, for the summary at its end.
KILLED: Counter[str] = Counter()


@dataclass(frozen=True)
class Ledger:
    """What must be the same after any number of kills: everything but times and who came when."""

    rows: str
    count: int
    coverage: list[tuple[Any, ...]]
    written: list[tuple[Any, ...]]

    @property
    def states(self) -> list[tuple[Any, ...]]:
        """The coverage by state alone: what is the same whichever of two files confirmed it."""
        merged: list[tuple[Any, ...]] = []
        for start, end, state, count, _ in self.coverage:
            if merged and merged[-1][1:3] == (start, state):
                start, count = merged[-1][0], merged.pop()[3] + count
            merged.append((start, end, state, count))
        return merged


def read_ledger(url: str) -> Ledger:
    """The store as plain SQL tells it."""
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


def has_tables(url: str) -> bool:
    """Whether the store was migrated."""
    if url.startswith("sqlite"):
        return Path(url.removeprefix("sqlite:///")).exists() and bool(
            select(url, "SELECT 1 FROM sqlite_master WHERE name = 'ingest_log'")
        )
    return bool(select(url, "SELECT 1 FROM pg_tables WHERE tablename = 'ingest_log'"))


def assert_consistent(url: str) -> int:
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
    return int(count)


def assert_at_one(url: str) -> int:
    """Rows and ledger agree to the row, as they do where one process writes; returns the number of rows."""
    count = assert_consistent(url)
    with_rows = select(
        url,
        "SELECT c.range_start FROM coverage c JOIN klines k ON k.open_time >= c.range_start "
        "AND k.open_time < c.range_end WHERE c.state <> 'complete'",
    )
    assert with_rows == []
    strays = select(
        url,
        "SELECT k.open_time FROM klines k WHERE NOT EXISTS (SELECT 1 FROM coverage c WHERE c.state = 'complete' "
        "AND k.open_time >= c.range_start AND k.open_time < c.range_end) AND NOT EXISTS (SELECT 1 FROM ingest_log l "
        "WHERE l.part < l.parts AND k.open_time >= l.range_start AND k.open_time < l.range_end AND NOT EXISTS ("
        "SELECT 1 FROM ingest_log e WHERE e.source_ref = l.source_ref AND e.part = e.parts))",
    )
    assert strays == []
    return count


@dataclass
class Child:
    """A load in a process of its own."""

    process: subprocess.Popen[bytes]
    output: Any
    places: Any
    kill_at: float = float("inf")

    def place(self) -> str:
        """What it was doing when it ended."""
        self.places.seek(0)
        return place_of(self.places.read(2))

    def ended(self, *also: int, within: float = 120) -> tuple[int, str]:
        """Its exit status (0, killed, or one of `also`) and what it printed."""
        with self.output:
            try:
                status = self.process.wait(within)
            finally:
                self.process.kill()
            self.output.seek(0)
            said = self.output.read().decode()
        assert status in (0, -signal.SIGKILL, *also), said
        return status, said


@dataclass(frozen=True)
class Scene:
    """One simulator, one store, a folder for temporary files, and what the store must come to."""

    simulator: Simulator
    url: str
    folder: Path
    expected: Rows
    ledger: Ledger

    @property
    def settings(self) -> dict[str, Any]:
        """What joins simulator and store."""
        hosts = {name.removeprefix("BINANCE_").lower(): value for name, value in self.simulator.settings.items()}
        return {"store_url": self.url, "rate_limit_store": "memory://", **hosts}

    def start(self, load: dict[str, Any] | None = None, **more: Any) -> Child:
        """A load that begins now."""
        output, places = tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()  # noqa: SIM115  # the child's
        places.write(bytes(2))
        places.flush()
        order = {"config": self.settings, "load": load or LOAD, "places": places.name, **more}
        if "TMPDIR" not in (environment := dict(more.pop("environment", {}))):
            environment["TMPDIR"] = str(self.folder)
        order.pop("environment", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.child", json.dumps(order)],
            cwd=REPO,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
        return Child(process, output, places)

    def run(self, load: dict[str, Any] | None = None, **more: Any) -> int:
        """A load to its end, which leaves no temporary file."""
        status, _ = self.start(load, **more).ended()
        self.assert_tidy()
        return status

    def assert_tidy(self) -> None:
        """No temporary file outlives its process."""
        assert list(self.folder.iterdir()) == [], "temporary files were left behind"

    def assert_whole(self) -> None:
        """Everything is there, as if nothing had ever happened."""
        assert stored(self.url, "spot", "BTCUSDT", "15m") == self.expected
        assert assert_at_one(self.url) == len(self.expected)
        assert read_ledger(self.url) == self.ledger

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
