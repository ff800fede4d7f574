"""`python -m benchmarks.peers`: what other tools need for the same klines, from the same servers, in the same run.

Each peer lives in an environment of its own below `build/`, since their dependencies conflict, at the versions named
here. They are unmodified but for their hosts. Sleeps and limiters that a tool ships with are part of its time, unless
the variant says that they are off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from airflow_provider_binance.market import from_us
from benchmarks import postgres
from benchmarks.measure import Spread
from benchmarks.peer_rest import rest
from benchmarks.venue import venue
from benchmarks.workload import Workload, daily_files, workload

ROOT = Path(__file__).resolve().parents[1]
_HOMES = ROOT / "build/bench/peers"
_DRIVER = "psycopg[binary]==3.3.9"
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of loading. `source` is what ours it is compared with; `once`: too slow to be repeated."""

    name: str
    variant: str
    source: str
    script: str
    requirements: tuple[str, ...] = ()
    into: str = "PostgreSQL"
    once: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, {self.variant}"


_VISION = ("binance-vision==0.1.0", "pandas==3.1.1", "sqlalchemy==2.1.9", _DRIVER)
_SLEEPER = ("python-binance==1.0.37", _DRIVER)
_CCXT = ("ccxt==4.5.90", _DRIVER)
OURS = {
    "archive": Peer("this package", "archive", "archive", "with_ours"),
    "rest": Peer("this package", "rest", "rest", "with_ours"),
}
PEERS = (
    Peer("binance-vision", "to_sql", "archive", "with_binance_vision", _VISION),
    Peer("binance-vision", "DataFrame only", "archive", "with_binance_vision", _VISION, into="memory"),
    Peer("freqtrade", "download-data", "archive", "with_freqtrade", ("freqtrade==2026.9",), into="feather, 6 columns"),
    Peer("python-binance", "as shipped", "rest", "with_python_binance", _SLEEPER, once=True),
    Peer("python-binance", "without its sleeps", "rest", "with_python_binance", _SLEEPER),
    Peer("ccxt", "as shipped", "rest", "with_ccxt", _CCXT, into="PostgreSQL, 6 columns"),
    Peer("ccxt", "without its limiter", "rest", "with_ccxt", _CCXT, into="PostgreSQL, 6 columns"),
)

_TABLE = """
CREATE TABLE {} (open_time bigint PRIMARY KEY, open numeric, high numeric, low numeric, close numeric, volume numeric,
close_time bigint, quote_volume numeric, trade_count bigint, taker_buy_base_volume numeric,
taker_buy_quote_volume numeric)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows per second of one way in each round, or why there are none."""

    peer: Peer
    speeds: tuple[float, ...] = ()
    skipped: str = ""


def measure(
    url: str, files: Path, months: int, interval: str, rounds: int, peers: Sequence[Peer] = PEERS
) -> list[Result]:
    """Every way, ours among them, by turns in each round. `url` is a PostgreSQL server."""
    # One month more is served than is loaded: freqtrade asks for the day after, too.
    served = workload(files, months + 1, interval)
    daily_files(served)
    wanted = Workload(served.folder, served.series, months)
    ways = [*OURS.values(), *peers]
    pythons = {way.requirements: _environment(way) for way in ways}
    speeds: dict[Peer, list[float]] = {}
    skipped = {way: told for way in ways if isinstance(told := pythons[way.requirements], str)}
    for way, told in skipped.items():
        print(f"  {way.label}: {told}", flush=True)
    with venue(served.folder) as archive, rest(files, months + 1, interval) as rest_url:
        for number in range(rounds):
            for place, way in enumerate(ways):
                python = pythons[way.requirements]
                if way in skipped or isinstance(python, str) or (way.once and number):
                    continue
                table = f"peer_{number}_{place}"
                work = _work(wanted, way, {"rest": rest_url, "archive": archive.url, "dsn": url, "table": table})
                try:
                    took = _run(python, way, work, url)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    skipped[way] = f"failed: {str(error).strip().splitlines()[-1][:200]}"
                    print(f"  {way.label}: {skipped[way]}", flush=True)
                    continue
                assert took["rows"] == wanted.rows, (way.label, took, wanted.rows)
                speeds.setdefault(way, []).append(took["rows"] / took["seconds"])
                print(f"  {way.label}: {speeds[way][-1]:,.0f} rows/s", flush=True)
    return [Result(way, tuple(speeds.get(way, ())), skipped.get(way, "")) for way in ways]


def write(folder: Path, results: list[Result], rows: int) -> None:
    """Put the section into the folder's RESULTS.md, in place of an older one, and the picture beside it."""
    path = folder / "RESULTS.md"
    text = path.read_text(encoding="utf-8")
    before, _, after = text.partition("## Peers\n")
    _, mark, rest_of = after.partition("\n## ")
    told = "\n".join(section(results, rows))
    path.write_text(before.rstrip("\n") + "\n\n" + told + (mark + rest_of if mark else ""), encoding="utf-8")
    draw(folder / "peers.png", results)


def lines(results: list[Result]) -> list[tuple[str, ...]]:
    """A line per way: name, source, destination, rows/s, and how many times as fast ours is."""
    ours = {result.peer.source: result.speeds for result in results if result.peer in OURS.values()}
    told: list[tuple[str, ...]] = []
    for result in results:
        peer = result.peer
        speed, ratio = f"— ({result.skipped})", "—"
        if result.speeds:
            speed = Spread.of(result.speeds).text("{:,.0f}")
            ratio = Spread.of(a / b for a, b in zip(ours[peer.source], result.speeds, strict=False)).text("{:,.1f}")
        told.append((peer.label, "archive" if peer.source == "archive" else "REST", peer.into, speed, ratio))
    return told


def section(results: list[Result], rows: int) -> list[str]:
    """The part of RESULTS.md that tells it."""
    head = ("way", "from", "into", "rows/s", "ours is so many times as fast")
    table = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines(results))]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    about = f"""\
{rows:,} klines of one symbol from servers on loopback, by turns in each round; each tool in a process of its own,
imports not counted. Tools are unmodified but for their hosts. “As shipped” has the tool's own sleeps and limiters in
its time. Ours alone loads a keyed, exact table with a ledger, and can be repeated or killed; it verifies each file
against its checksum, and so does binance-vision. Load average at the end {load}; more than 2 means that the machine had
other work at the same time."""
    return [
        "## Peers",
        "",
        about,
        "",
        *table,
        "",
        "![peers](peers.png)",
        "",
    ]


def draw(path: Path, results: list[Result]) -> None:
    """A bar per way, grouped by source, with how many times as fast ours is."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [result for result in results if result.speeds][::-1]
    ours = {r.peer.source: Spread.of(r.speeds).median for r in shown if r.peer in OURS.values()}
    medians = [Spread.of(result.speeds).median for result in shown]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(shown) + 1), layout="constrained")
    colors = ["#3b6ea5" if result.peer in OURS.values() else "#b0b7bf" for result in shown]
    bars = axes.barh([result.peer.label for result in shown], medians, color=colors)
    labels = [
        f"{speed:,.0f}"
        if result.peer in OURS.values()
        else f"{speed:,.0f}   ours: {ours[result.peer.source] / speed:,.1f} ×"
        for speed, result in zip(medians, shown, strict=True)
    ]
    axes.bar_label(bars, labels=labels, padding=4, fontsize=8)
    axes.set_xlim(0, max(medians) * 1.25)
    axes.set_xlabel("rows/s")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _work(wanted: Workload, way: Peer, places: dict[str, str]) -> dict[str, Any]:
    start_us, end_us = wanted.window_us
    after = from_us(end_us).date()
    return {
        **places, "variant": way.variant, "symbol": wanted.series.symbol, "interval": wanted.series.interval,
        "start_ms": start_us // 1000, "end_ms": end_us // 1000, "first_day": str(from_us(start_us).date()),
        "last_day": str(after - timedelta(days=1)), "after_day": str(after),
    }  # fmt: skip


def _run(python: Path, way: Peer, work: dict[str, Any], url: str) -> dict[str, Any]:
    with psycopg.connect(url, autocommit=True) as database:
        if way not in OURS.values():
            database.execute(_TABLE.format(work["table"]))
        done = subprocess.run(
            [str(python), str(ROOT / "benchmarks/peer_scripts" / f"{way.script}.py"), json.dumps(work)],
            capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        kind = "SCHEMA" if way in OURS.values() else "TABLE"
        database.execute(f"DROP {kind} IF EXISTS {work['table']} CASCADE")
    if done.returncode:
        raise RuntimeError(done.stderr or f"ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _environment(way: Peer) -> Path | str:
    """The interpreter of the way's environment, made now if it is lacking; a sentence where it cannot be made."""
    if not way.requirements:
        return Path(sys.executable)
    home = _HOMES / way.requirements[0].partition("==")[0]
    python, told = home / "bin/python", home / "requirements.txt"
    wanted = "\n".join(way.requirements)
    if told.exists() and told.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    for command in _commands(home, python, way.requirements):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"cannot be installed here: {error}"
        if done.returncode:
            return f"cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}"
    told.write_text(wanted)
    return python


def _commands(home: Path, python: Path, requirements: tuple[str, ...]) -> Iterator[list[str]]:
    if uv := shutil.which("uv"):
        yield [uv, "venv", "-q", "--python", sys.executable, str(home)]
        yield [uv, "pip", "install", "-q", "--python", str(python), *requirements]
    else:
        yield [sys.executable, "-m", "venv", str(home)]
        yield [str(python), "-m", "pip", "install", "-q", *requirements]


#: Three months of minutes, twice: some three minutes in all, of which python-binance sleeps one.
MONTHS, INTERVAL, ROUNDS = 3, "1m", 2


def main() -> None:
    """Measure the peers alone, and put the section into RESULTS.md."""
    with postgres.server() as url:
        results = measure(url, ROOT / "build/bench/files", MONTHS, INTERVAL, ROUNDS)
    write(ROOT / "benchmarks", results, workload(ROOT / "build/bench/files", MONTHS, INTERVAL).rows)


if __name__ == "__main__":
    main()
