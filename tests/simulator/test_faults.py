"""Faults: each does what the table says, as often as it was told."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
import zlib
from pathlib import Path

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


def test_jitter_is_latency_by_chance(ask: Ask, simulator: Simulator) -> None:
    """Never more than was said; the same run after run, so nothing here waits for a bad draw."""
    simulator.add_fault("jitter=50:3")
    assert [klines(ask).status_code for _ in range(4)] == [200] * 4


def test_slow_body(ask: Ask, simulator: Simulator) -> None:
    """Headers come at once, the body is complete in the end."""
    simulator.add_fault("slow-body=0.3:1")
    url = simulator.settings["BINANCE_SPOT_REST_URL"] + "/api/v3/klines?symbol=BTCUSDT&interval=1h"
    with requests.get(url, stream=True, timeout=10) as answer:
        headers_after = answer.elapsed.total_seconds()
        started = time.monotonic()
        rows = answer.json()
    assert headers_after + time.monotonic() - started >= 0.3
    assert rows == klines(ask).json()


def test_duplicates_and_disorder(ask: Ask, simulator: Simulator) -> None:
    """Rows twice, and rows in the wrong order, of klines and of aggregates."""
    for path, params in (("/api/v3/klines", {"interval": "1m"}), ("/fapi/v1/aggTrades", {})):

        def get(path: str = path, params: dict[str, str] = params) -> list[object]:
            return ask(path, symbol="BTCUSDT", limit=30, **params).json()  # type: ignore[no-any-return]

        rows = get()
        simulator.add_fault(f"duplicates=1@{path}")
        assert get() == [row for index, row in enumerate(rows) for _ in range(2 if index in (9, 19, 29) else 1)]
        simulator.add_fault(f"disorder=1@{path}")
        assert get() == rows[15:] + rows[:15]
        assert get() == rows


def test_headers_that_are_not_there_or_wrong(ask: Ask, simulator: Simulator) -> None:
    """A client must get along without Retry-After and used weight, and with a clock that is off."""
    simulator.add_fault("429=1")
    simulator.add_fault("no-retry-after=1")
    throttled = klines(ask)
    assert throttled.status_code == 429
    assert "Retry-After" not in throttled.headers
    simulator.add_fault("no-weight-header=1")
    assert not any("used-weight" in name for name in klines(ask).headers)
    simulator.add_fault("wrong-date=3600:1")
    assert klines(ask).headers["Date"] == "Fri, 20 Nov 2026 13:00:30 GMT"
    again = klines(ask)
    assert again.headers["Date"] == "Fri, 20 Nov 2026 12:00:30 GMT"
    assert "x-mbx-used-weight-1m" in again.headers


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("overloaded=1", 503, -1008), ("http=408:1", 408, -1007), ("http=500:1", 500, -1001)]
)
def test_trouble_behind_the_door(ask: Ask, simulator: Simulator, fault: str, status: int, code: int) -> None:
    """Each with Binance's own code."""
    simulator.add_fault(fault)
    answer = klines(ask)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_compressed_answers(ask: Ask, simulator: Simulator) -> None:
    """Only for who asks for it; every client of HTTP unpacks them."""
    plain = klines(ask)
    simulator.add_fault("gzip")
    packed = klines(ask)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) // 2
    assert packed.json() == plain.json()
    bare = ask("/api/v3/time", {"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in bare.headers


def test_late_month(ask: Ask, simulator: Simulator) -> None:
    """The month is not out, its days are."""
    month = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09.zip"
    assert ask(f"/archive/{month}").status_code == 200
    simulator.add_fault("late-month=2026-09@/klines/")
    assert ask(f"/archive/{month}").status_code == 404
    assert ask(f"/archive/{DAY}").status_code == 200
    assert "1h-2026-09.zip" not in ask("/listing", prefix="data/spot/monthly/klines/BTCUSDT/1h/").text


def test_listings_that_are_stale_or_short(ask: Ask, simulator: Simulator) -> None:
    """What is not listed is there all the same."""
    prefix = "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-09"
    simulator.add_fault("stale-listing=2026-09-05")
    text = ask("/listing", prefix=prefix).text
    assert "1h-2026-09-03.zip<" in text
    assert "1h-2026-09-04.zip<" not in text
    assert ask(f"/archive/{DAY}").status_code == 200
    simulator.clear_faults()
    simulator.add_fault("short-listing=4:1")
    text = ask("/listing", prefix=prefix).text
    assert (text.count("<Contents>"), "<IsTruncated>false" in text) == (4, True)
    assert ask("/listing", prefix=prefix).text.count("<Contents>") == 60


def lines_of(ask: Ask, key: str) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(ask(f"/archive/{key}").content)) as archive:
        return [line.split(",") for line in archive.read(archive.namelist()[0]).decode().splitlines()]


SERIES = "BTCUSDT:1h:2026-09-05T01:00..2026-09-05T04:00"


def test_republished_files(ask: Ask, simulator: Simulator) -> None:
    """The same rows in other bytes, with a new time and ETag, in the listing too."""
    before, rows = ask(f"/archive/{DAY}"), lines_of(ask, DAY)
    simulator.add_fault(f"republished={SERIES}@/daily/")
    after = ask(f"/archive/{DAY}")
    assert lines_of(ask, DAY) == rows
    assert after.content != before.content
    assert after.headers["ETag"] != before.headers["ETag"]
    assert after.headers["Last-Modified"] == "Fri, 20 Nov 2026 12:00:30 GMT"
    listing = ask("/listing", prefix=DAY).text
    assert "2026-11-20T12:00:30.000Z" in listing
    assert after.headers["ETag"].strip('"') in listing
    assert ask(f"/archive/{DAY}.CHECKSUM").text.split()[0] == hashlib.sha256(after.content).hexdigest()
    assert int(ask(f"/archive/{DAY}", method="HEAD").headers["Content-Length"]) == len(after.content)


def test_corrected_files(ask: Ask, simulator: Simulator) -> None:
    """Three volumes are a unit larger than REST has them, in a file that was uploaded again."""
    before = lines_of(ask, DAY)
    simulator.add_fault(f"corrected={SERIES}")
    after = lines_of(ask, DAY)
    changed = [(old[5], new[5]) for old, new in zip(before, after, strict=True) if old != new]
    assert [float(new) - float(old) for old, new in changed] == pytest.approx([1e-8] * 3, rel=0.01)
    assert ask(f"/archive/{DAY}").headers["Last-Modified"] == "Fri, 20 Nov 2026 12:00:30 GMT"
    live = klines(ask, startTime=1788566400000 + 3_600_000, limit=1).json()[0]
    assert live[5] == changed[0][0]


def test_rows_twice_in_reverse_and_of_another_day(ask: Ask, simulator: Simulator) -> None:
    """Each in its file only."""
    plain = lines_of(ask, DAY)
    simulator.add_fault(f"duplicated={SERIES}")
    assert lines_of(ask, DAY) == [row for row in plain for _ in range(2 if row in plain[1:4] else 1)]
    simulator.clear_faults()
    simulator.add_fault(f"disordered={SERIES}")
    assert lines_of(ask, DAY) == [plain[0], plain[3], plain[2], plain[1], *plain[4:]]
    simulator.clear_faults()
    simulator.add_fault(f"wrong-day={SERIES}@/daily/")
    shifted = lines_of(ask, DAY)
    assert [int(new[0]) - int(old[0]) for old, new in zip(plain, shifted, strict=True)][:5] == [
        0,
        *[86_400_000_000] * 3,
        0,
    ]
    simulator.clear_faults()
    assert lines_of(ask, DAY) == plain


def test_firewall(ask: Ask) -> None:
    """Words of SQL in a query are an attack; a part of a longer word is not."""
    assert ask("/api/v3/klines", symbol="BTCUSDT' UNION SELECT 1", interval="1m").status_code == 403
    assert ask("/fapi/v1/klines", symbol="DROPUSDT", interval="1m").status_code == 400


@pytest.mark.parametrize(
    "path", ["/api/v1/klines", "/fapi/v1/allForceOrders", "/fapi/v9/klines", "/nothing", "/dapi/v1/rpiDepth"]
)
def test_paths_that_lead_nowhere(ask: Ask, path: str) -> None:
    """Retired, removed and never there; a page only for browsers."""
    answer = ask(path, symbol="BTCUSDT")
    assert (answer.status_code, answer.json()["code"]) == (404, -5000)
    assert ask(path, {"Accept": "text/html"}).headers["Content-Type"] == "text/html"


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
        "late-day=2026-09",
        "late-month=2026-09-01",
        "stale-listing=x",
        "jitter",
        "corrected=BTCUSDT",
        "voided=BTCUSDT:2h5:2026..2027",
        "missing-rest=BTCUSDT",
        "missing-both=NOSUCH:1h:2026..2027",
    ],
)
def test_bad_faults_are_refused(simulator: Simulator, text: str) -> None:
    """With a message that shows the form."""
    with pytest.raises(ValueError, match=r"fault|isoformat"):
        simulator.add_fault(text)


def test_every_fault_is_in_the_table() -> None:
    """The documentation, for readers of code and for others, names them all."""
    from airflow_provider_binance.simulator import faults

    assert all(f"``{name}``" in (faults.__doc__ or "") for name in NAMES)
    manual = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in manual for name in NAMES)
