"""RESULTS.md and its picture, from what was measured."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.database import TWO
from benchmarks.measure import Spread, Took

_PLAIN, _SAME, _FRESH = "bare COPY, plain table", "bare COPY, our table", "load, fresh"
_AGAIN, _LACKING = "load again, forced, identical", "load again, 10 % lacking"
Line = tuple[str, str, str]


def bars(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What the picture shows: name, ratio to its baseline, wanted ratio."""
    took, sqlite_took = results["postgres"].took, results["sqlite"]
    return [
        ("fresh ÷ bare COPY,\nplain table", ratio(took[_PLAIN], took[_FRESH]).median, 1.0),
        ("2 connections ÷\nbare COPY, plain", _pair(results).median, 1.2),
        ("fresh ÷ bare COPY,\nsame table", ratio(took[_SAME], took[_FRESH]).median, 0.85),
        ("identical again ÷\nbare COPY", ratio(took[_PLAIN], took[_AGAIN]).median, 0.6),
        ("10 % lacking ÷\nbare COPY", ratio(took[_PLAIN], took[_LACKING]).median, 0.5),
        ("REST ÷\nbare COPY, plain", ratio(results["rest"]["copy"], results["rest"]["rest"]).median, 0.6),
        ("SQLite fresh ÷\nplain upsert", ratio(sqlite_took["plain"], sqlite_took["ours"]).median, 0.8),
        ("SQLite again ÷\nplain upsert", ratio(sqlite_took["plain again"], sqlite_took["ours again"]).median, 0.8),
    ]


def ratio(base: Iterable[Took], ours: Iterable[Took]) -> Spread:
    """How many times as fast as the baseline, round by round."""
    return Spread.of(b.seconds / o.seconds for b, o in zip(base, ours, strict=True))


def _pair(results: dict[str, Any]) -> Spread:
    """Rows per second over two connections ÷ those of bare COPY into the plain table over one."""
    took, more = results["postgres"].took, results["pair_rows"] / results["rows"]
    return Spread.of(more * value for value in ratio(took[_PLAIN], took[TWO]).values)


def write(folder: Path, results: dict[str, Any]) -> Path:
    """Write both files; returns RESULTS.md."""
    folder.mkdir(parents=True, exist_ok=True)
    _draw(folder / "ratios.png", bars(results))
    path = folder / "RESULTS.md"
    path.write_text(_text(results), encoding="utf-8")
    return path


def _text(results: dict[str, Any]) -> str:
    pg, rows, lite = results["postgres"], results["rows"], results["sqlite"]
    took = pg.took

    def per_second(name: str) -> str:
        return Spread.of(rows / one.seconds for one in took[name]).text("{:,.0f}")

    def cpu(name: str, *, server: bool = False) -> str:
        values = (one.server_cpu_seconds if server else one.cpu_seconds for one in took[name])
        return Spread.of(value / rows * 1e6 for value in values).text()

    speed = [
        (name, per_second(name), *(ratio(took[base], took[name]).text() for base in (_PLAIN, _SAME)),
         cpu(name), cpu(name, server=True))
        for name in (_PLAIN, _SAME, _FRESH, _AGAIN, _LACKING)
    ]  # fmt: skip
    warm, plan, daily, rest = pg.warm, results["planner"], results["daily"], results["rest"]
    verified = results["verify"]
    lines: list[Line] = [
        ("fresh load ÷ bare COPY into the plain table", "≥ 1.0", ratio(took[_PLAIN], took[_FRESH]).text()),
        ("two series over two connections ÷ bare COPY into the plain table over one", "≥ 1.2", _pair(results).text()),
        ("fresh load ÷ bare COPY into our table", "≥ 0.85", ratio(took[_SAME], took[_FRESH]).text()),
        ("forced load of identical rows ÷ bare COPY; rows written: 0", "≥ 0.6",
         ratio(took[_PLAIN], took[_AGAIN]).text()),
        ("forced load, 10 % of the rows lacking ÷ bare COPY", "≥ 0.5",
         ratio(took[_PLAIN], took[_LACKING]).text()),
        ("client CPU of the fresh load, s per 1 M rows", "≤ 3", cpu(_FRESH)),
        ("bytes per kline ÷ plain table's", "≤ 0.8", f"{sum(pg.bytes['ours']) / sum(pg.bytes['plain']):.2f}"),
        ("bytes per kline, heap + index; plain table", "",
         f"{_size(pg.bytes['ours'], rows)}; {_size(pg.bytes['plain'], rows)}"),
        *((f"read {name} ÷ plain table (time)", "≤ 1.1", _read(found)) for name, found in pg.reads.items()),
        ("second run, ledger warm: seconds", "≤ 0.3", Spread.of(warm["seconds"]).text("{:.3f}")),
        ("second run: requests, bytes, rows read, rows changed (the server's count)", "0, 0, 0, 0",
         f"{warm['requests']}, {warm['bytes']}, {warm['rows']}, {warm['changes']}"),
        (f"verify a symbol-year of {verified['interval']} ({verified['rows']:,} klines), s", "< 10",
         Spread.of(verified["alone"]).text()),
        (f"the same with {', '.join(verified['longer'])} added up from it, s", "",
         Spread.of(verified["all"]).text()),
        *((f"SQLite, {which} ÷ plain upsert, plain table; our table", "≥ 0.8; ≥ 0.8", _sqlite(lite, results, end))
          for which, end in (("fresh", ""), ("again", " again"))),
        ("REST, limits off ÷ bare COPY into the plain table", "≥ 0.6",
         (f"{ratio(rest['copy'], rest['rest']).text()}; "
         f"{Spread.of(results['rest_rows'] / one.seconds for one in rest['rest']).text('{:,.0f}')} rows/s")),
        ("client CPU of the REST load, s per 1 M rows", "≤ 5",
         Spread.of(one.cpu_seconds / results["rest_rows"] * 1e6 for one in rest["rest"]).text()),
        *((f"memory of `binance-ingest load`, {kind}, 1 month, MB", "≤ 150", f"{min(found.items())[1] / 1e6:.0f}")
          for kind, found in results["memory"].items()),
        *((f"memory of `binance-ingest load`, {kind}, {max(found)} months, MB; ÷ 1 month", "≤ 150; ≤ 1.1",
           f"{found[max(found)] / 1e6:.0f}; {found[max(found)] / found[1]:.2f}")
          for kind, found in results["memory"].items()),
        ("memory of an Airflow task that loads all files, above an empty task's, MB", "≤ 100",
         (f"{(results['task_memory'][1] - results['task_memory'][0]) / 1e6:.0f} "
         f"({results['task_memory'][0] / 1e6:.0f} when empty)")),
        (f"plan {plan['symbols']} symbols × 5 years of 1m, warm, s (cold: {plan['cold']:.2f})", "< 2",
         Spread.of(plan["warm"]).text()),
        (f"weight of `binance_daily`, {daily['symbols']} symbols × 1m: new day ÷ least possible", "≤ 1.05",
         f"{daily['weight']['new day'] / daily['least']:.4f} ({daily['weight']['new day']} ÷ {daily['least']})"),
        ("weight of that day again at once; with its files out; with all confirmed", "0; 0; 0",
         "; ".join(str(daily["weight"][name]) for name in ("nothing new", "files out", "all confirmed"))),
        (f"requests of that plan of {plan['pieces']} pieces: cold; warm", "none per file",
         f"{plan['requests'][0]}; {max(plan['requests'][1:])}"),
        *((f"`import {module}`, s; heavy libraries brought", "none" if not allowed else "",
           f"{Spread.of(seconds).text()}; {', '.join(loaded) or 'none'}")
          for module, (seconds, loaded, allowed) in results["imports"].items()),
    ]  # fmt: skip
    return "\n".join([
        "# Results",
        "",
        _about(results),
        "",
        "![ratios](ratios.png)",
        "",
        "## Into PostgreSQL",
        "",
        *_table(["work", "rows/s", "÷ bare COPY, plain table", "÷ bare COPY, our table", "client CPU s / 1 M",
                 "server CPU s / 1 M"], speed),
        "",
        "## All figures",
        "",
        *_table(["figure", "wanted", "measured"], lines),
        "",
        "## Streams and ticks",
        "",
        *_table(["figure", "wanted", "measured"], [*results["streams"], *_ticks(*results["ticks"])]),
        "",
        "Websocket clients, the same messages of 300 symbols over loopback:",
        "",
        *results["clients"],
        "",
        "## How it is read",
        "",
        *(line for plan in pg.plans.values() for line in ("```", plan, "```", "")),
    ])  # fmt: skip


def _ticks(rows: int, ratios: list[float], peaks: list[float]) -> list[tuple[str, str, str]]:
    return [
        (f"load of a day of {rows:,} aggregates ÷ bare COPY, our table", "≥ 0.8", Spread.of(ratios).text()),
        ("memory of that load, MB", "≤ 300", Spread.of(peaks).text("{:,.0f}")),
    ]


def _about(results: dict[str, Any]) -> str:
    load = " ".join(f"{value:.1f}" for value in results["load_average"])
    noise = ""
    if results["load_average"][0] > 0.5:
        noise = ": **the machine had other work at the same time, so that the spreads are wide**"
    return f"""\
Written by `make bench` (`python -m benchmarks.run`); not edited by hand.

- {results["rows"]:,} klines in {results["months"]} monthly `{results["interval"]}` files; {results["rounds"]} rounds, \
baseline and ours by turns in each.
  Given is the median (least – most). Ratios are taken within a round; above 1 is faster than the baseline.
- PostgreSQL {results["postgres"].version} as it comes (durable, `shared_buffers` 128 MB), SQLite \
{sqlite3.sqlite_version}, Python {platform.python_version()}, {results["cores"]} cores; load average at the start \
{load}{noise}.
- Bare COPY: psycopg, one connection, text ready in memory, all 16 columns, logged, primary key (market, symbol, \
interval, open_time), one transaction.
  Into our table: the same, of the text that our load would send.
- Ours: zip on the disk → checksum → inflate → check → COPY → ledger and coverage → commit, file by file. In the first \
round the two tables are compared, every column of every row, and the ledger's count with both.
- SQLite, plain upsert: one `executemany` a month of tuples that are ready in memory, `INSERT … ON CONFLICT DO UPDATE` \
where a value differs, WAL and `synchronous` NORMAL as ours.
  Into the plain table, keyed (market, symbol, interval, open_time), and into ours.
- REST: pages of 1,000 klines, made beforehand, from another process. The client, ours and COPY's, has one core to \
itself, the servers have the others.
- Memory is the most that the process ever had."""


def _size(heap_index: tuple[int, int], rows: int) -> str:
    return " + ".join(f"{size / rows:.1f}" for size in heap_index)


def _read(found: dict[str, list[Took]]) -> str:
    median = Spread.of(one.seconds * 1000 for one in found["ours"]).median
    return f"{ratio(found['ours'], found['plain']).text()}; {median:,.2f} ms"


def _sqlite(took: dict[str, list[Took]], results: dict[str, Any], which: str) -> str:
    speed = Spread.of(results["sqlite_rows"] / one.seconds for one in took["ours" + which])
    ratios = "; ".join(ratio(took[base + which], took["ours" + which]).text() for base in ("plain", "same"))
    return f"{ratios}; {speed.text('{:,.0f}')} rows/s"


def _table(head: list[str], lines: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]


def _draw(path: Path, shown: list[tuple[str, float, float]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    names, ratios, wanted = zip(*shown, strict=True)
    places = range(len(names))
    drawn = axes.bar(places, ratios, width=0.6, color="#3b6ea5")
    axes.bar_label(drawn, [f"{value:.2f}" for value in ratios], padding=2)
    axes.hlines(wanted, [p - 0.38 for p in places], [p + 0.38 for p in places], color="#c0392b", label="wanted")
    axes.axhline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xticks(places, names, fontsize=8)
    axes.set_ylim(0, max(1.2, *(1.1 * value for value in ratios)))
    axes.set_ylabel("speed ÷ baseline")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
