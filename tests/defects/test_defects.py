"""A thousand defects injected by plain SQL, among genuine halts: all are found, called ours, and repaired.

DEFECTS_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.findings import Finding, VerifyReport
from tests.upkeep import conftest as workshop
from tests.upkeep.conftest import Shop

shop = workshop.shop

SEED = int(os.environ.get("DEFECTS_SEED") or random.SystemRandom().randrange(1_000_000))
INJECT = Path(__file__).with_name("inject.py")


@dataclass(frozen=True)
class Size:
    """How large a store, and how much is done to it. May comes by its monthly file, June by daily ones and REST."""

    symbols: tuple[str, ...]
    days: int
    halts: int
    defects: int

    @property
    def end(self) -> date:
        """The window ends here, and now is six hours later."""
        return _START + timedelta(days=self.days)


_START = date(2024, 5, 20)
SMALL = Size(("BTCUSDT", "ETHUSDT", "um:BTCUSDT"), 24, 10, 150)
LARGE = Size(("BTCUSDT", "ETHUSDT", "ADAUSDT", "XRPUSDT", "um:BTCUSDT"), 50, 12, 1000)


def _fill(it: Shop, size: Size) -> None:
    """Each symbol in two intervals, with halts that both sources have."""
    chance = random.Random(SEED)
    for name in size.symbols:
        for day in chance.sample(range(1, size.days - 1), size.halts):
            at = datetime.combine(_START, time(chance.randrange(1, 20))) + timedelta(days=day)
            end = at + timedelta(hours=chance.randint(1, 3))
            it.sim.add_fault(f"missing-both={name}:*:{at.isoformat()}Z..{end.isoformat()}Z")
    for market in ("spot", "um"):
        symbols = [name.rpartition(":")[2] for name in size.symbols if (":" in name) == (market == "um")]
        report = it.load(symbols, "5m,1h", market=market, start=_START, end=size.end)
        assert {gap.state for load in report.loads for gap in load.gaps} == {"exchange_gap"}


def _inject(url: str, count: int) -> list[dict[str, Any]]:
    """Run the script in a process of its own, without the package on its path."""
    done = subprocess.run(
        [sys.executable, str(INJECT), url, "--count", str(count), "--seed", str(SEED)],
        capture_output=True, text=True, check=True, cwd=INJECT.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    defects: list[dict[str, Any]] = json.loads(done.stdout)["defects"]
    assert len(defects) == count
    return defects


def _concerns(finding: Finding, defect: dict[str, Any]) -> bool:
    series = finding.series
    return (
        (series.market, series.symbol, series.interval) == (defect["market"], defect["symbol"], defect["interval"])
        and finding.start_us < defect["end"]
        and finding.end_us > defect["start"]
    )


def _overlooked(report: VerifyReport, defects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Defects that no finding calls ours."""
    ours: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.blame == "ours":
            series = finding.series
            ours.setdefault((series.market, series.symbol, series.interval), []).append(finding)
    return [
        defect
        for defect in defects
        if not any(
            _concerns(finding, defect)
            for finding in ours.get((defect["market"], defect["symbol"], defect["interval"]), [])
        )
    ]


def _halts(report: VerifyReport) -> set[tuple[str, str, str, int, int]]:
    return {
        (f.series.market, f.series.symbol, f.series.interval, f.start_us, f.end_us)
        for f in report.findings
        if f.kind == "halt"
    }


def _run(make: Callable[..., Shop], size: Size) -> None:
    it = make(now=f"{size.end}T06:00:00Z", symbols=list(size.symbols))
    _fill(it, size)
    undisturbed = it.state()
    clean = it.verify(against="archive")
    halts = _halts(clean)
    assert len(halts) >= 50, len(halts)
    assert {(f.kind, f.blame, f.status) for f in clean.findings} == {("halt", "binance", "explained")}

    defects = _inject(it.url, size.defects)
    assert it.state() != undisturbed
    found = it.verify(against=["archive", "rest"])
    assert _overlooked(found, defects) == [], f"seed {SEED}"
    assert found.exit_status == 3
    # Nothing else is called ours: each such finding touches a defect, or sums one up.
    for finding in found.findings:
        assert finding.blame != "unknown", (SEED, finding)
        if finding.blame == "ours" and finding.kind != "rollup":
            assert any(_concerns(finding, defect) for defect in defects) or _is_swapped(finding, defects), (
                SEED,
                finding,
            )

    fixed = it.verify(against=["archive", "rest"], fix=True)
    left = Counter((f.kind, f.blame, f.status) for f in fixed.findings if f.status == "open")
    assert (fixed.exit_status, left) == (0, Counter()), (SEED, left)
    assert it.state() == undisturbed, f"seed {SEED}"
    again = it.verify(against=["archive", "rest"])
    assert _halts(again) == halts
    assert {(f.kind, f.blame, f.status) for f in again.findings} == {("halt", "binance", "explained")}


def _is_swapped(finding: Finding, defects: list[dict[str, Any]]) -> bool:
    """A swap damages two symbols, and names the first."""
    return any(
        defect["kind"] == "swap" and finding.start_us < defect["end"] and finding.end_us > defect["start"]
        for defect in defects
    )


def test_defects_are_found_classified_and_repaired(
    shop: Callable[..., Shop], capsys: pytest.CaptureFixture[str]
) -> None:
    """150 of them, on both databases; 1,000 in `make soak`."""
    with capsys.disabled():
        print(f" DEFECTS_SEED={SEED} ", end="", flush=True)
    _run(shop, SMALL)


@pytest.mark.soak
def test_a_thousand_defects(shop: Callable[..., Shop], capsys: pytest.CaptureFixture[str]) -> None:
    """The same, a thousand."""
    with capsys.disabled():
        print(f" DEFECTS_SEED={SEED} ", end="", flush=True)
    _run(shop, LARGE)
