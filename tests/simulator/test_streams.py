"""Websocket streams: paths, envelopes, the control protocol, and what stays silent."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.streams.frames import text_frame
from airflow_provider_binance.simulator.streams.session import Session
from tests.simulator.conftest import NOW
from tests.simulator.listening import listen, recorded

LATER = to_ms(NOW) + 60_000
SPOT_FIELDS = {
    "btcusdt@aggTrade": "e E s a p q f l T m M",
    "btcusdt@trade": "e E s t p q T m M",
    "btcusdt@kline_1m": "e E s k",
}
UM_FIELDS = {"btcusdt@aggTrade": "e E s a p q nq f l T m st", "btcusdt@kline_1m": "e E s k"}
CM_FIELDS = {"btcusd_perp@aggTrade": "e E s a p q f l T m st", "btcusd_perp@kline_1m": "e E s k"}


@pytest.mark.parametrize(
    ("market", "path", "stream", "names"),
    [
        *(("spot", "", stream, names) for stream, names in SPOT_FIELDS.items()),
        *(("um", "/market", stream, names) for stream, names in UM_FIELDS.items()),
        *(("cm", "", stream, names) for stream, names in CM_FIELDS.items()),
    ],
)
async def test_raw_and_combined(simulator: Simulator, market: str, path: str, stream: str, names: str) -> None:
    """The same events by either path, with Binance's fields in their order; the envelope names the stream."""
    story = simulator.streamed(market, stream, to_ms(NOW) + 1, LATER + 1)
    async with (
        listen(simulator, market, f"{path}/ws/{stream}") as raw,
        listen(simulator, market, f"{path}/stream?streams={stream}") as combined,
    ):
        simulator.set_clock(LATER)
        events = await raw.take(len(story))
        assert events == story
        assert list(events[0]) == names.split()
        assert await combined.take(len(story)) == [{"stream": stream, "data": event} for event in story]
        assert await raw.is_silent()


def test_fields_of_a_kline(simulator: Simulator) -> None:
    """Inside ``k``, in Binance's order."""
    event = simulator.streamed("spot", "btcusdt@kline_1m", NOW, LATER)[0]
    assert list(event["k"]) == ["t", "T", "s", "i", "f", "L", "o", "c", "h", "l", "v", "n", "x", "q", "V", "Q", "B"]


async def test_several_streams_come_in_order_of_time(simulator: Simulator) -> None:
    """What happened first is told first, whichever stream it is of."""
    streams = ["btcusdt@trade", "ethusdt@trade", "btcusdt@kline_1m", "ethusdt@aggTrade"]
    stories = {stream: simulator.streamed("spot", stream, to_ms(NOW) + 1, LATER + 1) for stream in streams}
    async with listen(simulator, "spot", "/stream?streams=" + "/".join(streams)) as listener:
        simulator.set_clock(LATER)
        events = await listener.take(sum(map(len, stories.values())))
    assert {stream: [each["data"] for each in events if each["stream"] == stream] for stream in streams} == stories
    times = [each["data"]["E"] for each in events]
    assert times == sorted(times)


async def test_microseconds(simulator: Simulator) -> None:
    """On spot on demand: the same events in a finer unit."""
    stream = "btcusdt@trade"
    story = simulator.streamed("spot", stream, to_ms(NOW) + 1, LATER + 1, microseconds=True)
    async with listen(simulator, "spot", f"/ws/{stream}?timeUnit=MICROSECOND") as listener:
        simulator.set_clock(LATER)
        events = await listener.take(len(story))
    assert events == story
    coarse = simulator.streamed("spot", stream, to_ms(NOW) + 1, LATER + 1)
    assert [{**event, "T": event["T"] // 1000, "E": event["E"] // 1000} for event in events] == coarse
    kline = simulator.streamed("spot", "btcusdt@kline_1m", NOW, LATER, microseconds=True)[0]["k"]
    assert kline["T"] - kline["t"] == 59_999_999


async def test_names_in_other_alphabets(simulator: Simulator) -> None:
    """Percent-encoded in the address, as they are in a message."""
    async with listen(simulator, "spot", "/ws/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade") as listener:
        assert (await listener.ask("LIST_SUBSCRIPTIONS"))["result"] == ["币安人生usdt@trade"]
        simulator.set_clock(LATER)
        assert (await listener.next())["s"] == "币安人生USDT"


@pytest.mark.parametrize(
    ("market", "path", "stream"),
    [
        ("spot", "/ws", "nosuch@trade"),
        ("spot", "/ws", "BTCUSDT@trade"),
        ("spot", "/ws", "btcusdt@Trade"),
        ("spot", "/ws", "btcusdt@kline_7m"),
        ("spot", "/ws", "btcusdt@markPrice"),
        ("spot", "/ws", "!bookTicker"),
        ("spot", "/ws", "btcusd_perp@aggTrade"),
        ("um", "/market/ws", "BTCUSDT@aggTrade"),
        ("um", "/market/ws", "btcusdt@trade"),
        ("um", "/market/ws", "btcusdt@kline_1s"),
        ("um", "/market/ws", "btcusd_perp@aggTrade"),
        ("um", "/market/ws", "btcusdt@bookTicker"),
        ("um", "/public/ws", "btcusdt@aggTrade"),
        ("um", "/public/ws", "btcusdt@kline_1m"),
        ("um", "/public/ws", "btcusdt@depth@250ms"),
        ("um", "/private/ws", "btcusdt@aggTrade"),
        ("um", "/ws", "btcusdt@aggTrade"),
        ("um", "/ws", "btcusdt@kline_1m"),
        ("cm", "/ws", "btcusdt@aggTrade"),
    ],
)
async def test_acknowledged_and_silent(simulator: Simulator, market: str, path: str, stream: str) -> None:
    """An acknowledgement says nothing: wrong names, case, intervals and paths are taken like all others."""
    async with listen(simulator, market, path) as listener:
        assert await listener.ask("SUBSCRIBE", [stream], 7) == {"result": None, "id": 7}
        assert await listener.ask("LIST_SUBSCRIPTIONS", id=8) == {"result": [stream], "id": 8}
        simulator.set_clock(LATER)
        assert await listener.is_silent()


@pytest.mark.parametrize(("host", "stream"), [("um", "btcusd_perp@kline_1m"), ("cm", "btcusdt@kline_1m")])
async def test_klines_of_the_other_futures_market(simulator: Simulator, host: str, stream: str) -> None:
    """Since June 2026 either host has them."""
    async with listen(simulator, host, f"{'/market' if host == 'um' else ''}/ws/{stream}") as listener:
        simulator.set_clock(LATER)
        assert (await listener.next())["k"]["i"] == "1m"


async def test_subscribing_and_unsubscribing(simulator: Simulator) -> None:
    """Streams come and go on an open connection, and so does the envelope."""
    async with listen(simulator, "spot", "/ws") as listener:
        assert await listener.ask("SUBSCRIBE", ["btcusdt@trade", "ethusdt@trade"]) == {"result": None, "id": 1}
        simulator.set_clock(to_ms(NOW) + 5_000)
        story = [
            simulator.streamed("spot", stream, to_ms(NOW) + 1, to_ms(NOW) + 5_001)
            for stream in ("btcusdt@trade", "ethusdt@trade")
        ]
        assert {each["s"] for each in await listener.take(sum(map(len, story)))} <= {"BTCUSDT", "ETHUSDT"}
        assert await listener.ask("UNSUBSCRIBE", ["btcusdt@trade", "never@trade"], None) == {"result": None, "id": None}
        assert await listener.ask("SET_PROPERTY", ["combined", True], "abc") == {"result": None, "id": "abc"}
        assert await listener.ask("GET_PROPERTY", ["combined"], -5) == {"result": True, "id": -5}
        simulator.set_clock(LATER)
        story = [simulator.streamed("spot", "ethusdt@trade", to_ms(NOW) + 5_001, LATER + 1)]
        events = await listener.take(len(story[0]))
        assert events == [{"stream": "ethusdt@trade", "data": event} for event in story[0]]
    await recorded(simulator, 1)
    (record,) = simulator.connections
    assert (record.market, record.closed_by, record.code) == ("spot", "client", 1000)
    assert record.streams == ["ethusdt@trade"]
    assert [json.loads(each)["method"] for each in record.requests] == [
        "SUBSCRIBE", "UNSUBSCRIBE", "SET_PROPERTY", "GET_PROPERTY"
    ]  # fmt: skip
    (request,) = simulator.requests
    assert (request.path, request.status) == ("/spot/ws", 101)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('{"method":"SET_PROPERTY","params":["speed",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "Invalid request: property name must be a string"),
        ('{"params":["btcusdt@trade"],"id":1}', 2, "Invalid request: missing field `method`"),
        ('{"method":"LISTEN","id":1}', 2, "Invalid request: unknown variant `LISTEN`, expected one of `SUBSCRIBE`"),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}', 2, "Invalid request: request ID must be"),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":"a b"}', 2, "Invalid request: request ID must be"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "Invalid request: invalid type"),
        ("[1]", 2, "Invalid request: invalid type"),
        ("{nonsense", 3, "Invalid JSON: expected value at line 1 column 2"),
    ],
)
def test_bad_requests(text: str, code: int, message: str) -> None:
    """Spot says what was wrong and goes on; futures wrap it and close."""
    spot = Session("spot", combined=False).handle(text)
    assert spot.close is None
    assert spot.text is not None
    answer = json.loads(spot.text)
    assert answer["code"] == code
    assert answer["msg"].startswith(message)
    um = Session("um", combined=False).handle(text)
    assert um.text is not None
    assert json.loads(um.text)["error"] == {"code": code, "msg": answer["msg"]}
    assert um.close is not None
    assert um.close[0] == 1008


@pytest.mark.parametrize(("market", "path"), [("spot", "/ws"), ("um", "/public/ws"), ("cm", "/ws")])
async def test_too_many_streams(simulator: Simulator, market: str, path: str) -> None:
    """1,024 are taken; with one more the connection is closed."""
    async with listen(simulator, market, path) as listener:
        for first in range(0, 1024, 256):
            streams = [f"s{number}@aggTrade" for number in range(first, first + 256)]
            assert await listener.ask("SUBSCRIBE", streams) == {"result": None, "id": 1}
        answer = await listener.ask("SUBSCRIBE", ["one@more"], 2)
        assert answer["error"] == {"code": 4, "msg": "Too many subscriptions"}
        assert await listener.closed() == 1008
    await recorded(simulator, 1)
    record = simulator.connections[0]
    assert (record.closed_by, record.code, record.reason) == ("server", 1008, "Too many subscriptions")


@pytest.mark.parametrize("path", ["/spot", "/spot/market/ws", "/cm/public/ws", "/ws/btcusdt@trade", "/eapi/ws"])
async def test_no_such_place(simulator: Simulator, path: str) -> None:
    """Where no streams are, there is no handshake."""
    url = simulator.settings["BINANCE_SPOT_REST_URL"] + path
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url)
    assert refused.value.status == 404


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
async def test_frames_of_all_lengths(length: int) -> None:
    """They are read back by somebody else's parser."""
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    reader = StreamReader()
    reader.feed_data(text_frame("x" * length))
    parser: Any = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parser)
    assert parsed.value.value.data == b"x" * length


@pytest.mark.parametrize("path", ["/stream?streams=", "/ws/"])
async def test_rendered_beforehand(path: str) -> None:
    """What lies ready is what would be made, within its stretch and beyond it; silent streams have nothing."""
    streams = ["btcusdt@trade", "ethusdt@aggTrade", "nosuch@trade"]
    with Simulator(seed=1, now=NOW, speed=0, limits=False) as simulator:
        url = simulator.settings["BINANCE_SPOT_REST_URL"] + "/simulator/streams"
        span = {"start": NOW, "end": to_ms(NOW) + 30_000}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"market": "spot", "streams": streams} | span) as answer,
        ):
            ready = (await answer.json())["events"]
        stories = [simulator.streamed("spot", each, to_ms(NOW) + 1, LATER + 1) for each in streams[:2]]
        assert 0 < ready < sum(map(len, stories))
        async with listen(simulator, "spot", path + "/".join(streams)) as listener:
            simulator.set_clock(to_ms(NOW) + 15_000)
            simulator.set_clock(LATER)
            events = await listener.take(sum(map(len, stories)))
    received = [event.get("data", event) for event in events]
    assert [[each for each in received if each["s"] == symbol] for symbol in ("BTCUSDT", "ETHUSDT")] == stories


@pytest.mark.parametrize(("market", "path"), [("spot", "/ws"), ("um", "/market/ws"), ("cm", "/ws")])
async def test_a_bad_request_on_the_wire(simulator: Simulator, market: str, path: str) -> None:
    """Spot goes on, futures close after it."""
    async with listen(simulator, market, path) as listener:
        answer = await listener.ask("LISTEN", id=3)
        assert (answer["code"] if market == "spot" else answer["error"]["code"], answer["id"]) == (2, 3)
        if market == "spot":
            assert await listener.ask("LIST_SUBSCRIPTIONS", id=4) == {"result": [], "id": 4}
        else:
            assert await listener.closed() == 1008


@pytest.mark.parametrize(("market", "path"), [("um", "/market"), ("cm", "")])
async def test_futures_have_no_microseconds(simulator: Simulator, market: str, path: str) -> None:
    """They take the parameter and go on in milliseconds."""
    stream = "btcusdt@aggTrade" if market == "um" else "btcusd_perp@aggTrade"
    story = simulator.streamed(market, stream, to_ms(NOW) + 1, LATER + 1)
    async with listen(simulator, market, f"{path}/ws/{stream}?timeUnit=MICROSECOND") as listener:
        simulator.set_clock(LATER)
        assert await listener.take(len(story)) == story
