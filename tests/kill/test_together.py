"""Several processes load overlapping windows of one series at once, from an empty database on.

No deadlock is left standing, nothing is there twice, ledger and rows agree, and all ends as an undisturbed load does.
SOAK_SEED repeats the choices.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.kill.scene import LOAD, SEED, START, Scene, assert_consistent, read_ledger
from tests.realdata.stored import select

_FIRST = datetime.fromisoformat(START)
_DAYS = 70


def windows(count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Loads of random windows, some of which compare anew or confirm; together they are the whole window."""
    loads = []
    for number in range(count):
        first = chance.randint(0, _DAYS - 20) if number else 0
        last = chance.randint(first + 10, _DAYS + 1) if number != 1 else _DAYS + 1
        if number == 1:
            first = min(first, _DAYS // 2)
        if number == 0:
            last = max(last, _DAYS // 2 + 1)
        more: dict[str, Any] = chance.choice([{}, {}, {"reload": True}, {"confirm": True}])
        window = {"start": _instant(first), "end": LOAD["end"] if last > _DAYS else _instant(last)}
        loads.append({**LOAD, **window, **more, "jobs": 1})
    return loads


def _instant(day: int) -> str:
    return (_FIRST + timedelta(days=day)).astimezone(UTC).isoformat()


def together(scene: Scene, loads: list[dict[str, Any]]) -> None:
    """Run them at once; all end well."""
    begin_at = time.time() + 2 + len(loads)
    children = [scene.start(load, begin_at=begin_at) for load in loads]
    ended = [child.ended(within=300) for child in children]
    assert [status for status, _ in ended] == [0] * len(loads), ended
    scene.settle()
    scene.assert_tidy()


def assert_undisturbed(scene: Scene) -> None:
    """The rows are those of one undisturbed load, to the digit, and the ledger says as much of them."""
    assert assert_consistent(scene.url) == len(scene.expected)
    found = read_ledger(scene.url)
    assert found.rows == scene.ledger.rows
    assert found.states == scene.ledger.states
    assert select(scene.url, "SELECT count(*) FROM corrections") == [(0,)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("count", "rounds"),
    [
        pytest.param(2, 1, id="two"),
        pytest.param(2, 6, id="two_often", marks=pytest.mark.soak),
        pytest.param(8, 6, id="eight_often", marks=pytest.mark.soak),
    ],
)
def test_processes_at_once(scene: Scene, count: int, rounds: int) -> None:
    """Each round begins with an empty database, so that they race for the tables, too."""
    chance = random.Random(SEED)
    for _ in range(rounds):
        scene.empty()
        together(scene, windows(count, chance))
        assert_undisturbed(scene)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_eight_processes_on_an_empty_database(scene: Scene) -> None:
    """All want the same: one of them gets it, and nothing is written twice."""
    together(scene, [{**LOAD, "jobs": 1}] * 8)
    assert_undisturbed(scene)
