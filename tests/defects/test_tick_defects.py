"""Defects injected into stored ticks by plain SQL: all are found, called ours, and repaired, and nothing else.

DEFECTS_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.findings import Finding, VerifyReport
from tests.defects.test_defects import SEED
from tests.upkeep import conftest as workshop
from tests.upkeep.conftest import Shop
from tests.upkeep.test_ticks import state

shop = workshop.shop

INJECT = Path(__file__).with_name("inject_ticks.py")


def _inject(url: str, dataset: str, count: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(INJECT), url, dataset, "--count", str(count), "--seed", str(SEED)],
        capture_output=True, text=True, check=True, cwd=INJECT.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    defects: list[dict[str, Any]] = json.loads(done.stdout)["defects"]
    assert len(defects) == count
    return defects


def _concerns(finding: Finding, defect: dict[str, Any]) -> bool:
    return (
        (finding.series.market, finding.series.symbol) == (defect["market"], defect["symbol"])
        and finding.start_us < defect["end"]
        and finding.end_us > defect["start"]
    )


def _overlooked(report: VerifyReport, defects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Defects that no finding calls ours."""
    ours = [finding for finding in report.findings if finding.blame == "ours"]
    return [defect for defect in defects if not any(_concerns(finding, defect) for finding in ours)]


def _run(make: Callable[..., Shop], dataset: str, count: int) -> None:
    it = make(symbols=["um:BTCUSDT"], trades_per_minute=100, speed=0)
    it.load("BTCUSDT", None, market="um", dataset=dataset, start="2024-06-12T06:00:00Z", end="2024-06-13T20:00:00Z")
    undisturbed = state(it, dataset)
    clean = it.verify(dataset=dataset, against="archive")
    assert (clean.findings, clean.exit_status) == ((), 0)

    defects = _inject(it.url, dataset, count)
    assert state(it, dataset) != undisturbed
    found = it.verify(dataset=dataset, against="archive")
    assert _overlooked(found, defects) == [], f"seed {SEED}"
    assert found.exit_status == 3
    assert Counter(str(f.blame) for f in found.findings if f.status == "open").keys() == {"ours"}, f"seed {SEED}"

    fixed = it.verify(dataset=dataset, against="archive", fix=True)
    left = Counter((f.kind, f.blame, f.status) for f in fixed.findings if f.status == "open")
    assert (fixed.exit_status, left) == (0, Counter()), (SEED, left)
    assert state(it, dataset) == undisturbed, f"seed {SEED}"
    again = it.verify(dataset=dataset, against="archive")
    assert (again.findings, again.exit_status) == ((), 0)


@pytest.mark.soak
def test_defects_of_aggregates_are_found_classified_and_repaired(
    shop: Callable[..., Shop], capsys: pytest.CaptureFixture[str]
) -> None:
    """220 of them, on both databases."""
    with capsys.disabled():
        print(f" DEFECTS_SEED={SEED} ", end="", flush=True)
    _run(shop, "agg_trades", 220)


@pytest.mark.soak
def test_defects_of_trades(shop: Callable[..., Shop], capsys: pytest.CaptureFixture[str]) -> None:
    """The same of trades of futures, whose ids have holes of their own, and more of them."""
    with capsys.disabled():
        print(f" DEFECTS_SEED={SEED} ", end="", flush=True)
    _run(shop, "trades", 1000)
