"""kill -9 in a load of ticks, and loads and a repair of overlapping windows at once: all ends as if undisturbed.

The days are short: but for an hour after midnight and one before it nobody trades. SOAK_SEED repeats the choices.
"""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.server import Simulator
from tests.kill.scene import SEED, Ledger, Scene, has_tables
from tests.kill.test_together import LEFT, together
from tests.realdata.stored import select
from tests.store.helpers import plain

START, END = "2024-06-13T00:00:00Z", "2024-06-15T00:20:00Z"
#: Two daily files of several parts each, then the pages of the last minutes.
LOAD = {
    "market": "um", "dataset": "agg_trades", "symbols": "BTCUSDT", "start": START, "end": END, "jobs": 2,
}  # fmt: skip
EVERY = {name: LOAD[name] for name in ("market", "dataset", "symbols")}
#: Two hours of a day have about so many aggregates.
A_DAY = 5_000

KILLS = [
    pytest.param("download", 2, 1, marks=pytest.mark.soak),
    ("mid_rows", 4, 1),
    pytest.param("mid_rows", 6, 100_000, marks=pytest.mark.soak),
    pytest.param("rows_without_line", 3, 100_000, marks=pytest.mark.soak),
    pytest.param("before_commit", 4, 1, marks=pytest.mark.soak),
    pytest.param("after_commit", 1, 1, marks=pytest.mark.soak),
    pytest.param("after_commit", 5, 1, marks=pytest.mark.soak),
]


@dataclass(frozen=True)
class Ticks:
    """A store of ticks as plain SQL tells it: all but times of asking and who came when."""

    rows: str
    ids: list[int]
    coverage: list[tuple[Any, ...]]

    @property
    def states(self) -> list[tuple[Any, ...]]:
        """The coverage by state alone, with the ids that it counts."""
        merged: list[tuple[Any, ...]] = []
        for start, end, state, count, first, last, _ in self.coverage:
            if merged and merged[-1][1:3] == (start, state):
                start, _, _, before, first, _ = merged.pop()
                count += before
            merged.append((start, end, state, count, first, last))
        return merged


def read(url: str) -> Ticks:
    """Whatever the database is: the same decimals are the same text."""
    rows = select(
        url,
        "SELECT agg_trade_id, price, quantity, normal_quantity, first_trade_id, last_trade_id, trade_time, "
        "is_buyer_maker, trade_day FROM agg_trades ORDER BY agg_trade_id",
    )
    texts = [
        (number, *(value if value is None else Decimal(value).normalize() for value in exact), *rest, str(day))
        for number, *exact, first, last, time_us, maker, day in rows
        for rest in [(first, last, time_us, int(maker))]
    ]
    coverage = select(
        url,
        "SELECT range_start, range_end, state, row_count, first_id, last_id, confirmed_by FROM coverage "
        "ORDER BY range_start",
    )
    return Ticks(hashlib.sha256(repr(texts).encode()).hexdigest(), [row[0] for row in rows], coverage)


def assert_consistent(url: str) -> int:
    """No id twice, none that the log does not count, no range that says more or less than the table has; how many."""
    [(count, distinct)] = select(url, "SELECT count(*), count(DISTINCT agg_trade_id) FROM agg_trades")
    [(inserted,)] = select(url, "SELECT CAST(coalesce(sum(rows_inserted), 0) AS integer) FROM ingest_log")
    assert count == distinct == inserted
    uneven = select(
        url,
        "SELECT c.range_start, c.row_count, count(t.agg_trade_id) FROM coverage c LEFT JOIN agg_trades t "
        "ON t.trade_time >= c.range_start AND t.trade_time < c.range_end WHERE c.state = 'complete' "
        "GROUP BY c.range_start, c.row_count HAVING count(t.agg_trade_id) <> c.row_count",
    )
    assert uneven == []
    return int(count)


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    now = "2024-06-15T12:30:20Z"
    with Simulator(seed=3, symbols=["um:BTCUSDT"], now=now, speed=0, trades_per_minute=100, limits=False) as running:
        for day in ("13", "14"):
            running.add_fault(f"halt=um:BTCUSDT:*:2024-06-{day}T01:00:00..2024-06-{day}T23:00:00")
        yield running


def scene_of(simulator: Simulator, url: str, folder: Path) -> Scene:
    folder.mkdir(exist_ok=True)
    return Scene(simulator, url, folder, {}, Ledger("", 0, [], []))


@pytest.fixture(scope="module")
def undisturbed(market: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Ticks:
    """What a load leaves that nobody kills: every aggregate that there was."""
    folder = tmp_path_factory.mktemp("undisturbed")
    url = f"sqlite:///{folder / 'ingest.db'}"
    assert scene_of(market, url, folder / "temporary").run(LOAD) == 0
    found = read(url)
    assert found.ids == [row["a"] for row in market.true_ticks("um", "aggTrades", "BTCUSDT", START, END)]
    assert len(found.ids) > 2 * A_DAY
    assert assert_consistent(url) == len(found.ids)
    return found


@pytest.fixture
def scene(market: Simulator, store_url: str, tmp_path: Path) -> Scene:
    """A scene on an empty database, in both kinds."""
    market.clear_requests()
    return scene_of(market, store_url, tmp_path / "temporary")


@pytest.mark.parametrize(("point", "times", "held_rows"), KILLS)
def test_a_killed_load_of_ticks_is_run_again(
    scene: Scene, undisturbed: Ticks, tmp_path: Path, point: str, times: int, held_rows: int
) -> None:
    """What is there after the kill is consistent; the second run ends as one that nobody disturbed."""
    marker = tmp_path / "marker"
    assert scene.run(LOAD, kill=(point, times), held_rows=held_rows, marker=str(marker)) == -signal.SIGKILL
    assert marker.read_text() == point
    scene.settle()
    before = assert_consistent(scene.url) if has_tables(scene.url) else 0
    assert before < len(undisturbed.ids)
    assert before > 0 or point != "after_commit"

    assert scene.run(LOAD) == 0
    assert assert_consistent(scene.url) == len(undisturbed.ids)
    assert read(scene.url) == undisturbed


def lose(url: str, ids: list[int], chance: random.Random) -> None:
    """Delete ids behind the ledger's back."""
    for _ in range(3):
        at, count = chance.randrange(len(ids)), chance.randint(1, 300)
        plain(url, "DELETE FROM agg_trades_data WHERE agg_trade_id >= %s AND agg_trade_id < %s",
              [ids[at], ids[at] + count])  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [6])
def test_loads_and_a_repair_of_ticks_at_once(scene: Scene, undisturbed: Ticks, rounds: int) -> None:
    """Two load overlapping windows, a third repairs what was lost: nothing is twice, ledger and rows agree."""
    chance = random.Random(SEED)
    for _ in range(rounds):
        scene.empty()
        assert scene.run({**LOAD, "end": "2024-06-14T00:00:00Z"}) == 0
        lose(scene.url, undisturbed.ids[: A_DAY // 2], chance)
        together(scene, [
            ("load", {**LOAD, "end": "2024-06-14T23:30:00Z", "reload": chance.random() < 0.5}),
            ("load", {**LOAD, "start": "2024-06-13T23:10:00Z"}),
            ("repair", EVERY),
        ], loads_end=(0, LEFT))  # fmt: skip  # a load that ends while the repair has a day open says so
        assert scene.run(EVERY, work="repair") == 0
        found = read(scene.url)
        assert (found.ids, found.rows) == (undisturbed.ids, undisturbed.rows), f"seed {SEED}"
        assert found.states == undisturbed.states, f"seed {SEED}"
