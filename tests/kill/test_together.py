"""Several processes load, repair and verify overlapping windows of one series at once, from an empty database on.

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
from tests.store.helpers import plain

_FIRST = datetime.fromisoformat(START)
_DAYS = 70
#: Finished, but something is left: what else writes at that moment may be looked at half done.
LEFT = 3
#: The caller's mistake: who repairs or verifies before the first load has committed finds nothing there.
NOTHING_THERE = 2

Work = tuple[str, dict[str, Any]]


def loaders(count: int, chance: random.Random) -> list[Work]:
    """Two loads that together are the whole window; then loads of random windows, of which some compare anew or
    confirm, and repairs and verifications of what is there by then."""
    first, second = chance.randint(_DAYS // 2, _DAYS), chance.randint(0, _DAYS // 2)
    found = [("load", _window(0, first)), ("load", _window(second, _DAYS + 1))]
    while len(found) < count:
        work = chance.choice(["load", "load", "repair", "verify"])
        window = _random_window(chance)
        if work == "load":
            window |= chance.choice([{}, {"reload": True}, {"confirm": True}])
        found.append((work, window))
    return [(work, {**LOAD, **window, "jobs": 1}) for work, window in found]


def menders(count: int, chance: random.Random) -> list[Work]:
    """Whatever may bring back rows that are gone: repairs, verifications that fix, loads that compare anew."""
    found: list[Work] = [("repair", {}), ("verify", {"fix": True})]
    while len(found) < count:
        work = chance.choice(["load", "repair", "verify"])
        more: dict[str, Any] = {"load": {"reload": True}, "repair": {}, "verify": {"fix": True}}[work]
        found.append((work, {**_random_window(chance), **more}))
    return [(work, {**LOAD, **window, "jobs": 1}) for work, window in found]


def _random_window(chance: random.Random) -> dict[str, Any]:
    first = chance.randint(0, _DAYS - 20)
    return _window(first, chance.randint(first + 10, _DAYS + 1))


def _window(first: int, last: int) -> dict[str, Any]:
    return {"start": _instant(first), "end": LOAD["end"] if last > _DAYS else _instant(last)}


def _instant(day: int) -> str:
    return (_FIRST + timedelta(days=day)).astimezone(UTC).isoformat()


def together(scene: Scene, works: list[Work], *, loads_end: tuple[int, ...] = (0,)) -> None:
    """Run them at once; all end well, and those that look at what others write may have something left."""
    begin_at = time.time() + 2 + len(works)
    children = [scene.start(arguments, work=work, begin_at=begin_at) for work, arguments in works]
    try:
        for child in children:
            child.process.wait(300)
    finally:
        for child in children:
            child.process.kill()
    ended = [child.ended(LEFT, NOTHING_THERE) for child in children]
    for (work, _), (status, said) in zip(works, ended, strict=True):
        assert status in loads_end or work != "load", said
        assert status != NOTHING_THERE or "has nothing of" in said, said
    scene.settle()
    scene.assert_tidy()


def damage(url: str, chance: random.Random) -> None:
    """Delete rows behind the ledger's back."""
    for _ in range(3):
        start = _FIRST + timedelta(days=chance.randint(0, _DAYS - 3), hours=chance.randint(0, 23))
        times: list[Any] = [start, start + timedelta(hours=chance.randint(1, 40))]
        if url.startswith("sqlite"):
            times = [int(at.timestamp()) * 1_000_000 for at in times]
        plain(url, "DELETE FROM klines_data WHERE open_time >= %s AND open_time < %s", times)


def assert_undisturbed(scene: Scene) -> None:
    """The rows are those of one undisturbed load, to the digit, and the ledger says as much of them."""
    found = read_ledger(scene.url)
    assert found.count == len(scene.expected)
    assert found.rows == scene.ledger.rows
    assert found.states == scene.ledger.states
    assert select(scene.url, "SELECT count(*) FROM corrections") == [(0,)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("count", "rounds"),
    [
        pytest.param(2, 1, id="two"),
        pytest.param(2, 4, id="two_often", marks=pytest.mark.soak),
        pytest.param(8, 4, id="eight_often", marks=pytest.mark.soak),
    ],
)
def test_processes_at_once(scene: Scene, count: int, rounds: int) -> None:
    """Each round begins with an empty database, so that they race for the tables, too; then rows are deleted."""
    chance = random.Random(SEED)
    for _ in range(rounds):
        scene.empty()
        together(scene, loaders(count, chance))
        assert assert_consistent(scene.url) == len(scene.expected)
        assert_undisturbed(scene)
        damage(scene.url, chance)
        together(scene, menders(count, chance))
        assert scene.run(LOAD, work="repair") == 0
        assert_undisturbed(scene)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_eight_processes_on_an_empty_database(scene: Scene) -> None:
    """All want the same: one of them gets it, and nothing is written twice."""
    together(scene, [("load", {**LOAD, "jobs": 1})] * 8)
    assert assert_consistent(scene.url) == len(scene.expected)
    assert_undisturbed(scene)
