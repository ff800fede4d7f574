"""Symbols come and go without a restart, and the others notice nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream import reloading
from airflow_provider_binance.stream.fleet import Fleet
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.reloading import Reloading
from airflow_provider_binance.stream.subscriptions import Carried, plan
from tests.stream.local import local
from tests.stream.test_sidecar import NOW, check, ended, stored, streaming, wait_for


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")


def klines(symbol: str, market: str = "spot") -> Series:
    return Series(market, "klines", symbol, "1m")


def test_a_changed_file_and_a_signal_change_what_is_streamed(tmp_path: Path) -> None:
    """Symbols are dropped and added, a market is added, a bad file is told; the one that stays is whole."""
    store, file = f"sqlite:///{tmp_path}/ingest.db", tmp_path / "stream.yaml"

    def select(spot: str, more: str = "") -> None:
        file.write_text(f"stream:\n  spot: {{symbols: {spot}, intervals: 1m}}\n{more}")

    select("[BTCUSDT, ETHUSDT]")
    names = ["spot:BTCUSDT", "spot:ETHUSDT", "spot:BNBUSDT", "um:BTCUSDT"]
    with (
        Simulator(seed=7, symbols=names, now=NOW, speed=60) as simulator,
        streaming(simulator, store, "--config", str(file)) as process,
    ):
        wait_for(store, klines("ETHUSDT"), 2, process)
        file.write_text("stream: {spot: {symbols: BTCUSDT, intervals: 7m}}")
        wait_for(store, klines("ETHUSDT"), len(stored(store, klines("ETHUSDT"))) + 4, process)
        select("[BTCUSDT, BNBUSDT]", "  um: {symbols: BTCUSDT, intervals: 1m}\n")
        process.send_signal(signal.SIGHUP)
        wait_for(store, klines("BNBUSDT"), 3, process)
        wait_for(store, klines("BTCUSDT", "um"), 3, process)
        dropped = len(stored(store, klines("ETHUSDT")))
        wait_for(store, klines("BNBUSDT"), len(stored(store, klines("BNBUSDT"))) + 3, process)
        status, report, log = ended(process)

        assert status == 0, log
        assert (report["connects"], report["gaps"]) == (2, 0), log
        assert len(stored(store, klines("ETHUSDT"))) <= dropped + 1  # one may have been on its way
        for series in (*map(klines, ("BTCUSDT", "ETHUSDT", "BNBUSDT")), klines("BTCUSDT", "um")):
            check(simulator, store, series)
    assert "not reloaded: cause=file" in log
    assert "unknown interval '7m'" in log
    assert "following: series=3 added=2 dropped=1" in log


def test_one_connection_is_told_what_to_add_and_drop() -> None:
    """By control messages, also those that change while it is being opened; a connection without streams is closed."""

    async def scene() -> None:
        async with local() as server:

            def make(carried: Carried) -> Keeper:
                return Keeper(
                    carried, server.url, admit=lambda market: None, on_records=lambda records: None,
                    on_cut=lambda carried: None,
                )  # fmt: skip

            fleet = Fleet(make)
            running = asyncio.create_task(fleet.run())
            first = plan(map(klines, ("A", "B")))
            await fleet.change(first)
            client = await server.until(1)
            await until(lambda: fleet.keepers[0].connects == 1)
            second = plan(map(klines, ("A", "C")), first)
            await fleet.change(second)
            await until(lambda: len(client.said) == 2)
            assert [json.loads(text) for text in client.said] == [
                {"method": "UNSUBSCRIBE", "params": ["b@kline_1m"], "id": 1},
                {"method": "SUBSCRIBE", "params": ["c@kline_1m"], "id": 2},
            ]
            await fleet.keepers[0].subscribe_again(["a@kline_1m", "z@kline_1m"])
            await until(lambda: len(client.said) == 4)
            assert [json.loads(text)["method"] for text in client.said[2:]] == ["UNSUBSCRIBE", "SUBSCRIBE"]
            assert len(server.clients) == 1
            await fleet.change(plan([], second))
            await server.until(1, open_=0)
            assert (len(fleet.keepers), len(fleet.gone)) == (0, 1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scene())


def test_what_cannot_be_followed_is_told_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file in the place of the old one counts as a change; so does an hour."""
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 0.01)
    file, came = tmp_path / "f", asyncio.Event()

    async def follow() -> None:
        came.set()
        if file.read_text() == "bad":
            raise InputError("no such thing")

    async def scene() -> None:
        file.write_text("good")
        made = Reloading(follow, file)
        running = asyncio.create_task(made.run())
        for text, counts in (("bad", (0, 1)), ("good", (1, 1))):
            came.clear()
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(file)
            async with asyncio.timeout(20):
                await came.wait()
            await asyncio.sleep(0)
            assert (made.counts["followed"], made.counts["refused"]) == counts
            assert made.problem == ("file: no such thing" if text == "bad" else "")
        monkeypatch.setattr(reloading, "REFRESH_SECONDS", 0.02)
        came.clear()
        made.ask()
        await until(lambda: made.counts["followed"] >= 4)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scene())
