"""Every option of `binance-ingest` with hostile values: a documented status, one clear line, no traceback."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.cli import main
from airflow_provider_binance.simulator.server import Simulator
from tests.fuzz.hostile import many, words

NOW = "2026-11-20T12:00:30Z"
KEY, SECRET = "cAnArYkEy" + "k" * 55, "cAnArYsEcReT" + "s" * 52
#: What is right, so that the other options are reached.
GOOD: dict[str, tuple[str, ...]] = {
    "--market": ("spot", "um", "cm"),
    "--dataset": ("klines",),
    "--symbol": ("BTCUSDT", "BTCUSD_PERP", "*USDT", "BTCUSDT,ETHUSDT"),
    "--interval": ("1d", "1h", "1w"),
    "--start": ("2026-11-10", "2026-11", "5d", "2026-11-18T00:00:00+05:30"),
    "--end": ("now", "2026-11-19", "2026-11-20T00:00:00Z"),
    "--source": ("auto", "archive", "rest"),
    "--jobs": ("1", "4"),
    "--plot": ("picture.png",),
    "--config": ("settings.yaml",),
    "--environment": ("simulator",),
    "--dialect": ("sqlite", "postgresql"),
    "--copy": ("dags",),
}
OPTIONS = {
    "load": ("--market", "--dataset", "--symbol", "--interval", "--start", "--end", "--source", "--jobs", "--config"),
    "plan": ("--market", "--dataset", "--symbol", "--interval", "--start", "--end", "--source", "--jobs", "--store"),
    "coverage": ("--market", "--dataset", "--symbol", "--interval", "--start", "--end", "--plot", "--store"),
    "migrate": ("--dialect", "--store", "--environment", "--config"),
    "dags": ("--copy", "--config"),
}
SWITCHES = ("--json", "--reload", "--confirm", "--sql", "--force", "--testnet", "-v")
#: Found in no message, whatever was asked.
NEVER = ("Traceback", KEY, SECRET, "this is a fault of ours")


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    symbols = ["BTCUSDT", "ETHUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"]
    with Simulator(seed=3, now=NOW, speed=0, symbols=symbols, limits=False) as simulator:
        yield simulator


@pytest.fixture
def here(market: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: None) -> Path:
    """An empty directory, and settings that lead to the simulator and nowhere else."""
    monkeypatch.chdir(tmp_path)
    for name, value in market.settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("BINANCE_API_KEY", KEY)
    monkeypatch.setenv("BINANCE_API_SECRET", SECRET)
    monkeypatch.setenv("BINANCE_RATE_LIMIT_STORE", "memory://")
    (tmp_path / "settings.yaml").write_text("symbols: [BTCUSDT]\n")
    (tmp_path / "notes.txt").write_text("no database\n")
    return tmp_path


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """A command with some of its options, at most two of them hostile."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    bad = draw(st.sets(st.sampled_from(OPTIONS[command]), min_size=1, max_size=2))
    argv = [command]
    for option in OPTIONS[command]:
        if option in bad:
            word = draw(words()).replace("\0", "")  # no argument can hold it
            argv += [f"{option}={word}"] if draw(st.booleans()) else [option, word]
        elif option in GOOD and option not in ("--config", "--plot", "--copy"):
            argv += [option, draw(st.sampled_from(GOOD[option]))]
    argv += draw(st.lists(st.sampled_from(SWITCHES[:3] if command in ("load", "plan") else SWITCHES), max_size=2))
    if draw(st.integers(0, 9)) == 0:
        argv.insert(draw(st.integers(0, len(argv))), draw(words()).replace("\0", ""))
    return argv


def ran(argv: list[str]) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(argv)
    return status, out.getvalue(), err.getvalue()


def check(argv: list[str], status: int, out: str, err: str) -> None:
    """What holds of every run."""
    assert status in (0, 2, 3, 4, 5), err
    for word in NEVER:
        assert word not in out + err
    if "--json" in argv and "dags" not in argv and "migrate" not in argv and out:
        json.loads(out)
    if status in (2, 4, 5):
        told = [line for line in err.splitlines() if line.startswith("binance-ingest: error: ")]
        assert len(told) == 1
        assert len(told[0]) > 40


def counts(file: Path) -> tuple[Any, ...]:
    """Rows, and rows that the ledger says there are."""
    with closing(sqlite3.connect(file)) as database:
        return tuple(
            database.execute(
                "SELECT (SELECT count(*) FROM klines_data), (SELECT sum(row_count) FROM coverage)"
            ).fetchone()
        )


@many(250)
@given(argv=commands())
def test_no_words_end_in_a_traceback(here: Path, argv: list[str]) -> None:
    check(argv, *ran(argv))
    if (store := here / "binance.db").exists() and store.stat().st_size:
        rows, ledgered = counts(store)
        assert rows == (ledgered or 0)
    assert (here / "notes.txt").read_text() == "no database\n"


SETTINGS = (
    "API_KEY", "PRIVATE_KEY", "TESTNET", "MARKETS", "SYMBOLS", "TIMEFRAMES", "STORE_URL", "STORE_SCHEMA", "ENVIRONMENT",
    "PROXIES", "EGRESS_ID", "RATE_LIMIT_STORE", "RATE_LIMIT_REQUESTS_PER_MINUTE", "SPOT_REST_URL", "ARCHIVE_URL",
    "ARCHIVE_LISTING_URL", "UM_STREAM_URL", "KLINE_CLOSE_LAG_SECONDS", "REQUEST_TIMEOUT_SECONDS",
)  # fmt: skip
A_PLAN = ("plan", "--market=spot", "--symbol=BTCUSDT", "--interval=1d", "--start=2026-11-10", "--end=2026-11-12")


@many(120)
@given(name=st.sampled_from(SETTINGS), value=words())
def test_no_setting_ends_in_a_traceback(here: Path, name: str, value: str) -> None:
    """By the environment; a planned day of one symbol."""
    if "\0" in value or "\udcff" in value:
        return  # the environment cannot hold it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"BINANCE_{name}", value)
        argv = list(A_PLAN)
        check(argv, *ran(argv))


def _settings(given: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in given.items())


FILES = st.one_of(
    words(),
    st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
    st.dictionaries(st.sampled_from([*map(str.lower, SETTINGS), "x"]), words(), max_size=3).map(_settings),
)


@many(120)
@given(content=FILES)
def test_no_settings_file_ends_in_a_traceback(here: Path, content: str) -> None:
    (here / "fuzzed.yaml").write_bytes(content.encode("utf-8", "surrogateescape"))
    argv = ["--config", "fuzzed.yaml", *A_PLAN]
    check(argv, *ran(argv))


def test_a_broken_settings_file_shows_no_secret(here: Path) -> None:
    """An error of YAML quotes the file."""
    (here / "broken.yaml").write_text(f'api_secret: "{SECRET}x\napi_key: [')
    argv = ["--config", "broken.yaml", *A_PLAN]
    status, out, err = ran(argv)
    check(argv, status, out, err)
    assert (status, "line" in err) == (2, True)
