"""Faults: each does what the table says, as often as it was told."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
import zlib

import pytest
import requests

from airflow_provider_binance.simulator.fault_names import NAMES
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import Ask
from tests.simulator.test_accounts import signed

DAY = "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09-05.zip"


def klines(ask: Ask, **params: str | int) -> requests.Response:
    return ask("/api/v3/klines", **{"symbol": "BTCUSDT", "interval": "1h", **params})


@pytest.mark.parametrize("status", [500, 503, 404])
def test_http_status_for_a_count_and_a_path(ask: Ask, simulator: Simulator, status: int) -> None:
    """Two klines requests fail, the ping between them does not, the third goes through."""
    simulator.add_fault(f"http={status}:2@/klines")
    assert [klines(ask).status_code, ask("/api/v3/ping").status_code] == [status, 200]
    assert [klines(ask).status_code, klines(ask).status_code] == [status, 200]


def test_reset_truncation_and_silence(ask: Ask, simulator: Simulator) -> None:
    """The wire breaks before, in the middle of and instead of an answer."""
    for fault in ("reset=1", "truncate=1", "hang=0.1:1"):
        simulator.add_fault(fault)
        with pytest.raises(requests.exceptions.RequestException):
            klines(ask)
        assert klines(ask).status_code == 200


def test_latency(ask: Ask, simulator: Simulator) -> None:
    """The answer is right, but late."""
    simulator.add_fault("latency=200:1")
    started = time.monotonic()
    assert klines(ask).status_code == 200
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [("nonjson=1", 200, "text/html"), ("403=1", 403, "text/html"), ("451=1", 451, "application/json")],
)
def test_pages_that_are_no_answers(ask: Ask, simulator: Simulator, fault: str, status: int, content_type: str) -> None:
    """HTML of a firewall or a maintenance page, and the refusal of a country."""
    simulator.add_fault(fault)
    answer = klines(ask)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(content_type)


def test_throttling_and_bans_at_will(ask: Ask, simulator: Simulator) -> None:
    """429 for once; a ban that lasts by the simulated clock although limits are off for good behaviour."""
    simulator.add_fault("429=1")
    answer = klines(ask)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30")
    simulator.add_fault("418=90")
    answer = klines(ask)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["code"]) == (418, "90", -1003)
    simulator.set_clock("2026-11-20T12:01:00Z")
    assert klines(ask).headers["Retry-After"] == "60"
    simulator.set_clock("2026-11-20T12:02:00Z")
    assert klines(ask).status_code == 200


def test_empty_page(ask: Ask, simulator: Simulator) -> None:
    """One page without rows."""
    simulator.add_fault("empty-page=1")
    assert [len(klines(ask).json()), len(klines(ask).json())] == [0, 500]


def test_clock_skew(ask: Ask, simulator: Simulator) -> None:
    """The signed request is judged by another clock than `time` shows."""
    simulator.add_fault("clock-skew=60000:1")
    key = {"X-MBX-APIKEY": simulator.api_key}
    codes = [ask("/api/v3/account" + signed(simulator.now_ms()), key).status_code for _ in range(2)]
    assert codes == [400, 200]
    assert ask("/api/v3/time").json()["serverTime"] == simulator.now_ms()


def test_corrupt_zip_and_bad_checksum(ask: Ask, simulator: Simulator) -> None:
    """Once wrong, then right."""
    simulator.add_fault("corrupt-zip=1@BTCUSDT-1h")
    simulator.add_fault("bad-checksum=1")
    broken, good = ask(f"/archive/{DAY}").content, ask(f"/archive/{DAY}").content
    sums = [ask(f"/archive/{DAY}.CHECKSUM").text.split()[0] for _ in range(2)]
    assert len(broken) == len(good)
    assert sums == ["0" * 64, hashlib.sha256(good).hexdigest()]
    assert hashlib.sha256(broken).hexdigest() != sums[1]
    with zipfile.ZipFile(io.BytesIO(broken)) as archive, pytest.raises((zipfile.BadZipFile, zlib.error)):
        archive.read(archive.namelist()[0])


def test_late_day(ask: Ask, simulator: Simulator) -> None:
    """The file is neither there nor listed, its neighbours are."""
    simulator.add_fault("late-day=2026-09-05")
    assert ask(f"/archive/{DAY}").status_code == 404
    listing = ask("/listing", prefix="data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09-0").text
    assert "BTCUSDT-1h-2026-09-05" not in listing
    assert "BTCUSDT-1h-2026-09-06" in listing


def test_missing_rows(ask: Ask, simulator: Simulator) -> None:
    """In REST only, in the archive only, in both."""
    window = {"startTime": 1788566400000, "endTime": 1788566400000 + 23 * 3_600_000}

    def counts() -> tuple[int, int]:
        with zipfile.ZipFile(io.BytesIO(ask(f"/archive/{DAY}").content)) as archive:
            lines = archive.read(archive.namelist()[0]).splitlines()
        return len(klines(ask, **window).json()), len(lines)

    assert counts() == (24, 24)
    simulator.add_fault("missing-rest=BTCUSDT:1h:2026-09-05T01:00..2026-09-05T03:00")
    assert counts() == (22, 24)
    simulator.add_fault("missing-archive=spot:BTCUSDT:1h:2026-09-05T10:00..2026-09-05T11:00")
    assert counts() == (22, 23)
    simulator.add_fault("missing-both=spot:BTCUSDT:*:2026-09-05T20:00..2026-09-06")
    assert counts() == (18, 19)
    simulator.clear_faults()
    assert counts() == (24, 24)


def test_halt_is_missing_from_longer_candles_too(simulator: Simulator) -> None:
    """Minutes are gone, the hour around them sums what is left, an hour without any is gone."""
    before = simulator.truth("spot", "BTCUSDT", "1h", "2026-09-05", "2026-09-06")
    simulator.add_fault("halt=BTCUSDT:*:2026-09-05T03:30..2026-09-05T05:00")
    after = simulator.truth("spot", "BTCUSDT", "1h", "2026-09-05", "2026-09-06")
    assert len(simulator.truth("spot", "BTCUSDT", "1m", "2026-09-05", "2026-09-06")) == 1440 - 90
    assert [row[0] for row in after] == [row[0] for row in before if row[0] != before[4][0]]
    assert after[3][8] < before[3][8]
    assert after[3][1] == before[3][1]


@pytest.mark.parametrize(
    "text",
    [
        "nosuch",
        "http",
        "http=abc",
        "reset=x",
        "late-day=tomorrow",
        "missing-rest=BTCUSDT",
        "missing-both=NOSUCH:1h:2026..2027",
    ],
)
def test_bad_faults_are_refused(simulator: Simulator, text: str) -> None:
    """With a message that shows the form."""
    with pytest.raises(ValueError, match=r"fault|isoformat"):
        simulator.add_fault(text)


def test_every_fault_is_in_the_table() -> None:
    """The module's documentation names them all."""
    from airflow_provider_binance.simulator import faults

    assert all(f"``{name}``" in (faults.__doc__ or "") for name in NAMES)
