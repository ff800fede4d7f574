"""`python -m benchmarks.ticks [--rows N]`: a big day of aggregates into PostgreSQL beside bare COPY of the same rows.

Both go into tables as the package makes them; what bare COPY takes is rendered before and read from the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psycopg

from airflow_provider_binance.archive.layout import Partition, file_at
from airflow_provider_binance.market import DAY_US, Market
from airflow_provider_binance.normalize_ticks import archive_ticks
from airflow_provider_binance.records import Series
from airflow_provider_binance.store import open_store
from benchmarks import loads, postgres
from benchmarks.workload import Workload

SERIES = Series("um", "agg_trades", "BTCUSDT")
START_US = 1_709_251_200_000_000  # 2024-03-01
_BLOCK = 1 << 20
_LINES = 100_000


@dataclass
class Day:
    """As much of a workload as a load looks at."""

    folder: Path
    series: Series
    window_us: tuple[int, int]


def make(folder: Path, rows: int) -> Day:
    """A day's file with so many aggregates, as um has them."""
    file = file_at(SERIES, Partition.DAILY, START_US)
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(file.name.replace(".zip", ".csv"), "w") as csv,
    ):
        for at in range(0, rows, _LINES):
            ids = range(at, min(at + _LINES, rows))
            prices = 600_000 + np.cumsum(random.integers(-3, 4, len(ids)))
            sizes = random.integers(1, 5_000, len(ids)).tolist()
            csv.write(
                "".join(
                    f"{2_000_000_000 + i},{price // 10}.{price % 10},{size / 1000:.3f},{4_000_000_000 + 2 * i},"
                    f"{4_000_000_001 + 2 * i},{START_US // 1000 + i * 86_400_000 // rows},"
                    f"{'true' if size % 2 else 'false'}\n"
                    for i, price, size in zip(ids, prices.tolist(), sizes, strict=True)
                ).encode()
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".CHECKSUM").write_text(f"{digest}  {path.name}\n")
    return Day(folder, SERIES, (START_US, START_US + DAY_US))


def render(day: Day, text: Path) -> tuple[str, ...]:
    """Write what bare COPY is given; returns its columns."""
    file = file_at(SERIES, Partition.DAILY, START_US)
    columns: tuple[str, ...] = ()
    with (
        zipfile.ZipFile(day.folder / file.path) as archive,
        archive.open(archive.namelist()[0]) as csv,
        text.open("wb") as out,
    ):
        rest = b""
        while block := csv.read(4 * _BLOCK):
            lines, _, rest = (rest + block).rpartition(b"\n")
            rows = archive_ticks(lines, SERIES.dataset, Market.UM, ref="bench")
            columns = rows.copy_columns
            out.writelines(rows.copy_chunks(1))
    return ("series_id", *columns)


def bare(url: str, text: Path, columns: tuple[str, ...]) -> float:
    """Seconds of COPY and nothing else, in one transaction."""
    with psycopg.connect(url) as db:
        db.execute("SELECT same.tick_month('same.agg_trades_data'::regclass, date '2024-03-01')")
        db.commit()
        began = time.perf_counter()
        statement = f"COPY same.agg_trades_data ({', '.join(columns)}) FROM STDIN (FORMAT text, DELIMITER ',')"
        with db.cursor() as cursor, cursor.copy(cast(Any, statement)) as copy, text.open("rb") as file:
            while block := file.read(_BLOCK):
                copy.write(block)
        db.commit()
        return time.perf_counter() - began


def child(url: str, folder: str) -> int:
    """One load in a process of its own: seconds, and its peak of memory in MB."""
    with open_store("postgresql+psycopg://" + url.partition("://")[2], schema="ours") as store:
        store.migrate()
        began = time.perf_counter()
        counts = loads.load(store, cast(Workload, Day(Path(folder), SERIES, (START_US, START_US + DAY_US))))
        print(
            time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, counts.rows_inserted
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    with postgres.server() as url:
        ratios, _ = measure(url, options.rows, options.rounds)
    print(f"median {statistics.median(ratios):.2f} × bare COPY")
    return 0


def measure(url: str, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Speed of a load ÷ bare COPY's, and the load's peak of memory in MB, round by round."""
    with tempfile.TemporaryDirectory(prefix="binance-bench-") as temporary:
        folder, text = Path(temporary), Path(temporary, "copy.txt")
        day = make(folder, count)
        columns = render(day, text)
        plain = "postgresql://" + url.partition("://")[2]
        ratios, peaks = [], []
        for number in range(rounds):
            took: dict[str, float] = {}
            memory = 0.0
            order = ["bare", "load"] if number % 2 == 0 else ["load", "bare"]
            with psycopg.connect(plain, autocommit=True) as db:
                db.execute("DROP SCHEMA IF EXISTS ours CASCADE; DROP SCHEMA IF EXISTS same CASCADE")
                with open_store("postgresql+psycopg://" + url.partition("://")[2], schema="same") as same:
                    same.migrate()
                for what in order:
                    postgres.settle(db)
                    if what == "bare":
                        took[what] = bare(plain, text, columns)
                        continue
                    command = [sys.executable, "-m", "benchmarks.ticks", "--child", plain, str(folder)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds, memory, rows = (float(word) for word in done.stdout.split())
                    assert rows == count, (done.stdout, done.stderr)
                    took[what] = seconds
            ratios.append(took["bare"] / took["load"])
            peaks.append(memory)
            print(
                f"{count:,} rows: bare COPY {took['bare']:.1f} s, load {took['load']:.1f} s "
                f"({ratios[-1]:.2f} of bare COPY), peak {memory:.0f} MB",
                flush=True,
            )
    return ratios, peaks


if __name__ == "__main__":
    sys.exit(main())
