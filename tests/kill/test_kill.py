"""kill -9 at any point leaves rows and ledger at one, and the next load ends where an undisturbed one does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kill.scene import Scene, assert_at_one, has_tables

#: With the rows that a transaction holds: one, where commits are counted.
KILLS = [
    ("migration", 4, 1),
    ("download", 2, 1),
    ("mid_rows", 2, 1),
    ("mid_rows", 4, 100_000),
    ("rows_without_line", 3, 100_000),
    ("before_commit", 4, 1),
    ("after_commit", 1, 1),
    ("after_commit", 7, 1),
]


@pytest.mark.parametrize(("point", "times", "held_rows"), KILLS)
def test_killed_and_run_again(scene: Scene, tmp_path: Path, point: str, times: int, held_rows: int) -> None:
    """The signal strikes where it should; what is there then is consistent; the second run makes it whole."""
    marker = tmp_path / "marker"
    assert scene.run(kill=(point, times), held_rows=held_rows, marker=str(marker)) == -signal.SIGKILL
    assert marker.read_text() == point
    before = assert_at_one(scene.url) if has_tables(scene.url) else 0
    assert before < len(scene.expected)
    if point == "after_commit":
        assert before > 0

    assert scene.run() == 0
    scene.assert_whole()


def test_the_undisturbed_load_comes_to_every_point(scene: Scene) -> None:
    """The load that is killed has both sources, a halt, and a hole of the monthly file that others fill."""
    assert [source for source, _, _ in scene.ledger.written] == ["archive", "rest"]
    assert sorted({line[2] for line in scene.ledger.coverage}) == ["complete", "exchange_gap"]
    assert scene.ledger.count == len(scene.expected)
