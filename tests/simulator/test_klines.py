"""REST klines: windows, limits and refusals of the three markets."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW, Ask

SPOT, UM, CM = "/api/v3/klines", "/fapi/v1/klines", "/dapi/v1/klines"
MINUTE = 60_000
DAY = 86_400_000
START = to_ms("2024-01-01")


def opens(rows: list[Any]) -> list[int]:
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("path", "symbol", "params", "status", "code"),
    [
        (SPOT, "btcusdt", {}, 400, -1100),
        (SPOT, "BTC/USDT", {}, 400, -1100),
        (SPOT, "NOSUCHUSDT", {}, 400, -1121),
        (SPOT, "BTCUSD_PERP", {}, 400, -1121),
        (SPOT, None, {}, 400, -1102),
        (SPOT, "BTCUSDT", {"interval": None}, 400, -1102),
        (SPOT, "BTCUSDT", {"interval": "1mo"}, 400, -1120),
        (SPOT, "BTCUSDT", {"limit": "ten"}, 400, -1100),
        (SPOT, "BTCUSDT", {"limit": "-1"}, 400, -1100),
        (SPOT, "BTCUSDT", {"startTime": "yesterday"}, 400, -1100),
        (SPOT, "BTCUSDT", {"colour": "red"}, 400, -1104),
        (SPOT, "BTCUSDT", {"symbol": ["BTCUSDT", "ETHUSDT"]}, 400, -1101),
        (SPOT, "BTCUSDT", {"timeZone": "15"}, 400, -1130),
        (SPOT, "BTCUSDT", {"timeZone": "-12:01"}, 400, -1130),
        (SPOT, "BTCUSDT", {"timeZone": "UTC"}, 400, -1130),
        (UM, "BTCUSDT", {"limit": 1501, "symbol": "NOSUCH"}, 400, -1130),
        (UM, "BTCUSDT", {"limit": 1501}, 400, -1130),
        (CM, "BTCUSD_PERP", {"limit": 1501}, 400, -1130),
        (UM, "BTCUSDT", {"interval": "1s"}, 400, -1120),
        (CM, "BTCUSD_PERP", {"interval": "1s"}, 400, -1120),
        (UM, "NOSUCHUSDT", {}, 400, -1121),
        (UM, "GONEUSDT", {}, 400, -1122),
        (UM, "SOONUSDT", {}, 400, -1122),
        (UM, "BTCUSDT", {"startTime": 2, "endTime": 1}, 400, -1023),
        (CM, "BTCUSD_PERP", {"startTime": 2, "endTime": 1}, 400, -1023),
        (CM, "BTCUSD_PERP", {"startTime": 0, "endTime": 200 * DAY + 1}, 400, -1127),
    ],
)
def test_refusals(ask: Ask, path: str, symbol: str | None, params: dict[str, Any], status: int, code: int) -> None:
    """Each bad request has Binance's status and code."""
    answer = ask(path, **{"symbol": symbol, "interval": "1m", **params})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_bad_time_unit(ask: Ask) -> None:
    """Only milli- and microseconds are units."""
    answer = ask(SPOT, {"X-MBX-TIME-UNIT": "NANOSECOND"}, symbol="BTCUSDT", interval="1m")
    assert (answer.status_code, answer.json()["code"]) == (400, -1194)


def test_futures_tolerate_what_spot_refuses(ask: Ask) -> None:
    """Lower case and unknown parameters pass on futures."""
    assert (
        ask(UM, symbol="btcusdt", interval="1m", colour="red").json() == ask(UM, symbol="BTCUSDT", interval="1m").json()
    )


def test_default_and_highest_limits(ask: Ask) -> None:
    """500 rows by default; spot cuts a larger limit in silence, futures give up to 1500."""
    assert len(ask(SPOT, symbol="BTCUSDT", interval="1m").json()) == 500
    assert len(ask(SPOT, symbol="BTCUSDT", interval="1m", limit=5000).json()) == 1000
    assert len(ask(UM, symbol="BTCUSDT", interval="1m", limit=1500).json()) == 1500


@pytest.mark.parametrize("path", [SPOT, UM])
def test_windows_of_spot_and_um(ask: Ask, path: str) -> None:
    """Start is rounded up and end down to an open; with a start the oldest rows come, without it the newest."""

    def get(**params: Any) -> list[int]:
        return opens(ask(path, symbol="BTCUSDT", interval="1m", **params).json())

    now_open = to_ms("2026-11-20T12:00")
    assert get(limit=3) == [now_open - 2 * MINUTE, now_open - MINUTE, now_open]
    assert get(startTime=START - 59_999, limit=2) == [START, START + MINUTE]
    assert get(startTime=START + 1, limit=1) == [START + MINUTE]
    assert get(endTime=START + 1, limit=2) == [START - MINUTE, START]
    assert get(endTime=START - 1, limit=1) == [START - MINUTE]
    assert get(startTime=START, endTime=START + 10 * MINUTE, limit=3) == [START, START + MINUTE, START + 2 * MINUTE]
    assert get(startTime=START, endTime=START + 2 * MINUTE) == [START, START + MINUTE, START + 2 * MINUTE]
    assert get(startTime=START, endTime=START) == [START]
    assert get(startTime=START + 1, endTime=START + 2) == []


def test_reversed_range_on_spot(ask: Ask) -> None:
    """Spot answers a reversed range with nothing."""
    assert ask(SPOT, symbol="BTCUSDT", interval="1m", startTime=START, endTime=START - 1).json() == []


def test_cm_gives_the_newest_rows_of_its_window(ask: Ask) -> None:
    """Even with a start: the last `limit` rows, in ascending order; the other end lies 200 days away."""

    def get(**params: Any) -> list[int]:
        return opens(ask(CM, symbol="BTCUSD_PERP", interval="1d", **params).json())

    assert get(startTime=START, endTime=START + 10 * DAY, limit=3) == [START + day * DAY for day in (8, 9, 10)]
    assert get(startTime=START, limit=1) == [START + 200 * DAY]
    assert get(endTime=START, limit=1500)[0] == START - 200 * DAY
    assert get(startTime=to_ms(NOW) - DAY, limit=1) == [to_ms("2026-11-20")]
    assert len(get(startTime=START, endTime=START + 200 * DAY, limit=1500)) == 201
    assert len(get(limit=1500)) == 1500


def test_both_futures_hosts_know_both_kinds_of_symbols(ask: Ask) -> None:
    """The rows are the symbol's, the window rule is the host's."""
    window = {"interval": "1d", "startTime": START, "endTime": START + 10 * DAY, "limit": 2}
    assert opens(ask(UM, symbol="BTCUSD_PERP", **window).json()) == [START, START + DAY]
    assert opens(ask(CM, symbol="BTCUSDT", **window).json()) == [START + 9 * DAY, START + 10 * DAY]


def test_open_candle_has_live_values(simulator: Simulator, ask: Ask) -> None:
    """The last row is the forming candle; it grows until it closes, and the closed one is the truth."""
    forming = ask(SPOT, symbol="BTCUSDT", interval="1h", limit=1).json()[0]
    assert forming[0] < simulator.now_ms() < forming[6]
    simulator.set_clock("2026-11-20T12:30:00Z")
    later = ask(SPOT, symbol="BTCUSDT", interval="1h", limit=1).json()[0]
    assert later[8] > forming[8]
    assert later[1] == forming[1]
    simulator.set_clock("2026-11-20T14:00:00Z")
    closed = ask(SPOT, symbol="BTCUSDT", interval="1h", startTime=forming[0], limit=1).json()
    assert closed == simulator.truth("spot", "BTCUSDT", "1h", forming[0], forming[0] + 1)
    assert closed[0][8] > later[8]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("1s", "2024-02-29T01:01:02"),
        ("1m", "2024-02-29T01:02"),
        ("3m", "2024-02-29T01:03"),
        ("5m", "2024-02-29T01:05"),
        ("15m", "2024-02-29T01:15"),
        ("30m", "2024-02-29T01:30"),
        ("1h", "2024-02-29T02:00"),
        ("2h", "2024-02-29T02:00"),
        ("4h", "2024-02-29T04:00"),
        ("6h", "2024-02-29T06:00"),
        ("8h", "2024-02-29T08:00"),
        ("12h", "2024-02-29T12:00"),
        ("1d", "2024-03-01"),
        ("3d", "2024-03-01"),
        ("1w", "2024-03-04"),
        ("1M", "2024-03-01"),
    ],
)
def test_grids(ask: Ask, interval: str, expected: str) -> None:
    """Each interval opens on Binance's grid, and closes a millisecond before the next open."""
    first, second = ask(
        SPOT, symbol="BTCUSDT", interval=interval, startTime=to_ms("2024-02-29T01:01:02"), limit=2
    ).json()
    assert first[0] == to_ms(expected)
    assert first[6] + 1 == second[0]


def test_three_day_grid_is_the_measured_one(ask: Ask) -> None:
    """2026-07-07, 10 and 13 were seen live."""
    rows = ask(UM, symbol="BTCUSDT", interval="3d", startTime=to_ms("2026-07-05"), limit=3).json()
    assert opens(rows) == [to_ms("2026-07-07"), to_ms("2026-07-10"), to_ms("2026-07-13")]


def test_microseconds_on_spot(ask: Ask) -> None:
    """With the header times are microseconds; they are taken as parameters in any case."""
    plain = ask(SPOT, symbol="BTCUSDT", interval="1m", startTime=START, limit=1).json()[0]
    fine = ask(
        SPOT, {"X-MBX-TIME-UNIT": "microsecond"}, symbol="BTCUSDT", interval="1m", startTime=START * 1000, limit=1
    ).json()[0]
    assert fine[0] == plain[0] * 1000
    assert fine[6] == plain[6] * 1000 + 999
    assert fine[1:6] == plain[1:6]


@pytest.mark.parametrize(
    ("zone", "interval", "opened"),
    [
        ("8", "1d", "2023-12-31T16:00"),
        ("+08:00", "1w", "2024-01-07T16:00"),
        ("-1:00", "1d", "2024-01-01T01:00"),
        ("05:45", "1h", "2024-01-01T00:15"),
        ("05:45", "1m", "2024-01-01T00:00"),
        ("5:30", "1d", "2023-12-31T18:30"),
        ("-3", "1M", "2024-01-01T03:00"),
        ("0", "1d", "2024-01-01T00:00"),
    ],
)
def test_time_zones(ask: Ask, zone: str, interval: str, opened: str) -> None:
    """Spot puts the grid into a zone; times stay UTC, and candles are still the sum of their minutes."""
    begin = to_ms("2023-12-31T12:00") if opened < "2024-01-01" else START
    rows = ask(SPOT, symbol="BTCUSDT", interval=interval, timeZone=zone, startTime=begin, limit=2).json()
    assert rows[0][0] == to_ms(opened)
    assert rows[0][6] + 1 == rows[1][0]
    if interval in ("1d", "1h"):
        minutes: list[Any] = []
        while not minutes or minutes[-1][6] < rows[0][6]:
            begin = minutes[-1][6] + 1 if minutes else rows[0][0]
            minutes += ask(
                SPOT, symbol="BTCUSDT", interval="1m", startTime=begin, endTime=rows[0][6], limit=1000
            ).json()
        assert sum(minute[8] for minute in minutes) == rows[0][8]
        assert max(float(minute[2]) for minute in minutes) == float(rows[0][2])


def test_life_of_a_symbol(simulator: Simulator, ask: Ask) -> None:
    """Before listing and after delisting there is nothing; a delisted spot symbol still answers."""
    first = ask(SPOT, symbol="OLDUSDT", interval="1d", startTime=0, limit=1000).json()
    assert first[0][0] == to_ms("2019-01-01")
    last = ask(SPOT, symbol="OLDUSDT", interval="1d", limit=1).json()
    assert last[0][0] == to_ms("2021-04-30")
    assert ask(SPOT, symbol="OLDUSDT", interval="1d", endTime=to_ms("2018-12-31")).json() == []
    assert ask(SPOT, symbol="OLDUSDT", interval="1d", startTime=to_ms("2021-05-01")).json() == []
    simulator.set_clock("2026-11-23")
    assert len(ask(UM, symbol="SOONUSDT", interval="1h").json()) == 25


@pytest.mark.parametrize(
    ("path", "symbol"), [(SPOT, "币安人生USDT"), (UM, "币安人生USDT"), (UM, "BTCUSDT_261225"), (CM, "BTCUSD_261225")]
)
def test_unusual_symbols(ask: Ask, path: str, symbol: str) -> None:
    """Chinese characters and delivery dates are symbols like others."""
    assert len(ask(path, symbol=symbol, interval="1h", limit=5).json()) == 5


def test_shape_of_rows(ask: Ask) -> None:
    """Twelve slots; eight decimals on spot, the symbol's own on futures, contracts and base volume on cm."""
    spot = ask(SPOT, symbol="BTCUSDT", interval="1m", limit=1).json()[0]
    cm = ask(CM, symbol="BTCUSD_PERP", interval="1d", limit=2).json()[0]
    assert [type(slot) for slot in spot] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert all(len(spot[slot].partition(".")[2]) == 8 for slot in (1, 2, 3, 4, 5, 7, 9, 10))
    assert cm[5].isdigit()
    assert cm[9].isdigit()
    # A contract is worth 100 dollars.
    assert float(cm[7]) == pytest.approx(int(cm[5]) * 100 / float(cm[4]), rel=0.05)
