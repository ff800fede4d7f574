"""One story: what was streamed in a window is what REST, and the archive a day later, tell of it."""

from __future__ import annotations

import io
import json
import zipfile
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_binance.simulator.clock import SimulatedClock, to_ms
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.streams.feed import Feed
from tests.simulator.conftest import Ask

START, END = to_ms("2026-11-20T12:40:00Z"), to_ms("2026-11-20T13:20:00Z")
PREFIX = {"spot": "/api/v3", "um": "/fapi/v1", "cm": "/dapi/v1"}
SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
FOLDER = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
MARKETS = ["spot", "um", "cm"]
KLINE_SLOTS = ["t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B"]
CLOSED = [*((market, "1m") for market in MARKETS), ("spot", "1s"), ("um", "5m"), ("cm", "1h")]


def lower(market: str) -> str:
    return SYMBOL[market].lower()


def archived(ask: Ask, simulator: Simulator, market: str, kind: str) -> list[list[str]]:
    """The rows of the day's file, once it is out."""
    simulator.set_clock("2026-11-22T00:00:00Z", 0)
    symbol = SYMBOL[market]
    folder, name = (f"klines/{symbol}/{kind}", kind) if kind[0].isdigit() else (f"{kind}/{symbol}", kind)
    answer = ask(f"/archive/data/{FOLDER[market]}/daily/{folder}/{symbol}-{name}-2026-11-20.zip")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    return [line.split(",") for line in lines if line[0].isdigit()]


def plain(value: Any) -> str:
    """A value as text that two prints of the same number share."""
    if isinstance(value, bool) or str(value).lower() in ("true", "false"):
        return str(value).lower()
    return f"{Decimal(str(value)).normalize():f}"


@pytest.mark.parametrize("market", MARKETS)
def test_aggregates(ask: Ask, simulator: Simulator, market: str) -> None:
    """Every one once, in the order of its ids, with the same fields."""
    story = simulator.streamed(market, f"{lower(market)}@aggTrade", START, END)
    assert len(story) > 1500
    assert all(before["a"] + 1 == after["a"] for before, after in pairwise(story))
    simulator.set_clock(END)
    shown: list[dict[str, Any]] = []
    while len(shown) < len(story):
        first = story[len(shown)]["a"]
        shown += ask(f"{PREFIX[market]}/aggTrades", symbol=SYMBOL[market], fromId=first, limit=1000).json()
    names = list(shown[0])
    assert [{name: event[name] for name in names} for event in story] == shown[: len(story)]
    filed = {int(row[0]): row for row in archived(ask, simulator, market, "aggTrades")}
    for event in story:
        row = filed[event["a"]]
        time = event["T"] if market != "spot" else int(row[5]) // 1000
        assert [plain(each) for each in row[1:5]] == [plain(event[name]) for name in "pqfl"]
        assert time == (int(row[5]) if market != "spot" else event["T"])
        assert plain(row[6]) == plain(event["m"])


def test_trades(ask: Ask, simulator: Simulator) -> None:
    """The same of spot's single trades."""
    story = simulator.streamed("spot", "btcusdt@trade", START, END)
    assert all(before["t"] + 1 == after["t"] for before, after in pairwise(story))
    simulator.set_clock(END)
    shown: list[dict[str, Any]] = []
    while len(shown) < len(story):
        first = story[len(shown)]["t"]
        shown += ask("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=first, limit=1000).json()
    streamed = [[event[name] for name in ("t", "p", "q", "T", "m", "M")] for event in story]
    rest = [[row[name] for name in ("id", "price", "qty", "time", "isBuyerMaker", "isBestMatch")] for row in shown]
    assert streamed == rest[: len(story)]
    filed = {int(row[0]): row for row in archived(ask, simulator, "spot", "trades")}
    for event in story:
        row = filed[event["t"]]
        assert [plain(each) for each in row[1:3]] == [plain(event["p"]), plain(event["q"])]
        assert int(row[4]) // 1000 == event["T"]


@pytest.mark.parametrize(("market", "interval"), CLOSED)
def test_closed_klines(ask: Ask, simulator: Simulator, market: str, interval: str) -> None:
    """A closed event for each candle with a trade, and for no other, with all that REST and archive say of it."""
    # Long enough for a minute without trades.
    end = START + 11 * 3_600_000 if interval == "1m" else END
    story = simulator.streamed(market, f"{lower(market)}@kline_{interval}", START, end)
    closed = {event["k"]["t"]: event for event in story if event["k"]["x"]}
    first, last = min(closed), max(closed)
    simulator.set_clock(end)
    truth = simulator.truth(market, SYMBOL[market], interval, first, last + 1)
    traded = [row for row in truth if row[8]]
    assert list(closed) == [row[0] for row in traded]
    assert [[event["k"][slot] for slot in KLINE_SLOTS] for event in closed.values()] == traded
    assert all(0 < event["E"] - event["k"]["T"] < 100 for event in closed.values())
    if interval == "1m":
        assert len(traded) < len(truth), "no quiet minute in the window"
    scale = 1000 if market == "spot" else 1
    filed = {int(row[0]) // scale: row for row in archived(ask, simulator, market, interval)}
    for open_ms, event in closed.items():
        row = filed[open_ms]
        assert [plain(event["k"][slot]) for slot in "ohlcvqnVQ"] == [
            plain(row[at]) for at in (1, 2, 3, 4, 5, 7, 8, 9, 10)
        ]


@pytest.mark.parametrize(("market", "interval"), [*((each, "1m") for each in MARKETS), ("spot", "1h"), ("cm", "1d")])
def test_forming_klines(ask: Ask, simulator: Simulator, market: str, interval: str) -> None:
    """At the instant of an event, REST shows the same candle; ids are those of its first and last trade."""
    forming = [
        event
        for event in simulator.streamed(market, f"{lower(market)}@kline_{interval}", START, END)
        if not event["k"]["x"]
    ]
    step = 2000 if market == "spot" else 250
    assert all(after["E"] - before["E"] >= step for before, after in pairwise(forming))
    for event in forming[:: len(forming) // 25]:
        simulator.set_clock(event["E"])
        (row,) = ask(f"{PREFIX[market]}/klines", symbol=SYMBOL[market], interval=interval, limit=1).json()
        assert [event["k"][slot] for slot in KLINE_SLOTS] == row
        (trade,) = ask(f"{PREFIX[market]}/trades", symbol=SYMBOL[market], limit=1).json()
        assert event["k"]["L"] == trade["id"]


@pytest.mark.parametrize("market", MARKETS)
def test_a_local_book(ask: Ask, simulator: Simulator, market: str) -> None:
    """A snapshot and the changes after it give the book that REST shows later; the ids chain as documented.

    Levels beyond the snapshot are learned only when they change.
    """
    symbol = SYMBOL[market]
    simulator.set_clock(START + 50)
    limit = 5000 if market == "spot" else 1000
    snapshot = ask(f"{PREFIX[market]}/depth", symbol=symbol, limit=limit).json()
    known = Decimal(snapshot["bids"][-1][0]), Decimal(snapshot["asks"][-1][0])
    book = {side: {Decimal(price): quantity for price, quantity in snapshot[side]} for side in ("bids", "asks")}
    events = simulator.streamed(market, f"{lower(market)}@depth@100ms", START - 1000, START + 20_000)
    for before, after in pairwise(events):
        assert after["U"] <= after["u"]
        assert (after["U"] == before["u"] + 1) if market == "spot" else (after["pu"] == before["u"])
    fresh = [event for event in events if event["u"] >= snapshot["lastUpdateId"]]
    assert fresh[0]["U"] <= snapshot["lastUpdateId"] <= fresh[0]["u"]
    for event in fresh:
        for side, name in (("bids", "b"), ("asks", "a")):
            for price, quantity in event[name]:
                book[side][Decimal(price)] = quantity
                if not Decimal(quantity):
                    del book[side][Decimal(price)]
    simulator.set_clock(events[-1]["E"])
    later = ask(f"{PREFIX[market]}/depth", symbol=symbol, limit=limit).json()
    assert later["lastUpdateId"] == events[-1]["u"]
    for side, best_first in (("bids", True), ("asks", False)):
        shown = [[Decimal(price), quantity] for price, quantity in later[side]]
        low, high = max(known[0], min(shown)[0]), min(known[1], max(shown)[0])
        mine = [[price, quantity] for price, quantity in book[side].items() if low <= price <= high]
        assert sorted(mine, reverse=best_first) == [level for level in shown if low <= level[0] <= high]
        assert len(mine) > 200


@pytest.mark.parametrize("market", MARKETS)
def test_parts_of_the_book(ask: Ask, simulator: Simulator, market: str) -> None:
    """Best prices and upper levels are those of REST at that instant."""
    tickers = {event["u"]: event for event in simulator.streamed(market, f"{lower(market)}@bookTicker", START, END)}
    assert len(tickers) > 100
    for update_id in list(tickers)[::40]:
        event = tickers[update_id]
        if market != "spot":
            simulator.set_clock(event["T"])
            book = ask(f"{PREFIX[market]}/depth", symbol=SYMBOL[market], limit=5).json()
            assert book["lastUpdateId"] == update_id
            assert [book["bids"][0], book["asks"][0]] == [[event["b"], event["B"]], [event["a"], event["A"]]]
    last = simulator.streamed(market, f"{lower(market)}@depth20@100ms", START, START + 2000)[-1]
    simulator.set_clock(START + 2000)
    book = ask(f"{PREFIX[market]}/depth", symbol=SYMBOL[market], limit=20).json()
    shown = (last["bids"], last["asks"]) if market == "spot" else (last["b"], last["a"])
    simulator.set_clock(START + 1950)
    book = ask(f"{PREFIX[market]}/depth", symbol=SYMBOL[market], limit=20).json()
    assert shown == (book["bids"], book["asks"])


def test_streams_of_all_symbols(simulator: Simulator) -> None:
    """Rows of both futures markets on both hosts, told apart by ``st``; none of who does not trade."""
    for host in ("um", "cm"):
        frames = simulator.streamed(host, "!markPrice@arr@1s", START, START + 2000)
        assert [sorted({row["st"] for row in frame}) for frame in frames] == [[1], [2], [1], [2]]
        symbols = {row["s"] for frame in frames for row in frame}
        assert {"BTCUSDT", "BTCUSDT_261225", "BTCUSD_PERP", "BTCUSD_261225"} <= symbols
        assert not symbols & {"GONEUSDT", "SOONUSDT"}
        for stream in ("!forceOrder@arr", "!bookTicker"):
            events = simulator.streamed(host, stream, START, END if stream[1] == "f" else START + 30_000)
            assert {event["st"] for event in events} == {1, 2}
            times = [event["E"] for event in events]
            assert times == sorted(times)
    delivery = [row for frame in frames for row in frame if row["s"].endswith("_261225")]
    assert {(row["r"], row["T"]) for row in delivery} == {("0.00000000", 0), ("", 0)}


STREAMS = [
    ("spot", "btcusdt@trade"),
    ("um", "btcusdt@aggTrade"),
    ("cm", "btcusd_perp@aggTrade"),
    ("spot", "btcusdt@kline_1m"),
    ("um", "btcusdt@kline_5m"),
    ("spot", "btcusdt@kline_1s"),
    ("spot", "btcusdt@kline_1h@+08:00"),
    ("um", "btcusdt@bookTicker"),
    ("um", "btcusdt@depth"),
    ("cm", "btcusd_perp@depth5"),
    ("um", "btcusdt@markPrice@1s"),
    ("um", "!forceOrder@arr"),
]


@pytest.mark.parametrize(("market", "stream"), STREAMS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(0, 120_000_000), max_size=6), offset=st.integers(0, 10_000))
def test_windows_do_not_matter(market: str, stream: str, cuts: list[int], offset: int) -> None:
    """However a stretch is cut, the same events come out, in order: nothing lost, nothing twice."""
    exchange = Exchange(SimulatedClock(START, 0), 5, ["BTCUSDT", "cm:BTCUSD_PERP"])
    start = (START + offset * 60_000) * 1000
    edges = [start, *sorted(start + cut for cut in cuts), start + 120_000_000]
    whole = Feed(exchange).source(market, stream)
    pieces = Feed(exchange).source(market, stream)
    assert whole is not None
    assert pieces is not None
    expected = whole.between(edges[0], edges[-1])
    assert expected.times_us == sorted(expected.times_us)
    assert all(edges[0] <= each < edges[-1] for each in expected.times_us)
    found = [pieces.between(begin, end) for begin, end in pairwise(edges) if begin < end]
    assert [payload for part in found for payload in part.payloads] == expected.payloads
    assert all(json.loads(payload) for payload in expected.payloads)


def test_a_halt_silences_streams(simulator: Simulator) -> None:
    """From the moment that it is known, and the ids go on after it."""
    window = START, START + 600_000
    before = simulator.streamed("spot", "btcusdt@trade", *window)
    simulator.add_fault("halt=spot:BTCUSDT:*:2026-11-20T12:42..2026-11-20T12:45")
    after = simulator.streamed("spot", "btcusdt@trade", *window)
    assert len(after) < len(before)
    assert not [event for event in after if START + 120_000 <= event["T"] < START + 300_000]
    assert all(one["t"] + 1 == other["t"] for one, other in pairwise(after))
    simulator.clear_faults()
    assert simulator.streamed("spot", "btcusdt@trade", *window) == before
