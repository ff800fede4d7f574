"""Loads, repairs, verifications and forgetting at once on one series: whatever the order, nothing is left wrong."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow_provider_binance import ingest
from tests.upkeep.conftest import Shop, at

DAYS = {"start": "2024-06-08", "end": "2024-06-11"}
HOLE = "2024-06-10T03:00:00Z..2024-06-10T03:05:00Z"
ROUNDS = 3


def test_everything_at_once_ends_as_an_undisturbed_load(shop: Callable[..., Shop]) -> None:
    """Each works through the same days while rows are deleted and changed behind the ledger's back."""
    it = shop()
    it.sim.add_fault(f"missing-both=BTCUSDT:5m:{HOLE}")
    series = {"market": "spot", "symbols": "BTCUSDT", "intervals": "5m", "config": it.config}
    ingest.load(**series, **DAYS)
    ingest.repair(**series)  # which confirms what came by REST by its files
    undisturbed, ranges = it.rows(), it.ranges()
    failed: list[BaseException] = []
    gate = threading.Barrier(6)

    def often(work: Callable[[int], object]) -> threading.Thread:
        def run() -> None:
            try:
                gate.wait(60)
                for number in range(ROUNDS):
                    work(number)
            except BaseException as error:  # noqa: BLE001  # told by the test
                failed.append(error)

        return threading.Thread(target=run)

    def damage(number: int) -> None:
        chance = random.Random(number)
        for _ in range(5):
            minute = at("2024-06-08") + timedelta(minutes=5 * chance.randrange(3 * 288))
            it.sql("DELETE FROM klines_data WHERE open_time = %s", minute)
            minute = at("2024-06-08") + timedelta(minutes=5 * chance.randrange(3 * 288))
            it.sql("UPDATE klines_data SET volume = '1.25' WHERE open_time = %s", minute)

    threads = [
        often(lambda _: ingest.load(**series, **DAYS, reload=True)),
        often(lambda _: ingest.repair(**series)),
        often(lambda _: ingest.verify(**series, against="archive", fix=True)),
        often(lambda _: ingest.verify(**series, fix=True)),
        often(lambda n: ingest.forget(**series, start=f"2024-06-{8 + n % 2:02d}", end=f"2024-06-{9 + n % 2:02d}")),
        often(damage),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    ingest.load(**series, **DAYS)
    last = ingest.verify(**series, against="archive", fix=True)
    assert last.exit_status == 0, [finding.to_dict() for finding in last.open]
    assert {f.kind for f in ingest.verify(**series, against=["archive", "rest"]).findings} == {"halt"}
    assert ingest.repair(**series).exit_status == 0
    assert by_state(it.ranges()) == by_state(ranges)
    assert it.rows() == undisturbed


def by_state(ranges: list[tuple[Any, ...]]) -> list[list[Any]]:
    """Start, end, state and count of the ranges, merged. What confirmed them may differ: a row that REST gave after its
    file had been read stays provisional, since no file is read twice for nothing."""
    merged: list[list[Any]] = []
    for *_, start, end, state, count, _ in ranges:
        if merged and merged[-1][1:3] == [start, state]:
            merged[-1][1] = end
            merged[-1][3] += count
        else:
            merged.append([start, end, state, count])
    return merged
