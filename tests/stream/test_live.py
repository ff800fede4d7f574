"""`get_real_time_data` against the simulator over real sockets: each record once and in order, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import INTERVALS, Market, to_us
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.normalize import page_rows
from airflow_provider_binance.provider import BinanceDataProvider, Gap, MarketData
from airflow_provider_binance.records import Kline, Series, Source
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream import keeping, live, refilling, silence

NOW = "2024-06-15T12:30:20Z"
SECONDS = 60

Enough = Callable[[Sequence[MarketData]], bool]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules in tenths of seconds."""
    monkeypatch.setattr(keeping, "OVERLAP_SECONDS", 0.1)
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.05)
    monkeypatch.setattr(live, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(live, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(refilling, "BEHIND_SECONDS", 0.05)
    monkeypatch.setattr(silence, "FIRST_SECONDS", 0.3)
    monkeypatch.setattr(silence, "_LOOK_SECONDS", 0.05)


def provider(simulator: Simulator, **settings: Any) -> BinanceDataProvider:
    return BinanceDataProvider(config=BinanceConfig.load(environ=simulator.settings, **settings))


async def taken(simulator: Simulator, symbols: list[str], enough: Enough, **words: Any) -> list[MarketData]:
    """What comes until it is enough."""
    found: list[MarketData] = []
    async with asyncio.timeout(SECONDS), aclosing(provider(simulator).get_real_time_data(symbols, **words)) as records:
        async for record in records:
            found.append(record)
            if enough(found):
                return found
    raise AssertionError("the stream ended")


def opened(simulator: Simulator) -> int:
    return len(simulator.connections)


def after(simulator: Simulator, connections: int, records: int) -> Enough:
    """So many records, once so many connections were there, and so many more then."""
    since: list[int] = []

    def enough(found: Sequence[MarketData]) -> bool:
        if not since and opened(simulator) >= connections and len(found) >= records:
            since.append(len(found))
        return bool(since) and len(found) >= since[0] + records

    return enough


def of(records: Sequence[MarketData], series: Series) -> list[Any]:
    names = ("market", "dataset", "symbol")
    return [
        record
        for record in records
        if all(getattr(record, name) == getattr(series, name) for name in names)
        and getattr(record, "interval", "") == series.interval
    ]


def check_ticks(simulator: Simulator, series: Series, records: Sequence[Any]) -> None:
    """All that was streamed from the first to the last, each once, ascending, with the exchange's own numbers."""
    is_trade = series.dataset == "trades"
    letter, name = ("t", "trade_id") if is_trade else ("a", "agg_trade_id")
    stream = f"{series.symbol.lower()}@{'trade' if is_trade else 'aggTrade'}"
    first, last = (to_us(record.trade_time) // 1000 for record in (records[0], records[-1]))
    story = simulator.streamed(series.market, stream, first, last + 5000, microseconds=series.market == "spot")
    events = {event[letter]: event for event in story}
    ids = [getattr(record, name) for record in records]
    assert ids == list(range(ids[0], ids[-1] + 1))
    scale = 1 if series.market == "spot" else 1000
    for record in records:
        event = events[getattr(record, name)]
        assert (record.price, record.quantity) == (Decimal(event["p"]), Decimal(event["q"]))
        assert type(record.price) is type(record.quantity) is Decimal
        assert (to_us(record.trade_time), record.is_buyer_maker) == (event["T"] * scale, event["m"])
        assert record.trade_time.utcoffset() is not None
        assert record.received_at.utcoffset() is not None
        if record.source is Source.STREAM:
            assert to_us(record.event_time) == event["E"] * scale
        else:
            assert record.event_time is None


STORIES = {"liquidations": "forceOrder", "mark_prices": "markPrice@1s", "book_tickers": "bookTicker"}


def check_story(simulator: Simulator, series: Series, records: Sequence[Any]) -> list[Gap]:
    """All that was streamed from the first to the last, or a gap in its place; returns the gaps."""
    gaps = [record for record in records if isinstance(record, Gap)]
    ours = [record for record in records if not isinstance(record, Gap)]
    first, last = (to_us(record.event_time) // 1000 for record in (ours[0], ours[-1]))
    stream = f"{series.symbol.lower()}@{STORIES[series.dataset]}"
    events = simulator.streamed(series.market, stream, first, last + 1)
    lacking = [(to_us(gap.start) // 1000, to_us(gap.end) // 1000) for gap in gaps if gap.start and gap.end]
    assert len(lacking) == len(gaps)
    expected = [event["E"] for event in events if not any(start < event["E"] < end for start, end in lacking)]
    assert [to_us(record.event_time) // 1000 for record in ours] == expected
    # Each gap stands between the record before it and the one after it, and tells what lies between them.
    for before, gap, after in zip(records, records[1:], records[2:], strict=False):
        if isinstance(gap, Gap):
            assert (gap.start, gap.end) == (before.event_time + timedelta(microseconds=1), after.event_time)
    return gaps


def check_klines(simulator: Simulator, series: Series, records: Sequence[Any]) -> None:
    grid = INTERVALS[series.interval]
    opens = [to_us(record.open_time) for record in records]
    end_us = grid.next_open(opens[-1])
    assert opens == list(grid.opens(opens[0], end_us))
    truth = simulator.truth(series.market, series.symbol, series.interval, opens[0] // 1000, end_us // 1000)
    rows = page_rows(json.dumps(truth).encode(), Market(series.market), grid)
    assert list(records) == list(rows.klines(series))
    assert all(isinstance(record, Kline) for record in records)


TICKS = [
    ("spot", "trades", "BTCUSDT", ["stream-cut=30:3"], 4),
    ("um", "agg_trades", "BTCUSDT", ["server-shutdown=20:2", "stream-duplicates"], 3),
    ("cm", "agg_trades", "BTCUSD_PERP", ["stream-reset=30:2", "stream-disorder"], 3),
    ("spot", "trades", "BTCUSDT", ["stream-burst=60:2"], 1),
    ("spot", "trades", "BTCUSDT", ["stream-cut=40:2", "http=503:2@/api/v3/historicalTrades"], 3),
]


@pytest.mark.parametrize(("market", "dataset", "symbol", "faults", "connections"), TICKS)
async def test_ticks_come_each_once_and_in_order(
    market: str, dataset: str, symbol: str, faults: list[str], connections: int
) -> None:
    with Simulator(seed=7, symbols=[f"{market}:{symbol}"], now=NOW, speed=60, faults=faults) as simulator:
        words = {} if faults[0] == "stream-burst=60:2" else {"datasets": [dataset]}  # it is spot's default
        found = await taken(simulator, [symbol], after(simulator, connections, 100), market=market, **words)

        assert not [record for record in found if isinstance(record, Gap)]
        check_ticks(simulator, Series(market, dataset, symbol), found)
        if any(word in faults[0] for word in ("cut", "reset")):
            assert {record.source for record in found if not isinstance(record, Gap)} == {Source.STREAM, Source.REST}


@pytest.mark.parametrize(
    ("market", "symbol", "faults", "connections"),
    [
        ("spot", "BTCUSDT", ["no-close"], 1),
        ("um", "BTCUSDT", ["stream-cut=70:2"], 3),
        ("cm", "BTCUSD_PERP", ["server-shutdown=60:1", "stream-disorder"], 2),
    ],
)
async def test_klines_come_each_once_and_in_order(
    market: str, symbol: str, faults: list[str], connections: int
) -> None:
    series = [Series(market, "klines", symbol, interval) for interval in ("1m", "3m")]
    with Simulator(seed=7, symbols=[f"{market}:{symbol}"], now=NOW, speed=60, faults=faults) as simulator:
        enough = after(simulator, connections, 4)
        found = await taken(
            simulator, [symbol], enough, market=market, datasets=["klines"], intervals=["1m", "3m"]
        )  # fmt: skip

        for one in series:
            check_klines(simulator, one, of(found, one))


async def test_several_symbols_and_datasets_come_beside_each_other() -> None:
    names = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
    with Simulator(seed=7, symbols=names, now=NOW, speed=30, faults=["stream-cut=40:2"]) as simulator:
        enough = after(simulator, 3, 300)
        words = {"datasets": ["trades", "agg_trades", "klines", "book_tickers"], "intervals": "1m"}
        found = await taken(simulator, ["*USDT"], enough, **words)

        for name in names:
            for dataset in ("trades", "agg_trades"):
                one = Series("spot", dataset, name)
                check_ticks(simulator, one, of(found, one))
            klines = Series("spot", "klines", name, "1m")
            check_klines(simulator, klines, of(found, klines))


@pytest.mark.parametrize("fault", ["stream-stall=60:1", "stream-gap=20:1"])
async def test_what_a_living_link_loses_is_fetched(fault: str) -> None:
    with Simulator(seed=7, symbols=["BTCUSDT"], now=NOW, speed=60) as simulator:

        def enough(found: Sequence[MarketData]) -> bool:
            if len(found) == 20:
                simulator.add_fault(fault)
            return len(found) >= 250

        found = await taken(simulator, ["BTCUSDT"], enough)

        check_ticks(simulator, Series("spot", "trades", "BTCUSDT"), found)
        assert Source.REST in {record.source for record in found if not isinstance(record, Gap)}


async def test_a_stream_that_stays_silent_is_read_by_rest(caplog: pytest.LogCaptureFixture) -> None:
    """It is acknowledged and sends nothing, from the beginning and for ever."""
    with Simulator(seed=7, symbols=["BTCUSDT"], now=NOW, speed=60, faults=["stream-silent"]) as simulator:
        found = await taken(simulator, ["BTCUSDT"], lambda found: len(found) >= 30)

        check_ticks(simulator, Series("spot", "trades", "BTCUSDT"), found)
        assert {record.source for record in found if not isinstance(record, Gap)} == {Source.REST}
        assert "silent stream: spot trades BTCUSDT" in caplog.text


@pytest.mark.soak  # 20,000 times as fast: a machine that is busy elsewhere is too slow for it
async def test_connections_are_handed_over_before_24_hours_are_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day in some seconds: nothing is lost, unless this machine was too slow for the exchange's own cut."""
    caplog.set_level("INFO")
    monkeypatch.setattr(keeping, "OVERLAP_SECONDS", 0.01)
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 0.01)
    with Simulator(seed=7, symbols=["um:BTCUSDT"], now=NOW, speed=20_000) as simulator:

        def enough(found: Sequence[MarketData]) -> bool:
            return caplog.text.count("handed over: ") >= 1 and len(found) >= 20

        found = await taken(simulator, ["BTCUSDT"], enough, market="um", datasets=["liquidations"])

        gaps = check_story(simulator, Series("um", "liquidations", "BTCUSDT"), found)
        closed = [one.closed_by for one in simulator.connections if one.closed_ms is not None]
        assert len(gaps) <= len(closed) - closed.count("client")


@pytest.mark.parametrize(
    ("market", "symbol", "dataset"),
    [("um", "BTCUSDT", "mark_prices"), ("cm", "BTCUSD_PERP", "book_tickers"), ("um", "BTCUSDT", "liquidations")],
)
async def test_what_cannot_be_had_again_is_a_gap(market: str, symbol: str, dataset: str) -> None:
    """With its exact range, and in its place."""
    faults = ["stream-cut=3000:2" if dataset == "liquidations" else "stream-cut=40:2"]
    speed = 3000 if dataset == "liquidations" else 60
    with Simulator(seed=7, symbols=[f"{market}:{symbol}"], now=NOW, speed=speed, faults=faults) as simulator:
        found = await taken(simulator, [symbol], after(simulator, 3, 30), market=market, datasets=[dataset])

        gaps = check_story(simulator, Series(market, dataset, symbol), found)
        assert len(gaps) == 2
        for gap in gaps:
            assert (gap.market, gap.dataset, gap.symbol, gap.cause) == (market, dataset, symbol, Cause.NO_SOURCE)
            assert gap.event_time is gap.first_id is gap.last_id is None


async def test_gaps_are_told_at_once_where_they_are_not_to_be_filled() -> None:
    with Simulator(seed=7, symbols=["BTCUSDT"], now=NOW, speed=60, faults=["stream-cut=30:2"]) as simulator:
        found: list[Any] = await taken(simulator, ["BTCUSDT"], after(simulator, 3, 100), fill_gaps=False)

        gaps = [record for record in found if isinstance(record, Gap)]
        assert [gap.cause for gap in gaps] == [Cause.NOT_ASKED] * 2
        for before, gap, later in zip(found, found[1:], found[2:], strict=False):
            if isinstance(gap, Gap):
                assert (gap.first_id, gap.last_id) == (before.trade_id + 1, later.trade_id - 1)
                assert gap.start is gap.end is gap.event_time is None
        ids = [record.trade_id for record in found if not isinstance(record, Gap)]
        lacking = {id_ for gap in gaps for id_ in range(gap.first_id, gap.last_id + 1)}
        assert sorted([*ids, *lacking]) == list(range(ids[0], ids[-1] + 1))
        assert not [one.path for one in simulator.requests if "Trades" in one.path]


async def test_what_is_older_than_the_window_of_rest_is_a_gap() -> None:
    """Futures' aggregates are served for 48 hours: what is older is told, the rest is fetched."""
    with Simulator(seed=7, symbols=["um:BTCUSDT"], now=NOW, speed=1, limits=False) as simulator:

        def enough(found: Sequence[MarketData]) -> bool:
            if len(found) == 3:
                simulator.add_fault("stream-reset=0:1")
                simulator.set_clock("2024-06-17T12:40:00Z")
            return any(isinstance(record, Gap) for record in found) and len(found) > 2500

        found: list[Any] = await taken(simulator, ["BTCUSDT"], enough, market="um")

        [gap] = [record for record in found if isinstance(record, Gap)]
        at = found.index(gap)
        before, later = found[at - 1], found[at + 1]
        assert (gap.cause, gap.first_id, gap.last_id) == (
            Cause.NOT_SERVED, before.agg_trade_id + 1, later.agg_trade_id - 1,
        )  # fmt: skip
        series = Series("um", "agg_trades", "BTCUSDT")
        check_ticks(simulator, series, found[:at])
        check_ticks(simulator, series, found[at + 1 :])
        oldest = simulator.now_ms() - 48 * 3_600_000
        assert 0 < to_us(later.trade_time) // 1000 - oldest < 120_000
