"""`python -m benchmarks.run [--quick]`: measure everything and write benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from airflow_provider_binance.market import from_us, iso
from benchmarks import embedded, peers, postgres, processes, report, rest_load, stream_store, streaming, ticks
from benchmarks.database import Bench
from benchmarks.measure import Took
from benchmarks.planning import daily, plan_universe
from benchmarks.venue import Venue, venue
from benchmarks.verifying import verify_year
from benchmarks.workload import Workload, workload

ROOT = Path(__file__).resolve().parents[1]

#: Modules whose import is timed, and whether they may bring heavy libraries.
_IMPORTS = {"airflow_provider_binance.ingest": False, "airflow_provider_binance.cli": False, "airflow.sdk": True}

_EVENTS_A_SECOND = 5_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    options = _options(argv)
    load_average = os.getloadavg()
    work = workload(options.files, options.months, options.interval)
    print(f"{work.rows} klines in {work.months} files below {work.folder}", flush=True)
    results: dict[str, Any] = {
        "rows": work.rows, "months": work.months, "interval": work.series.interval, "rounds": options.rounds,
        "cores": os.cpu_count(), "load_average": load_average,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="binance-bench-") as temporary, venue(work.folder) as here:
        folder = Path(temporary)
        with postgres.server() as url:
            long = workload(options.files, options.long, options.interval)
            with venue(work.folder, now=from_us(long.window_us[1]) + timedelta(days=31)) as later:
                results["memory"] = _memory(url, later, work, long, folder)
            results["task_memory"] = _task_memory(url, here, work)
            half = work.months // 2
            pair = (
                Workload(work.folder, work.series, half), workload(options.files, half, options.interval, "ETHUSDT")
            )  # fmt: skip
            bench = Bench(url, work, pair)
            bench.run(options.rounds)
            bench.warm(here, options.rounds)
            bench.read_many(options.rounds)
            results["postgres"], results["pair_rows"] = bench.figures, sum(one.rows for one in pair)
            served = workload(options.files, max(1, half), options.interval)
            results["rest_rows"] = served.rows
            results["rest"] = rest_load.measure(url, options.files, served, bench.plain_of(served), options.rounds)
            del bench
            results["verify"] = verify_year(url, options.files, options.interval, options.rounds)
        part = workload(options.files, max(1, work.months // 4), options.interval)
        results["sqlite"], results["sqlite_rows"] = _sqlite(part, options.rounds, folder), part.rows
        if not (options.quick or options.no_peers):
            print("peers", flush=True)
            with postgres.server() as url:
                found = peers.measure(
                    url, options.files, peers.MONTHS, peers.INTERVAL, min(options.rounds, peers.ROUNDS)
                )
            results["peers"] = found
        results["planner"] = plan_universe(here, options.symbols, options.rounds, folder)
        results["daily"] = daily(options.symbols, folder)
    with postgres.server() as url:
        print("streams", flush=True)
        flood = stream_store.measure(url, options.events * 4, 0, options.rounds)
        results["streams"] = stream_store.figures(
            flood, stream_store.measure(url, options.events, _EVENTS_A_SECOND, min(options.rounds, 3))
        )
        results["clients"] = streaming.table(options.events * 2, options.rounds)
        results["ticks"] = options.ticks, *ticks.measure(url, options.ticks, min(options.rounds, 3))
    results["imports"] = {}
    for module, allowed in _IMPORTS.items():
        found = [processes.imported(module) for _ in range(options.rounds)]
        results["imports"][module] = [seconds for seconds, _ in found], found[0][1], allowed
    print(f"written: {report.write(options.output, results)}")
    if "peers" in results:
        served = workload(options.files, peers.MONTHS, peers.INTERVAL)
        peers.write(options.output, results["peers"], served.rows)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, into build/bench: does it run at all?")
    parser.add_argument("--no-peers", action="store_true", help="leave the other tools out")
    parser.add_argument("--rounds", type=int, help="measurements of each (default 5)")
    parser.add_argument("--months", type=int, help="monthly files (default 24)")
    parser.add_argument("--long", type=int, help="monthly files of the load whose memory is compared with one month's")
    parser.add_argument("--interval", help="length of a kline (default 1m)")
    parser.add_argument("--symbols", type=int, help="symbols of the planner's universe (default 500)")
    parser.add_argument("--events", type=int, help="events of a stream at a steady pace; four times as many at once")
    parser.add_argument("--ticks", type=int, help="aggregates of a day's file (default 5,000,000)")
    parser.add_argument("--files", type=Path, default=ROOT / "build/bench/files", help="where the made files are kept")
    parser.add_argument("--output", type=Path, help="folder of RESULTS.md (default benchmarks/)")
    options = parser.parse_args(argv)
    quick = (1, 2, 3, "1h", 3, 1_500, 2_000, ROOT / "build/bench")
    full = (5, 24, 120, "1m", 500, 100_000, 5_000_000, ROOT / "benchmarks")
    names = ("rounds", "months", "long", "interval", "symbols", "events", "ticks", "output")
    for name, value in zip(names, quick if options.quick else full, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _memory(url: str, here: Venue, work: Workload, long: Workload, folder: Path) -> dict[str, dict[int, int]]:
    """Peak memory (bytes) of the command line's load of one month and of many, into both databases, by months."""
    found: dict[str, dict[int, int]] = {"PostgreSQL": {}, "SQLite": {}}
    for months, end_us, rows in ((1, work.files[0].end_us, 0), (long.months, long.window_us[1], long.rows)):
        for kind, store, schema in (
            ("PostgreSQL", url.replace("postgresql://", "postgresql+psycopg://"), {"store_schema": f"memory_{months}"}),
            ("SQLite", f"sqlite:///{folder / str(months)}.db", {}),
        ):
            arguments = ["--market", "spot", "--symbol", work.series.symbol, "--interval", work.series.interval,
                         "--start", iso(work.window_us[0]), "--end", iso(end_us), "--source", "archive",
                         "--store", store]  # fmt: skip
            loaded, peak = processes.cli_load(arguments, {**here.settings, **schema, "rate_limit_store": "memory://"})
            print(f"  memory, {kind}, {months} months: {peak / 1e6:.0f} MB, {loaded['rows_inserted']} rows", flush=True)
            assert loaded["rows_inserted"] == (rows or loaded["rows_inserted"]), loaded
            found[kind][months] = peak
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA memory_1 CASCADE; DROP SCHEMA memory_{long.months} CASCADE")
    return found


def _task_memory(url: str, here: Venue, work: Workload) -> tuple[int, int]:
    """Peak memory (bytes) of an empty Airflow task, and of one that loads all files."""
    arguments = {
        "market": "spot", "symbols": work.series.symbol, "intervals": work.series.interval, "source": "archive",
        "start": iso(work.window_us[0]), "end": iso(work.window_us[1]),
    }  # fmt: skip
    settings = {**here.settings, "rate_limit_store": "memory://"}
    place = urlsplit(url)
    store = {
        "conn_type": "postgres", "host": place.hostname, "port": place.port, "login": place.username,
        "password": place.password, "schema": place.path.strip("/"), "extra": {"store_schema": "task"},
    }  # fmt: skip
    found = processes.task_memory(store, settings, arguments)
    with psycopg.connect(url, autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM task.klines").fetchone() == (work.rows,)
        db.execute("DROP SCHEMA task CASCADE")
    print(f"  memory of a task: {found[0] / 1e6:.0f} MB when empty, {found[1] / 1e6:.0f} MB", flush=True)
    return found


def _sqlite(work: Workload, rounds: int, folder: Path) -> dict[str, list[Took]]:
    ready = embedded.ready_rows(work)
    took: dict[str, list[Took]] = {}
    for number in range(rounds):
        print(f"SQLite, round {number + 1} of {rounds}", flush=True)
        plain, same, ours = (folder / f"{name}{number}.db" for name in ("plain", "same", "ours"))
        for which in ("", " again"):
            took.setdefault("plain" + which, []).append(embedded.plain(plain, ready, work.series))
            took.setdefault("same" + which, []).append(embedded.same_table(same, ready))
            took.setdefault("ours" + which, []).append(embedded.ours(ours, work))
        assert embedded.rows_of(plain, "plain") == embedded.rows_of(ours, "klines")
        for path in (plain, same, ours):
            path.unlink()
    return took


if __name__ == "__main__":
    raise SystemExit(main())
