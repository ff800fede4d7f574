"""kill -9 at random moments, many times over: rows and ledger end where an undisturbed load's do.

Half of the kills strike at a random moment, half at a random point, so that the short ones are struck, too. SOAK_SEED
repeats the choices of a run (not its timing, which is the machine's); SOAK_KILLS says how many kills a test.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.kill.scene import KILLED, KILLS, LOAD, SEED, Child, Scene, assert_at_one, assert_consistent, has_tables

#: Both windows have April, its file and its hole; together they are the whole one.
OVERLAPPING = ({**LOAD, "end": "2026-05-03T06:00:00Z"}, {**LOAD, "start": "2026-04-01T00:00:00Z"})

#: The share of kills that may strike before there is data: as the process starts, plans, makes the tables.
EARLY = 0.15
#: Of the time from first data to the end of the process; the rest is Python taking its leave.
BUSY = 0.6
_DATA = re.compile("/archive/|/klines")
#: Points, and how often an undisturbed load comes to them at the least.
POINTS = {"migration": 15, "download": 2, "mid_rows": 6, "rows_without_line": 8, "before_commit": 8, "after_commit": 8}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300 + 30 * KILLS)]


@dataclass
class Killing:
    """Loads the scene's store again and again, and kills as it goes."""

    scene: Scene
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    places: Counter[str] = field(default_factory=Counter)

    def wait_for_data(self, children: Sequence[Child]) -> float:
        """Wait until one of them fetches a file or a page, or all have ended; the moment."""
        while not any(_DATA.search(request.path) for request in self.scene.simulator.requests):
            if all(child.process.poll() is not None for child in children):
                break
            time.sleep(0.002)
        return time.monotonic()

    def run(self, loads: Sequence[dict[str, Any]], within: float) -> list[int]:
        """Exit statuses of loads at once, each killed: at a random point, or mostly within so many seconds of the
        first data and at times before."""
        self.scene.simulator.clear_requests()
        points = [self._point() if self.chance.random() < 0.5 else None for _ in loads]
        if any(point and point[0] == "migration" for point in points):
            self.scene.empty()
        # A load that is to be killed at a point writes what it does not reach.
        marker = str(self.scene.folder.parent / "marker")
        children = [
            self.scene.start(load, kill=point, marker=marker) for load, point in zip(loads, points, strict=True)
        ]
        try:
            timed = [child for child, point in zip(children, points, strict=True) if point is None]
            began = time.monotonic() if self.chance.random() < EARLY else self.wait_for_data(children)
            for child in timed:
                child.kill_at = began + self.chance.uniform(0, within)
            for child in sorted(timed, key=lambda child: child.kill_at):
                while child.process.poll() is None and time.monotonic() < child.kill_at:
                    time.sleep(0.002)
                child.process.kill()
            for child in children:
                child.process.wait(120)
        finally:
            for child in children:
                child.process.kill()
        statuses = [child.ended()[0] for child in children]
        self.places += Counter(
            child.place() for child, status in zip(children, statuses, strict=True) if status == -signal.SIGKILL
        )
        self.scene.settle()
        self.scene.assert_tidy()
        return statuses

    def load_whole(self) -> float:
        """One load that nobody kills, and everything is there; how long it took from the first data to its end."""
        self.scene.simulator.clear_requests()
        child = self.scene.start()
        began = self.wait_for_data([child])
        assert child.ended()[0] == 0
        took = time.monotonic() - began
        self.scene.assert_whole()
        return took

    def _point(self) -> tuple[str, int]:
        point = self.chance.choice(list(POINTS))
        return point, self.chance.randint(1, POINTS[point])


@pytest.mark.parametrize("loads", [(LOAD,), OVERLAPPING], ids=["one", "two_that_overlap"])
def test_killed_at_random_moments(
    scene: Scene, loads: Sequence[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every time what is there is consistent; whenever a load gets through, all is as if nobody had been killed."""
    with capsys.disabled():
        print(f" SOAK_SEED={SEED} SOAK_KILLS={KILLS} ", end="", flush=True)
    killing = Killing(scene)
    within = killing.load_whole() * BUSY
    scene.empty()
    while killing.places.total() < KILLS:
        statuses = killing.run(loads, within)
        if has_tables(scene.url):
            assert_consistent(scene.url)
            if len(loads) == 1:
                assert_at_one(scene.url)
        if not any(statuses):
            killing.load_whole()
            scene.empty()
    killing.load_whole()
    KILLED.update(killing.places)
