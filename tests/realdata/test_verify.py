"""`verify` on what Binance really published: its halts are its own, its minutes add up, its one slip is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store import open_store
from tests.realdata.conftest import Load
from tests.realdata.reader import instant
from tests.realdata.stored import config_for, stored

pytestmark = pytest.mark.realdata


def test_the_halt_of_2023_is_binances_and_stays(load: Load, simulator: Simulator, store_url: str) -> None:
    """The missing hour and the odd candle before it are what both sources say: nothing is repaired."""
    load("spot", "BTCUSDT", "1h", "2023-03", "2023-04")
    before = stored(store_url, "spot", "BTCUSDT", "1h")
    config = config_for(simulator, store_url)
    report = ingest.verify(config=config, against=["archive", "rest"], fix=True)
    [halt] = report.findings
    assert (halt.kind, halt.blame, halt.status) == ("halt", "binance", "explained")
    assert halt.start_us == instant("2023-03-24T13:00:00Z")
    assert halt.evidence["known"] == "exchange halt, 12:40 to 14:00"
    assert report.exit_status == 0
    assert stored(store_url, "spot", "BTCUSDT", "1h") == before


def test_the_halts_of_2021_are_known_before_they_are_believed(load: Load, simulator: Simulator, store_url: str) -> None:
    """REST alone has said so, once: a gap still open, but Binance's by its list of defects."""
    load("spot", "BTCUSDT", "1h", "2021-04-03", "2021-11")
    report = ingest.verify(config=config_for(simulator, store_url))
    assert [(f.kind, f.blame, f.status) for f in report.findings] == [("gap", "binance", "open")] * 4


def test_minutes_of_a_month_add_up_but_for_one_hour(load: Load, store_url: str, realdata: Path) -> None:
    """FILUSDT, November 2023: prices of all hours agree. Of one, the archive's minutes lack 203,055.2 of the volume
    that REST's hour has (three of its minutes show no trade). Columns that the recording lacks are made up."""
    load("um", "FILUSDT", "1m", "2023-11", "2023-12", source="archive")
    load("um", "FILUSDT", "1h", "2023-11", "2023-12", source="rest")
    minutes, hours = (Series("um", "klines", "FILUSDT", interval) for interval in ("1m", "1h"))
    with open_store(store_url) as store:
        [(_, compared, found)] = store.rollup(minutes, [hours], instant("2023-11-01"), instant("2023-12-01"))
    assert compared == 720
    assert not {"open", "high", "low", "close"} & {name for rolled in found for name in rolled.columns}
    volumes = [(rolled.at_us, rolled.columns["volume"]) for rolled in found if "volume" in rolled.columns]
    assert volumes == [(instant("2023-11-14T11:00:00Z"), ("4976591.3", "4773536.1"))]
