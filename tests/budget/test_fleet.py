"""Several processes behind one address, with a stranger beside them: nobody is refused, everyone gets his share, and a
ban stops all of them.

The simulator's minute takes eight seconds here, and everybody's clock runs as fast; `test_soak` has real minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_binance.simulator.server import Simulator
from tests.budget.fleet import KLINES, Fleet, go, ready, result, windows_of

NOW = "2026-11-20T12:00:45Z"
SPEED = 7.5
LIMIT = 1200


@pytest.fixture
def venue() -> Iterator[Simulator]:
    """A small limit, 200 ms (of its own time) from here."""
    with Simulator(seed=1, now=NOW, speed=0, faults=[f"latency={200 / SPEED}"]) as simulator:
        simulator.server.limiter.limits.update(spot=LIMIT, futures=LIMIT)
        yield simulator


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def window(venue: Simulator) -> int:
    return venue.now_ms() // 60_000


def weights(venue: Simulator, *words: str) -> dict[int, int]:
    """By minute, the weight of requests with one of `words` in their path or query."""
    found: dict[int, int] = {}
    for record in venue.requests:
        if any(word in f"{record.path}?{record.query}" for word in words):
            minute = record.time_ms // 60_000
            found[minute] = found.get(minute, 0) + record.weight
    return found


@pytest.mark.postgres
def test_a_fleet_meets_no_429_and_a_repair_gets_its_share(
    venue: Simulator, postgres_database: str, tmp_path: Path
) -> None:
    """Three backfills with clocks wrong by 3 s, one of them killed; a stranger takes a fifth; then a repair begins."""
    settings = {**venue.settings, "BINANCE_STORE_URL": postgres_database}
    with Fleet(settings) as fleet:
        loads: list[Any] = [
            fleet.start(tmp_path / f"host{i}", skew=skew, speed=SPEED, seconds=100, threads={"spot": 8}, limit=1 + i)
            for i, skew in enumerate((3, -3, 3))
        ]
        repair = fleet.start(
            tmp_path, speed=SPEED, seconds=100, threads={"spot": 8}, limit=9, priority="repair", skew=-3
        )
        ready(*loads, repair)
        venue.set_clock(NOW, SPEED)
        fleet.foreigner(venue.settings["BINANCE_SPOT_REST_URL"], "/api/v3/ping", LIMIT * 0.2 * SPEED, 100)
        until(lambda: len(venue.requests) > 5)  # who begins when the minute is used up is refused
        go(venue.now_ms(), *loads)
        first = window(venue) + 1
        until(lambda: venue.now_ms() > first * 60_000 + 35_000)
        loads[0].kill()
        go(venue.now_ms(), repair)
        until(lambda: window(venue) == first + 2)
        records = [record.to_dict() for record in venue.requests]
    used = {w.minute: w.used for w in windows_of(records)["spot"]}
    print(f"used of {LIMIT} by minute: {used}")
    assert {record["status"] for record in records} == {200}
    assert all(weights(venue, f"limit={1 + i}").get(first, 0) > 0 for i in range(3))
    allowed = LIMIT * 0.97
    # Its pages, and what it asks before them: the loads did so in the first minute.
    of_repair = weights(venue, "limit=9", "exchangeInfo", "/time").get(first + 1, 0)
    assert of_repair >= 0.19 * allowed, "in the first minute that began after it"


def test_a_ban_stops_everyone_until_it_ends(venue: Simulator, tmp_path: Path) -> None:
    """The stranger goes too far. All end with how long to wait, and nothing is sent until then; then it goes on."""
    settings = {**venue.settings, "BINANCE_RATE_LIMIT_STORE": (tmp_path / "budget.json").as_uri()}
    spot = venue.settings["BINANCE_SPOT_REST_URL"]
    with Fleet(settings) as fleet:
        loads = [fleet.start(tmp_path, speed=SPEED, seconds=60, threads={"spot": 3}) for _ in range(3)]
        late = fleet.start(tmp_path, speed=SPEED, seconds=60, threads={"spot": 2}, pages=3)
        after = fleet.start(tmp_path, speed=SPEED, seconds=60, threads={"spot": 2}, pages=3)
        ready(*loads, late, after)
        venue.set_clock(NOW, SPEED)
        go(venue.now_ms(), *loads)
        until(lambda: len(venue.requests) > 20)
        venue.clear_faults()  # the latency, for the stranger
        with requests.Session() as session:
            statuses = []
            while 418 not in statuses:
                statuses.append(session.get(spot + KLINES["spot"]).status_code)
        assert 429 in statuses
        ended = next(record.time_ms for record in venue.requests if record.status == 418) + 120_000
        told = [result(load) for load in loads]
        sent = len(venue.requests)
        errors = [error for each in told for error in each["errors"]]
        assert len(errors) == 9
        assert {error["kind"] for error in errors} <= {"BannedError", "ThrottledError"}
        assert max(error["retry_after"] for error in errors) <= 121
        banned = [record.status for record in venue.requests].count(418)
        assert banned <= 1 + 9, "the stranger's, and of each thread one that was under way"
        go(venue.now_ms(), late)
        refused = result(late)
        assert {error["kind"] for error in refused["errors"]} == {"BannedError"}
        venue.set_clock(ended - 5_000)
        until(lambda: venue.now_ms() > ended + 1_000)
        assert len(venue.requests) == sent, "nothing was sent until the ban was over"
        go(venue.now_ms(), after)
        assert result(after)["errors"] == []
        assert {r.status for r in venue.requests[sent:]} == {200}
