"""Streams that say nothing of symbols that trade."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from airflow_provider_binance.market import MINUTE_US
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream.listening import MOST_ASKED, Listening
from tests.stream.test_sidecar import NOW, ended

T0 = 1_700_000_000_000_000 // MINUTE_US * MINUTE_US
STREAMS = {f"spot/s{number:02d}@kline_1m": Series("spot", "klines", f"S{number:02d}", "1m") for number in range(50)}

#: The command with quicker looks.
CHILD = """
import sys
from airflow_provider_binance.stream import listening
listening.CHECK_SECONDS = 2.0
from airflow_provider_binance.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_who_was_not_heard_for_a_minute_is_asked_about_by_turns() -> None:
    listening = Listening()
    assert listening.look(STREAMS, (), T0) == []
    names = sorted(STREAMS)
    assert listening.look(STREAMS, names[:5], T0 + 50_000_000) == []
    at_us = T0 + 2 * MINUTE_US + 3_000_000
    first = [(name, T0 + 50_000_000 * (name in names[:5])) for name in names[:MOST_ASKED]]
    assert listening.look(STREAMS, (), at_us) == first
    assert [name for name, _ in listening.look(STREAMS, (), at_us + 1)] == names[MOST_ASKED : 2 * MOST_ASKED]
    third = [name for name, _ in listening.look(STREAMS, names[49:], at_us + 2)]
    assert third == [*names[2 * MOST_ASKED : 49], *names[:11]]


def test_liquidations_are_rare_and_what_is_dropped_is_forgotten() -> None:
    listening, rare = Listening(), Series("um", "liquidations", "BTCUSDT")
    for at in range(5):
        assert listening.look({"um/btcusdt@forceOrder": rare}, (), T0 + at * MINUTE_US) == []
    name, series = next(iter(STREAMS.items()))
    assert listening.found(name, series)
    assert not listening.found(name, series)
    listening.look({}, (), T0)
    assert not listening.silent
    assert listening.found(name, series)
    listening.look({name: series}, [name], T0)
    assert not listening.silent


def test_a_silent_stream_is_told_and_subscribed_again_once(tmp_path: Path) -> None:
    """At the health port, in the metrics and in the log; the other one is not told of."""
    environ = {"BINANCE_RATE_LIMIT_STORE": "memory://"}
    words = ["stream", "--store", f"sqlite:///{tmp_path}/x.db", "--json", "-v", "--market", "spot", "--symbol",
             "BTCUSDT", "ETHUSDT", "--interval", "1h", "--health-port", "0"]  # fmt: skip
    fault = "stream-silent@/spot/stream/btcusdt@kline_1h"
    with Simulator(seed=7, symbols=["spot:BTCUSDT", "spot:ETHUSDT"], now=NOW, speed=60, faults=[fault]) as simulator:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *words], env={**os.environ, **simulator.env(), **environ}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            [port] = next(found for line in process.stderr if (found := re.findall(r"health: port=(\d+)", line)))

            def until(notes: list[str]) -> None:
                for _ in range(600):
                    answer: Any = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10).json()
                    if answer.get("notes", []) == notes:
                        return
                    time.sleep(0.1)
                raise AssertionError(answer)

            until(["silent though it trades: stream=spot/btcusdt@kline_1h market=spot"])
            metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            assert 'binance_stream_silent_streams{market="spot"} 1.0' in metrics
            assert float(re.findall(r"^binance_stream_used_weight_total (\S+)", metrics, re.MULTILINE)[0]) > 0
            simulator.clear_faults()
            until([])
            status, report, log = ended(process)
        finally:
            process.kill()
            process.communicate()
        assert (status, report["connects"]) == (0, 1), log
        assert len(re.findall(r"silent: stream=btcusdt@kline_1h .* subscribed again", log)) == 1
        assert "no longer silent: stream=spot/btcusdt@kline_1h" in log
        assert "silent: stream=ethusdt@kline_1h" not in log
