"""`repair`, `verify` and `forget` from the command line."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator

SERIES = ("--market", "spot", "--symbol", "BTCUSDT", "--interval", "1h")
MONTH = ("--start", "2024-01", "--end", "2024-02")


@pytest.fixture
def loaded(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    """A store in the working directory with a month of hours, one of them a halt."""
    with Simulator(symbols=["BTCUSDT"], now="2024-03-05T12:00:00Z") as simulator:
        for name, value in simulator.settings.items():
            monkeypatch.setenv(name, value)
        simulator.add_fault("missing-both=BTCUSDT:1h:2024-01-10T05:00:00Z..2024-01-10T06:00:00Z")
        assert run("load", *SERIES, *MONTH).status == 0
        yield simulator


def sql(statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect("binance.db")) as connection, connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


def test_verify_tells_whose_and_fix_repairs(loaded, run):
    """Exit 3 and a table that says what to do; after --fix exit 0; JSON has the same."""
    assert run("verify").status == 0
    sql("DELETE FROM klines_data WHERE open_time % 7200000000 = 0 AND open_time < 1704100000000000")
    sql("UPDATE klines_data SET high = '1' WHERE open_time = 1706000400000000")
    found = run("verify", "--against", "archive")
    assert found.status == 3
    for words in ("rows_missing", "rule_broken", "value", "Different:", "`--fix` repairs what is ours", "Binance's"):
        assert words in found.out
    fixed = run("verify", *SERIES, "--against", "archive", "--fix")
    assert (fixed.status, "Sound: nothing different remains" in fixed.out) == (0, True)
    again = run("verify", "--json")
    assert again.status == 0
    assert [(f["kind"], f["class"], f["status"]) for f in again.document["findings"]] == [
        ("halt", "binance", "explained")
    ]
    assert again.document["checked"][0]["rows"] == 743


def test_the_picture_is_drawn(loaded, run, tmp_path):
    picture = tmp_path / "findings.png"
    assert run("verify", "--plot", str(picture)).status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = run("verify", "--plot", "findings.jpg")
    assert (refused.status, "the picture is a PNG" in refused.err) == (2, True)


def test_repair_says_what_it_did(loaded, run):
    assert "Nothing to repair" in run("repair").out
    sql("DELETE FROM klines_data WHERE open_time < 1704100000000000")
    repaired = run("repair")
    assert (repaired.status, "10 rows inserted" in repaired.out) == (0, True)
    document = run("repair", "--json", "--early").document
    assert (document["schema"], document["findings"]) == (1, [])
    assert document["repairs"][0]["gaps"][0]["state"] == "exchange_gap"


def test_adopt_is_told_and_done(loaded, run):
    sql("DELETE FROM coverage")
    sql("DELETE FROM ingest_log")
    told = run("verify")
    assert (told.status, "`--adopt` takes over rows" in told.out) == (3, True)
    # The halt is a hole between rows of which the ledger knows nothing yet: after they are taken over, it is asked for.
    assert run("verify", "--adopt", "--fix").status == 0
    assert run("verify").status == 0


def test_forget_asks_and_wants_yes_where_nobody_can_answer(loaded, run, monkeypatch):
    """No terminal: status 2, nothing gone. A terminal: anything but yes is no. --dry-run counts."""
    assert run("forget", *SERIES).status == 2
    assert "add --yes" in run("forget", *SERIES).err
    assert run("forget", "--market", "spot", "--yes").status == 2
    assert run("forget", "--symbol", "BTCUSDT", "--yes").status == 2
    dry = run("forget", *SERIES, "--dry-run")
    assert (dry.status, "Would delete 743 rows" in dry.out) == (0, True)
    for answer, left in (("n\n", 743), ("\n", 743), ("y\n", 0)):
        stdin = io.StringIO(answer)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", stdin)
        ended = run("forget", *SERIES)
        assert (ended.status, "Delete 743 rows and the ledger of spot klines BTCUSDT 1h" in ended.err) == (0, True)
        assert sql("SELECT count(*) FROM klines") == [(left,)]
    assert sql("SELECT (SELECT count(*) FROM coverage) + (SELECT count(*) FROM ingest_log)") == [(0,)]
    assert run("load", *SERIES, *MONTH).status == 0
    assert sql("SELECT count(*) FROM klines") == [(743,)]


def test_forget_keeps_what_lies_outside_the_window(loaded, run):
    ended = run("forget", *SERIES, "--end", "2024-01-08", "--yes", "--json")
    assert ended.status == 0
    [entry] = ended.document["forgotten"]
    assert (entry["rows"], entry["symbol"], ended.document["dry_run"]) == (168, "BTCUSDT", False)
    assert json.dumps(ended.document)
    assert sql("SELECT count(*) FROM klines") == [(575,)]
    assert run("verify").status == 0


def test_what_is_not_there_and_what_cannot_be_meant(loaded, run):
    for words in (("repair", "--symbol", "NOSUCH"), ("verify", "--against", "ftp"), ("repair", "--source", "ftp"),
                  ("verify", "--start", "2024-02", "--end", "2024-01"), ("forget", *SERIES[:2], "--symbol", "NOSUCH",
                  "--yes")):  # fmt: skip
        assert run(*words).status == 2, words
    assert "no such series" in run("verify", "--market", "um").out
