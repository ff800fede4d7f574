"""PostgreSQL: our load beside bare COPY into a plain table, and beside bare COPY into our own table."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import psycopg

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.ingest import load
from airflow_provider_binance.market import INTERVALS, Market, from_us
from airflow_provider_binance.normalize import archive_rows
from airflow_provider_binance.store import Store, open_store
from benchmarks import loads, postgres
from benchmarks.measure import Took, timed
from benchmarks.reading import OF_ONE, Reading
from benchmarks.venue import Venue
from benchmarks.workload import Workload

_VIEW = "ours.klines"
TWO = "load, fresh, two connections"


@dataclass
class Figures:
    """Everything measured, by name; one entry per round, in the order of the rounds."""

    took: dict[str, list[Took]] = field(default_factory=dict)
    bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    warm: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    reads: dict[str, dict[str, list[Took]]] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, took: Took) -> None:
        self.took.setdefault(name, []).append(took)
        print(f"  {name}: {took.seconds:.2f} s, client CPU {took.cpu_seconds:.2f} s", flush=True)


class Bench:
    """One server, one workload. `plain` and `same` are its rows rendered for the two baselines."""

    def __init__(self, url: str, work: Workload, pair: tuple[Workload, Workload]) -> None:
        self.url, self.work, self.pair = url, work, pair
        self.figures = Figures()
        interval = INTERVALS[work.series.interval]
        same: list[bytes] = []
        plain: list[bytes] = []
        head = f"{work.series.market},{work.series.symbol},{work.series.interval}".encode()
        for file in work.files:
            rows = archive_rows(work.csv(file), Market.SPOT, interval, ref=file.path)
            text = b"".join(rows.copy_chunks(1))
            same.append(text)
            for at, line in zip(rows.times_us(), text.splitlines(), strict=True):
                _, *before, after = line.split(b",", 7)
                close = from_us(interval.close_time(at)).isoformat(" ", "milliseconds").encode()
                plain.append(b",".join((head, *before, close, after, b"\\N,\\N\n")))
        self.columns = rows.copy_columns
        self.same, self.plain = b"".join(same), b"".join(plain)

    def plain_of(self, work: Workload) -> bytes:
        """The first rows of the plain table's text, those of `work`."""
        return b"".join(self.plain.splitlines(keepends=True)[: work.rows])

    def run(self, rounds: int) -> Figures:
        with psycopg.connect(self.url, autocommit=True) as db:
            self.figures.version = str(db.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
            for number in range(rounds):
                print(f"PostgreSQL, round {number + 1} of {rounds}", flush=True)
                self._round(db, first=number == 0, turn=number)
            reading = Reading(db, self.figures.reads, self.figures.plans, rounds)
            reading.measure(OF_ONE, interval=self.work.series.interval)
        return self.figures

    def _round(self, db: psycopg.Connection[Any], *, first: bool, turn: int) -> None:
        db.execute("DROP SCHEMA IF EXISTS ours CASCADE; DROP SCHEMA IF EXISTS same CASCADE")
        db.execute("DROP SCHEMA IF EXISTS twin CASCADE")
        with _store(self.url, "twin") as twin:
            twin.migrate()
        postgres.make_plain(db)
        with _store(self.url, "same") as same:
            same.migrate()
        columns = ", ".join(["series_id", *self.columns])
        with _store(self.url, "ours") as store:
            me, backend = db.info.backend_pid, _backend(db)
            fresh = [
                ("bare COPY, plain table", lambda: postgres.copy(db, "plain", self.plain), me),
                ("bare COPY, our table", lambda: postgres.copy(db, f"same.klines_data ({columns})", self.same), me),
                ("load, fresh", lambda: self._load(store, inserted=self.work.rows), backend),
                (TWO, self._load_pair, me),
            ]
            shift = turn % len(fresh)
            for name, action, pid in fresh[shift:] + fresh[:shift]:
                self._measure(db, name, action, pid)
            if first:
                self._compare(db)
            self._measure(db, "load again, forced, identical", lambda: self._load(store, inserted=0), backend)
            lacking = db.execute("DELETE FROM ours.klines_data WHERE trade_count % 10 = 3").rowcount
            db.execute("VACUUM ours.klines_data")
            self._measure(db, "load again, 10 % lacking", lambda: self._load(store, inserted=lacking), backend)
            if first:
                self._compare(db)

    def _measure(self, db: psycopg.Connection[Any], name: str, action: Any, pid: int) -> None:
        postgres.settle(db)
        self.figures.add(name, timed(action, pid))

    def _load(self, store: Store, *, inserted: int) -> None:
        counts = loads.load(store, self.work)
        assert (counts.rows_read, counts.rows_inserted, counts.rows_updated) == (self.work.rows, inserted, 0), counts

    def _load_pair(self) -> None:
        """As many rows of two series, over two connections."""
        with _store(self.url, "twin") as store:
            counts = loads.load(store, *self.pair, connections=2)
        assert counts.rows_inserted == sum(work.rows for work in self.pair), counts

    def _compare(self, db: psycopg.Connection[Any]) -> None:
        """Every row, every column: our view against the baseline's table; and the ledger against both."""
        for one, other in ((_VIEW, "plain"), ("plain", _VIEW)):
            found = db.execute(f"SELECT count(*) FROM (SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}) d")
            different = found.fetchone()
            assert different == (0,), f"{different} rows of {one} are not in {other}"
        counts = db.execute(
            f"SELECT (SELECT count(*) FROM {_VIEW}), (SELECT count(*) FROM plain), "
            "(SELECT sum(row_count) FROM ours.coverage WHERE state = 'complete')"
        ).fetchone()
        assert counts == (self.work.rows,) * 3, counts
        for name, table in (("plain", "plain"), ("ours", "ours.klines_data")):
            self.figures.bytes.setdefault(name, postgres.bytes_of(db, table))

    def read_many(self, rounds: int) -> None:
        """The newest klines of many symbols; leaves nothing else in the tables."""
        with psycopg.connect(self.url, autocommit=True) as db:
            Reading(db, self.figures.reads, self.figures.plans, rounds).of_many()

    def warm(self, venue: Venue, rounds: int) -> None:
        """The second run, through the front door: the ledger answers, so that nobody is asked."""
        config = BinanceConfig(**venue.settings, rate_limit_store="memory://")
        start, end = map(from_us, self.work.window_us)
        seconds, requests, size, read, changes = [], 0, 0, 0, _changes(self.url)
        for _ in range(rounds):
            with open_store(self.url, schema="ours") as store:
                before = venue.counts()
                report: list[Any] = []
                took = timed(
                    lambda store=store, report=report: report.append(
                        load(
                            market="spot", symbols=[self.work.series.symbol], intervals=[self.work.series.interval],
                            start=start, end=end, store=store, config=config,
                        )
                    )
                )  # fmt: skip
                seconds.append(took.seconds)
                requests += venue.counts()[0] - before[0]
                size += venue.counts()[1] - before[1]
            read += report[0].counts.rows_read
        self.figures.warm = {
            "seconds": seconds, "requests": requests, "bytes": size, "rows": read,
            "changes": _changes(self.url) - changes,
        }  # fmt: skip


def _store(url: str, schema: str) -> Store:
    store = open_store(url, schema=schema)
    store.migrate()
    store.ensure_environment(loads.ENVIRONMENT)
    return store


def _backend(db: psycopg.Connection[Any]) -> int:
    """The server process of the store's connection."""
    found = db.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'binance-ingest' ORDER BY backend_start DESC LIMIT 1"
    ).fetchone()
    assert found is not None
    return int(found[0])


def _changes(url: str) -> int:
    """Rows that were ever inserted, updated or deleted in the store, as the server counts them."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SELECT pg_stat_force_next_flush()")
        time.sleep(1)  # backends that have ended report theirs
        found = db.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE schemaname = 'ours'"
        ).fetchone()
    assert found is not None
    return int(found[0])
