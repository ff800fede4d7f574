"""`make demo`: a real Airflow loads klines into a new SQLite file, twice; the second time there is nothing to do. Then
`binance-ingest stream` brings live ones into it for some seconds.

Binance itself when it answers, else (or with BINANCE_OFFLINE=1) the bundled simulator. Everything lands in build/demo.
Ends with status 0 only if Airflow calls both runs a success, the first stored exactly the expected rows, and the
second none, and the stream brought rows without a gap.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from scripts.local_airflow import AirflowError, LocalAirflow  # noqa: E402  # the path must be there first
from scripts.local_simulator import LocalSimulator  # noqa: E402

OUTPUT = REPO / "build" / "demo"
STORE = OUTPUT / "ingest.db"
MARKET, SYMBOLS, INTERVALS = "spot", ["BTCUSDT", "ETHUSDT"], ["1m", "1h"]
DAG = "binance_backfill"
PROBES = (
    "https://api.binance.com/api/v3/ping",
    "https://data.binance.vision/?prefix=data/spot/monthly/klines/BTCUSDT/",
)
#: The simulator's clock, so that every offline run loads the same: a month, some days of the next, and a REST tail.
SIMULATED_NOW = datetime(2026, 11, 4, 9, 30, tzinfo=UTC)
#: The stream ends when so many klines of a second are stored, and fails when they are not by then.
LIVE_ROWS, LIVE_SECONDS = 10, 25.0
_STARTED = time.monotonic()


class DemoError(RuntimeError):
    """Something is not as the demo promises."""


def say(line: str) -> None:
    """Print a line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:5.0f} s] {line}", flush=True)


def why_offline() -> str | None:
    """Why Binance cannot be used; None if it can."""
    if os.environ.get("BINANCE_OFFLINE", "").lower() not in ("", "0", "false"):
        return "BINANCE_OFFLINE is set"
    for url in PROBES:
        try:
            with urllib.request.urlopen(url, timeout=4) as response:  # https, from the list above
                response.read(1)
        except (OSError, ValueError) as error:
            reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else error
            return f"{url.split('?')[0]} does not answer ({reason})"
    return None


def window(now: datetime) -> tuple[datetime, datetime]:
    """From the first of last month to the last full hour: months and days for the archive, the rest for REST."""
    end = (now - timedelta(minutes=1)).replace(minute=0, second=0, microsecond=0)
    return (end.replace(day=1, hour=0) - timedelta(days=1)).replace(day=1), end


def run_once(airflow: LocalAirflow, form: Mapping[str, Any]) -> dict[str, Any]:
    """Trigger the DAG as its form would, wait until Airflow says how it ended, and collect the tasks' reports."""
    began = time.monotonic()
    run_id = airflow.trigger(DAG, form)
    state = airflow.wait_for_run(DAG, run_id, timeout_seconds=600)
    if state != "success":
        raise DemoError(f"Airflow says that run {run_id} ended as {state}; its logs are in {airflow.home / 'logs'}")
    loads = [task for task in airflow.task_instances(DAG, run_id) if task["task_id"] == "load"]
    reports = [airflow.xcom(DAG, run_id, "load", map_index=task["map_index"]) for task in loads]
    totals = {
        name: sum(report[name] for report in reports) for name in ("rows_inserted", "rows_updated", "weight_used")
    }
    return {
        "run_id": run_id,
        "state": state,
        "seconds": round(time.monotonic() - began, 1),
        **totals,
        "reports": reports,
    }


def stored_rows() -> int:
    """Rows of `klines` in the store, counted by plain SQL."""
    with closing(sqlite3.connect(f"file:{STORE}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM klines").fetchone()[0])


def ask(statement: str) -> list[Any]:
    """What the store answers to plain SQL."""
    with closing(sqlite3.connect(f"file:{STORE}?mode=ro", uri=True)) as database:
        return list(database.execute(statement))


def stream_live(extra: Mapping[str, Any]) -> None:
    """Have the sidecar stream for some seconds into the store; it reads the same connections as Airflow."""
    connections = {"BINANCE_DEFAULT": {"conn_type": "binance", "extra": dict(extra)},
                   "INGEST_DEFAULT": {"conn_type": "sqlite", "host": str(STORE)}}  # fmt: skip
    environ = {**os.environ, **{f"AIRFLOW_CONN_{name}": json.dumps(fields) for name, fields in connections.items()}}
    command = [sys.executable, "-m", "airflow_provider_binance.cli", "stream", "--json", "-v",
               "--market", MARKET, "--symbol", *SYMBOLS, "--interval", "1s"]  # fmt: skip
    log_file, began = OUTPUT / "stream.log", time.monotonic()
    with log_file.open("w") as log:
        sidecar = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
    rows, progress = 0, []
    try:
        while sidecar.poll() is None and time.monotonic() - began < LIVE_SECONDS:
            [(rows,)] = ask("SELECT count(*) FROM klines WHERE interval = '1s'")
            if rows >= LIVE_ROWS and (progress := ask("SELECT event_at, lag_seconds FROM stream_progress")):
                break
            time.sleep(0.25)
        sidecar.send_signal(signal.SIGTERM)
        told, _ = sidecar.communicate(timeout=60)
    finally:
        sidecar.kill()
        sidecar.wait()
    [(rows,)] = ask("SELECT count(*) FROM klines WHERE interval = '1s'")
    if sidecar.returncode or not progress:
        raise DemoError(f"the stream ended with status {sidecar.returncode} and {rows} rows; see {log_file}")
    # Seconds without a trade come by REST, a minute at once; those of the last one are left when it ends so soon.
    repair = [*command[:3], "repair", "--json", *command[command.index("--market") :]]
    repaired = subprocess.run(repair, check=False, env=environ, capture_output=True, text=True, timeout=60)
    if repaired.returncode:
        raise DemoError(f"the repair behind the stream ended with status {repaired.returncode}: {repaired.stderr}")
    for symbol in SYMBOLS:
        ranges = ask(f"SELECT range_start, range_end FROM coverage WHERE symbol = '{symbol}' AND interval = '1s' "
                     "ORDER BY range_start")  # fmt: skip
        if any(left[1] != right[0] for left, right in pairwise(ranges)):
            raise DemoError(f"the ledger has a hole in the live klines of {symbol}; see {log_file}")
    report, (event_us, lag) = json.loads(told)["stream"], progress[0]
    say(
        f"{rows} klines of 1 s arrived within {time.monotonic() - began:.0f} s, {report['rows_inserted']} of them by "
        f"websocket. The newest event, of {datetime.fromtimestamp(event_us / 1e6, UTC):%H:%M:%S} UTC, was committed "
        f"{lag:.2f} s after Binance sent it."
    )


def expected_rows(start: datetime, end: datetime, coverage: Mapping[str, Any]) -> int:
    """Klines that open in the window by plain arithmetic, without the stretches that are explained as having none."""
    lengths = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1)}
    explained = {"exchange_gap", "not_listed", "unavailable", "retired"}
    rows = len(SYMBOLS) * sum((end - start) // lengths[interval] for interval in INTERVALS)
    for entry in coverage["coverage"]:
        for stretch in entry["ranges"]:
            if stretch["state"] in explained:
                since, until = (datetime.fromisoformat(stretch[name]) for name in ("start", "end"))
                rows -= (min(until, end) - max(since, start)) // lengths[entry["interval"]]
    return rows


def write_report(
    extra: Mapping[str, Any], runs: list[dict[str, Any]], start: datetime, end: datetime
) -> dict[str, Any]:
    """Write report.json and coverage.png; the coverage as the front door reports it."""
    from airflow_provider_binance import ingest
    from airflow_provider_binance.config import BinanceConfig
    from airflow_provider_binance.plot import draw_coverage

    config = BinanceConfig.load(connection=extra, store_url=f"sqlite:///{STORE}")
    selection = {"market": MARKET, "symbols": SYMBOLS, "intervals": INTERVALS, "start": start, "end": end}
    report = ingest.coverage(**selection, config=config)
    draw_coverage(report, OUTPUT / "coverage.png")
    coverage = report.to_dict()
    document = {
        "window": {"start": start.isoformat(), "end": end.isoformat()},
        "source": "simulator" if extra else "binance",
        "expected_rows": expected_rows(start, end, coverage),
        "stored_rows": stored_rows(),
        "runs": runs,
        **coverage,
    }
    (OUTPUT / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def demo(stack: ExitStack) -> None:
    """The demo itself; raises DemoError when something is not as promised."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    extra: dict[str, Any] = {}
    now = datetime.now(UTC)
    say("Asking whether Binance's public endpoints answer …")
    if reason := why_offline():
        say(f"They cannot be used: {reason}. Falling back on the bundled simulator: the market is made up,")
        say("and everything else is real.")
        now = SIMULATED_NOW
        for name in [name for name in os.environ if name.startswith("BINANCE_") and name != "BINANCE_OFFLINE"]:
            del os.environ[name]
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):  # weight budget and caches of made-up data
            os.environ[name] = str(OUTPUT / name.split("_")[1].lower())
        arguments = ["--now", SIMULATED_NOW.isoformat(), "--symbols", *SYMBOLS]
        extra = stack.enter_context(LocalSimulator(*arguments, log_file=OUTPUT / "simulator.log")).connection_extra()
    else:
        say("They do: this demo loads real data.")
    start, end = window(now)

    say("Starting Airflow (metadata database, scheduler, DAG processor, API server); this takes about half a minute …")
    home = OUTPUT / "airflow"
    with LocalAirflow(home, dags_folder=REPO / "dags", say=say) as airflow:
        say(f"Airflow is up at {airflow.url}; creating the connections binance_default and ingest_default.")
        airflow.create_connection({"connection_id": "binance_default", "conn_type": "binance", "extra": extra})
        airflow.create_connection({"connection_id": "ingest_default", "conn_type": "sqlite", "host": str(STORE)})
        airflow.wait_for_dags(DAG)
        form = {
            "market": MARKET,
            "symbols": SYMBOLS,
            "intervals": INTERVALS,
            "start": start.isoformat(),
            "end": end.isoformat(),
        }
        wanted = (
            f"{' and '.join(SYMBOLS)}, {' and '.join(INTERVALS)}, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        )
        say(f"Run 1 of the DAG {DAG}: {wanted} …")
        first = run_once(airflow, form)
        after_first = stored_rows()
        say(f"Airflow says success after {first['seconds']:.0f} s: {first['rows_inserted']:,} klines inserted.")
        say("Run 2, the same form again …")
        second = run_once(airflow, form)
        say(f"Airflow says success after {second['seconds']:.0f} s: {second['rows_inserted']:,} klines inserted.")
        say("Stopping Airflow …")

    say("Checking the store by plain SQL, writing the report and drawing the coverage …")
    document = write_report(extra, [first, second], start, end)
    expected, stored = document["expected_rows"], document["stored_rows"]
    if not first["rows_inserted"] == after_first == expected:
        told = f"run 1 reports {first['rows_inserted']:,} inserted rows, the store has {after_first:,}"
        raise DemoError(f"{told}, but {expected:,} were expected")
    if second["rows_inserted"] or second["rows_updated"] or stored != after_first:
        told = f"{second['rows_inserted']:,} inserted, {second['rows_updated']:,} updated, {stored:,} in the store"
        raise DemoError(f"run 2 should have changed nothing, but: {told}")
    say(f"Run 1 stored exactly the {expected:,} klines expected, run 2 none.")

    say(f"Streaming {' and '.join(SYMBOLS)} live into the same store, with the same connections …")
    stream_live(extra)
    say("All is as it should be.")


def next_steps() -> str:
    """What a stranger may do now."""
    airflow = Path(sys.executable).with_name("airflow")
    return f"""
What you have now
  {STORE.relative_to(REPO)}       the klines (try: SELECT * FROM klines_real LIMIT 5) and the ledger of what was loaded
  {(OUTPUT / "report.json").relative_to(REPO)}     what both runs did, and what the store covers
  {(OUTPUT / "coverage.png").relative_to(REPO)}    the same as a picture

Next steps
  1. Open the UI:        AIRFLOW_HOME=$PWD/build/airflow AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags \\
                         AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True \\
                         PATH={airflow.parent}:$PATH airflow standalone
                         then http://localhost:8080
  2. Make connections:   Admin -> Connections -> Add: binance_default (type Binance; no key is needed for market data)
                         and ingest_default (type Sqlite, Host = an absolute path; or type Postgres)
  3. Run a backfill:     Dags -> {DAG} -> Trigger, and fill in the form
  4. Load every day:     Admin -> Variables -> binance_universe, see docs/airflow.md; then unpause binance_daily
"""


def main() -> int:
    """Run the demo; the exit status."""
    # A SIGTERM must stop Airflow and the simulator too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        with ExitStack() as stack:
            demo(stack)
    except KeyboardInterrupt:
        say("Interrupted; Airflow and the simulator are stopped.")
        return 130
    except (DemoError, AirflowError, OSError, RuntimeError) as error:
        print(f"\nThe demo FAILED: {error}", file=sys.stderr, flush=True)
        return 1
    print(next_steps(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
