"""Reports to print, and `binance-ingest` to run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.cli import main
from airflow_provider_binance.records import Series, State, WriteResult
from airflow_provider_binance.reports import RangeReport, SeriesLoad
from airflow_provider_binance.windows import parse_instant

BTC = Series("spot", "klines", "BTCUSDT", "1m")
ETH = Series("spot", "klines", "ETHUSDT", "1m")


def us(text: str) -> int:
    at = parse_instant(text)
    assert isinstance(at, int)
    return at


def stretch(start: str, end: str, state: str = State.COMPLETE, evidence: str = "") -> RangeReport:
    return RangeReport(us(start), us(end), state, evidence)


def a_load(*gaps: RangeReport, series: Series = BTC, inserted: int = 44_640, unchanged: int = 0) -> SeriesLoad:
    counts = WriteResult(inserted + unchanged, inserted, 0, unchanged)
    fetched = 1 if inserted + unchanged else 0
    return SeriesLoad(
        series, us("2024-01"), us("2024-02"), counts, fetched, fetched, 2 * fetched, 1_234_567 * fetched, gaps, 1.5
    )


@dataclass(frozen=True)
class Ran:
    """What a run of the command line left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document of stdout."""
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """Run `binance-ingest` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> Ran:
        capsys.readouterr()
        status = main(argv)
        return Ran(status, *capsys.readouterr())

    return call
