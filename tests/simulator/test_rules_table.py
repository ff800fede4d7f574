"""The table of rules in the documentation names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "simulator.md"


def test_the_table_names_tests_that_are_there() -> None:
    """Each rule of the last section has at least one."""
    rules = PAGE.read_text(encoding="utf-8").partition("## The rules, one by one")[2]
    rows = [line for line in rules.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) > 50
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, test in named:
            assert re.search(rf"^(?:async )?def {test}\(", (HERE / path).read_text(encoding="utf-8"), re.MULTILINE), row
