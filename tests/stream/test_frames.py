"""Frames of the three markets as documented; what is odd is counted, and never ends anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Frames, Record, Reply, Shutdown
from tests.stream.samples import agg_trade_frame, frame, kline_frame

MS, US = 1_700_000_000_099, 1_700_000_000_099_000
NOW = 1_700_000_001_000_000
KLINE = [1_700_000_040_000, "0.5", "0.70", "0.40", "0.60", "10.0", 1_700_000_099_999, "6.00", 7, "4.0", "2.0", "0"]


def only(frames: Frames, raw: bytes) -> Record:
    found = frames.read(raw, NOW)
    assert isinstance(found, (tuple, list))
    [record] = found
    assert isinstance(record, Record)
    return record


def test_agg_trade_of_spot_in_milliseconds_and_in_microseconds() -> None:
    frames = Frames(Market.SPOT)
    coarse = only(frames, agg_trade_frame("BTCUSDT", 9, M=True))
    fine = only(frames, agg_trade_frame("BTCUSDT", 9, M=True, T=US + 7, E=US + 999))

    assert coarse.series == Series("spot", "agg_trades", "BTCUSDT")
    assert coarse.values == (9, "42000.1", "0.01", None, 5, 6, US, 1, 1)
    assert (coarse.event_us, coarse.received_us) == (1_700_000_000_100_000, NOW)
    assert fine.values[6] == US + 7
    assert fine.event_us == US + 999
    assert frames.counts == {"events": 2}


@pytest.mark.parametrize("host", [Market.UM, Market.CM])
@pytest.mark.parametrize(("st_", "market"), [(1, "um"), (2, "cm")])
def test_futures_rows_are_filed_by_st_and_not_by_host(host: Market, st_: int, market: str) -> None:
    record = only(Frames(host), agg_trade_frame("BTCUSD_PERP", 9, st=st_, nq="0.005"))

    assert record.series == Series(market, "agg_trades", "BTCUSD_PERP")
    assert record.values[3] == "0.005"
    assert record.values[8] is None


@pytest.mark.parametrize("host", [Market.UM, Market.CM])
@pytest.mark.parametrize(
    ("symbol", "market"),
    [
        ("BTCUSDT", "um"),
        ("BTCUSDT_261225", "um"),
        ("BTCUSD_PERP", "cm"),
        ("ETHUSD_261225", "cm"),
        ("币安人生USDT", "um"),
    ],
)
def test_futures_klines_have_no_st_and_are_filed_by_symbol(host: Market, symbol: str, market: str) -> None:
    record = only(Frames(host), kline_frame(symbol, "1m", KLINE))

    assert record.series == Series(market, "klines", symbol, "1m")


def test_open_klines_are_no_records() -> None:
    frames = Frames(Market.SPOT)

    assert list(frames.read(kline_frame("BTCUSDT", "1m", KLINE, closed=False), NOW)) == []
    assert frames.counts == {"open": 1}
    assert frames.newest_us == 1_700_000_100_004_000


def test_close_time_in_microseconds_is_floored() -> None:
    slots = [KLINE[0] * 1000, *KLINE[1:6], KLINE[6] * 1000 + 999, *KLINE[7:]]
    coarse, fine = (only(Frames(Market.SPOT), kline_frame("BTCUSDT", "1m", one)) for one in (KLINE, slots))

    assert fine.values == coarse.values
    assert fine.values[6] == 1_700_000_099_999_000


def test_trades_are_spots_only() -> None:
    data = {"e": "trade", "E": MS + 1, "s": "BTCUSDT", "t": 3, "p": "1.50", "q": "2", "T": MS, "m": False, "M": True}
    raw = frame("btcusdt@trade", data)
    futures = Frames(Market.UM)

    assert only(Frames(Market.SPOT), raw).values == (3, "1.5", "2", US, 0)
    assert list(futures.read(raw, NOW)) == []
    assert futures.counts == {"unknown": 1}


def test_book_ticker_of_spot_has_no_time_and_that_of_futures_two() -> None:
    data = {"u": 400, "s": "BTCUSDT", "b": "25.35190000", "B": "31.21", "a": "25.36520000", "A": "40.66"}
    timed = {**data, "e": "bookTicker", "E": MS + 1, "T": MS, "ps": "BTCUSDT", "st": 1}
    spot, um = (only(Frames(host), frame("btcusdt@bookTicker", one)) for host, one in
                ((Market.SPOT, data), (Market.UM, timed)))  # fmt: skip

    assert spot.event_us is None
    assert spot.values == (400, "25.3519", "31.21", "25.3652", "40.66", None, None, NOW)
    assert um.values[5:] == (US + 1000, US, NOW)


def test_mark_prices_of_all_symbols_are_one_frame_of_both_markets() -> None:
    rows = [
        {"e": "markPriceUpdate", "E": MS, "s": "BTCUSDT", "p": "11794.15", "ap": "1.0", "i": "11784.6", "P": "11784.2",
         "r": "-0.00038167", "T": MS + 5000, "st": 1},
        {"e": "markPriceUpdate", "E": MS, "s": "BTCUSD_261225", "p": "11000", "P": "11784.2", "i": "11000.5", "r": "",
         "T": 0, "st": 2},
        {"e": "markPriceUpdate", "E": MS, "s": "TSLAUSDT", "p": "400.5", "P": "", "i": "", "r": "0.00000000", "T": 0},
    ]  # fmt: skip
    found = Frames(Market.UM).read(frame("!markPrice@arr@1s", rows), NOW)

    assert [(record.series.market, record.values) for record in found] == [  # type: ignore[union-attr]
        ("um", (US, "11794.15", "11784.6", "11784.2", "-0.00038167", US + 5_000_000)),
        ("cm", (US, "11000", "11000.5", "11784.2", None, None)),
        ("um", (US, "400.5", None, None, None, None)),
    ]


@pytest.mark.parametrize("stream", ["btcusdt@forceOrder", "!forceOrder@arr"])
def test_liquidation(stream: str) -> None:
    order = {"s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910", "ap": "9910.0",
             "X": "FILLED", "l": "0.014", "z": "0.014", "T": MS}  # fmt: skip
    record = only(Frames(Market.UM), frame(stream, {"e": "forceOrder", "E": MS + 1, "o": order, "st": 1}))

    assert record.series == Series("um", "liquidations", "BTCUSDT")
    assert record.values == (
        US + 1000, "SELL", "LIMIT", "IOC", "0.014", "9910", "9910", "FILLED", "0.014", "0.014", US,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"result":null,"id":1}', Reply(1, "")),
        (b'{"result":["btcusdt@trade"],"id":"x"}', Reply("x", "")),
        (b'{"code":2,"msg":"Invalid request: unknown method","id":3}', Reply(3, "2: Invalid request: unknown method")),
        (b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":7}',
         Reply(7, '{"code":4,"msg":"Too many subscriptions"}')),
        (b'{"e":"serverShutdown","E":1700000000099}', Shutdown(US)),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1700000000099}}', Shutdown(NOW)),
    ],
)  # fmt: skip
def test_what_is_no_data(raw: bytes, found: Any) -> None:
    assert Frames(Market.SPOT).read(raw, NOW) == found


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"stream":"btcusdt@aggTrade"',
        b'{"stream":"btcusdt@aggTrade","data":1}',
        b'{"stream":5,"data":{}}', b"[" * 5000, b'{"stream":"\xff@trade","data":{}}',
        agg_trade_frame("BTCUSDT", 9, p="1e5000"), agg_trade_frame("BTCUSDT", 9, p="NaN"),
        agg_trade_frame("BTCUSDT", 9, p=1.5), agg_trade_frame("BTCUSDT", 9, a="9"),
        agg_trade_frame("BTCUSDT", 9, T=-1), agg_trade_frame("BTCUSDT", 9, T=5),
        agg_trade_frame("BTC'; DROP TABLE", 9), agg_trade_frame("", 9), agg_trade_frame("btcusdt", 9),
        agg_trade_frame("BTCUSDT", 2**70),
        kline_frame("BTCUSDT", "1m", KLINE, i="7m"), kline_frame("BTCUSDT", "1m", [KLINE[0] + 1, *KLINE[1:]]),
        kline_frame("BTCUSDT", "1m", [*KLINE[:6], KLINE[6] + 60_000, *KLINE[7:]]),
        kline_frame("BTCUSDT", "1m", KLINE, n=-1), kline_frame("BTCUSDT", "1m", KLINE, o=None),
    ],
)  # fmt: skip
def test_malformed_frames_are_counted(raw: bytes) -> None:
    frames = Frames(Market.SPOT)

    assert list(frames.read(raw, NOW)) == []
    assert frames.counts == {"malformed": 1}


@pytest.mark.parametrize(
    "raw",
    [b"{}", frame("btcusdt@depth", {}), frame("!contractInfo", {}), frame("@", {}), frame("btcusdt@markPrice", {}),
     kline_frame("BTCUSDT", "7m", KLINE)],
)  # fmt: skip
def test_unknown_frames_are_counted(raw: bytes) -> None:
    frames = Frames(Market.SPOT)

    assert list(frames.read(raw, NOW)) == []
    assert frames.counts == {"unknown": 1}


def test_odd_frames_are_logged_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    frames = Frames(Market.SPOT)
    for _ in range(150):
        frames.read(b"{", NOW)

    assert [line.args[2] for line in caplog.records if isinstance(line.args, tuple)] == [1, 10, 100]


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: frame("btcusdt@aggTrade", text)))
def test_no_bytes_end_anything(raw: bytes) -> None:
    frames = Frames(Market.SPOT)
    frames.read(raw, NOW)

    assert sum(frames.counts.values()) <= 1


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)),
       st.sampled_from(["E", "s", "a", "p", "q", "f", "l", "T", "m", "M", "nq", "st"]))  # fmt: skip
def test_no_field_ends_anything(value: Any, name: str) -> None:
    Frames(Market.UM).read(agg_trade_frame("BTCUSDT", 9, **{name: value}), NOW)


def test_other_spellings_of_the_same_json_are_read_too() -> None:
    told = json.loads(agg_trade_frame("BTCUSDT", 9))
    turned = json.dumps({"data": told["data"], "stream": told["stream"]}, indent=1).encode()

    assert only(Frames(Market.SPOT), turned).values == only(Frames(Market.SPOT), agg_trade_frame("BTCUSDT", 9)).values
