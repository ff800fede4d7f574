"""Replay of recorded streams: frames byte for byte, when they came, in the order they came, on the routes of today."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from airflow_provider_binance.market import Market
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.stream_recordings import StreamRecordings
from airflow_provider_binance.stream.frames import Frames, Record
from tests.simulator.listening import listen

SPOT_START, UM_START, CM_START = "2024-08-08T23:54:15", "2024-08-08T23:54:16", "2024-08-08T23:54:17"
OLD_SPOT_START, OLD_UM_START = "2021-10-12T00:28:31", "2021-07-22T22:25:40"
UM_OF_2021 = [f"{symbol}usdt" for symbol in ("sushi", "akro", "keep", "ctk")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small recordings of both kinds."""
    hft, cryptofeed = tmp_path / "hft", tmp_path / "cryptofeed"
    hft.mkdir()
    cryptofeed.mkdir()
    trade = '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"s":"BTCUSDT","t":7,"p":"61800.30"}}'
    depth = '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"u":5,"b":[["1","2"]]}}'
    book = '{"lastUpdateId":4,"E":1723161256290,"T":1723161256290,"bids":[["1","2"],["0.5","1"]],"asks":[["3","4"]]}'
    lines = f"1723161255088176367 {book}\n1723161255088176368 {trade}\n1723161255088176369 {depth}\n"
    (hft / "usdm_btcusdt_20240808.gz").write_bytes(gzip.compress(lines.encode()))
    lines = (
        "wss://stream.binance.com:9443/stream?streams=nknusdt@aggTrade/nknusdt@bookTicker <-> 1633998511.15\n"
        '1633998512.5: {"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998512400,"s":"NKNUSDT","a":1}}\n'
    )
    (cryptofeed / "BINANCE.ws.1.0").write_text(lines)
    url = "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000"
    (cryptofeed / "BINANCE.http.0.0").write_text(f'{url} -> 1633998512.32: {{"lastUpdateId":3,"bids":[],"asks":[]}}\n')
    return tmp_path


def test_what_there_is(folder: Path) -> None:
    """Times are the exchange's: no event before its ``E``, the pauses as recorded, no two at one instant."""
    recorded = StreamRecordings(folder)
    assert recorded.first_times() == {("um", "BTCUSDT"): 1723161255088, ("spot", "NKNUSDT"): 1633998512500}
    assert recorded.names("um") == ["btcusdt@depth@0ms", "btcusdt@trade"]
    trade, depth = (recorded.frames("um", name) for name in ("btcusdt@trade", "btcusdt@depth@0ms"))
    assert trade is not None
    assert depth is not None
    assert trade.times_us == [1723161256322000]
    assert depth.times_us == [1723161256322001]
    assert trade.payloads == ['{"e":"trade","E":1723161256322,"s":"BTCUSDT","t":7,"p":"61800.30"}']
    # This recorder was behind its events, not ahead.
    spot = recorded.frames("spot", "nknusdt@aggTrade")
    assert spot is not None
    assert spot.times_us == [1633998512500000]
    assert recorded.frames("spot", "btcusdt@trade") is None
    book = recorded.book("um", "BTCUSDT", 0)
    assert book is not None
    assert book["lastUpdateId"] == 4
    assert recorded.book("um", "BTCUSDT", trade.times_us[0] + 2) is None
    assert recorded.book("spot", "BTCUSDT", 0) is None


async def test_served(folder: Path) -> None:
    """Over sockets by the path of its kind, and the book beside it; nothing after its end."""
    with Simulator(replay=folder, now="2024-08-08T23:54:16", speed=0) as simulator:
        async with (
            heard(simulator, "um", "/public/stream?streams=btcusdt@depth@0ms/btcusdt@trade") as public,
            listen(simulator, "um", "/market/stream?streams=btcusdt@trade") as market,
            listen(simulator, "um", "/ws/btcusdt@trade") as old,
        ):
            simulator.set_clock("2024-08-08T23:54:20")
            assert [json.loads(await anext(public))["stream"] for _ in range(2)] == [
                "btcusdt@trade",
                "btcusdt@depth@0ms",
            ]
            assert (await old.next())["t"] == 7
            assert await market.is_silent()
        assert [each["t"] for each in simulator.streamed("um", "btcusdt@trade", "2024-08-08", "2024-08-09")] == [7]


def test_a_line_that_is_none(tmp_path: Path) -> None:
    """A folder without recordings, and lines of something else, are refused by name."""
    with pytest.raises(ValueError, match="no recorded klines or streams below"):
        Simulator(replay=tmp_path)
    (tmp_path / "cryptofeed").mkdir()
    (tmp_path / "cryptofeed" / "BINANCE.ws.1.0").write_text("nonsense\n")
    with pytest.raises(ValueError, match="its first line is no address"):
        Simulator(replay=tmp_path)


@asynccontextmanager
async def heard(simulator: Simulator, market: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The frames of a connection as bytes."""

    async def frames(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[bytes]:
        while True:
            message = await socket.receive(timeout=30)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            yield message.data.encode()

    url = simulator.settings[f"BINANCE_{market.upper()}_STREAM_URL"] + path
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        yield frames(socket)


def recorded_frames(paths: list[Path]) -> list[bytes]:
    """The frames of files, read in the plainest way."""
    found = []
    for path in paths:
        with gzip.open(path, "rb") as file:
            lines = file.read().splitlines()
        found += [line[line.index(b'{"stream"') :] for line in lines if b'{"stream":"' in line]
    return found


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("market", "path", "start", "names", "counts"),
    [
        ("spot", "/stream?streams=", SPOT_START, ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"],
         (3451 + 3044, 28040 + 45134, 9757 + 10147)),
        pytest.param(
            "um", "/public/stream?streams=", UM_START, ["btcusdt@depth@0ms", "btcusdt@bookTicker", "btcusdt@trade"],
            (6551, 66089, 21313), marks=pytest.mark.soak
        ),
        ("cm", "/stream?streams=", CM_START, [f"btcusd_perp@{each}" for each in ("depth@0ms", "bookTicker", "trade")],
         (26847, 19136, 2286)),
    ],
)  # fmt: skip
async def test_minutes_of_2024(
    realdata: Path, market: str, path: str, start: str, names: list[str], counts: tuple[int, ...]
) -> None:
    """Every frame of the recording in its order and to the last byte, and our own reader makes a record of each."""
    paths = sorted((realdata / "streams" / "hft").glob(f"{'usdm' if market == 'um' else market}_*.gz"))
    expected = recorded_frames(paths)
    assert len(expected) == sum(counts)
    reader = Frames(Market(market))
    received = []
    records: Counter[str] = Counter()
    with Simulator(replay=realdata / "streams", now=start, speed=0) as simulator:
        async with heard(simulator, market, path + "/".join(names)) as frames:
            simulator.set_clock("2024-08-09T00:05:30")
            async for frame in frames:
                received.append(frame)
                records.update(each.series.dataset for each in reader.read(frame, 1) if isinstance(each, Record))
                if len(received) == len(expected):
                    break
    assert received == expected
    depth, books, trades = counts
    # The books of changes and futures' single trades have no records here.
    told = {"book_tickers": books, "trades": trades} if market == "spot" else {"book_tickers": books}
    assert records == told
    assert reader.counts["malformed"] == 0
    assert reader.counts["unknown"] == depth + (0 if market == "spot" else trades)


@pytest.mark.realdata
async def test_a_book_of_2024(realdata: Path) -> None:
    """The recorded snapshot and the changes after it chain, as a client with a local book demands."""
    with Simulator(replay=realdata, now=SPOT_START, speed=0) as simulator:
        url = simulator.settings["BINANCE_SPOT_REST_URL"] + "/api/v3/depth?symbol=BTCUSDT&limit=5000"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            book = await answer.json()
        events = simulator.streamed("spot", "btcusdt@depth@100ms", SPOT_START, "2024-08-09T00:05:30")
    assert (book["lastUpdateId"], len(book["bids"])) == (50093239218, 1000)
    fresh = [event for event in events if event["u"] > book["lastUpdateId"]]
    assert fresh[0]["U"] <= book["lastUpdateId"] + 1 <= fresh[0]["u"]
    assert all(before["u"] + 1 == after["U"] for before, after in pairwise(fresh))


@pytest.mark.realdata
async def test_python_binance_hears_2021(realdata: Path) -> None:
    """Its socket manager reads half a minute of four symbols at thirty times the speed: the recording's own counts."""
    from binance.async_client import AsyncClient
    from binance.ws.streams import BinanceSocketManager

    streams = {
        "spot": [f"{symbol}@{kind}" for symbol in ("nknusdt", "blzeth", "lrcbtc", "runeeur")
                 for kind in ("depth@100ms", "bookTicker", "kline_1m", "aggTrade")],
        "public": [f"{symbol}@{kind}" for symbol in UM_OF_2021 for kind in ("depth@100ms", "bookTicker")],
        "market": [f"{symbol}@{kind}" for symbol in UM_OF_2021 for kind in ("aggTrade", "kline_1m")],
    }  # fmt: skip
    expected = {"spot": 177 + 84 + 2 + 2, "public": 764 + 613, "market": 91 + 67}
    heard: dict[str, list[Any]] = defaultdict(list)
    for place, start in (("spot", OLD_SPOT_START), ("public", OLD_UM_START), ("market", OLD_UM_START)):
        with Simulator(replay=realdata / "streams", now=start, speed=0) as simulator:
            client = AsyncClient()
            manager = BinanceSocketManager(client, max_queue_size=100_000)
            manager.STREAM_URL = simulator.settings["BINANCE_SPOT_STREAM_URL"] + "/"
            manager.FSTREAM_URL = simulator.settings["BINANCE_UM_STREAM_URL"] + "/"
            try:
                socket = (
                    manager.multiplex_socket(streams[place])
                    if place == "spot"
                    else manager.futures_multiplex_socket(streams[place], category=place)
                )
                # How long it waits for more before it looks whether it is to end.
                socket.TIMEOUT = 1
                async with socket as receiving:
                    simulator.set_clock(start, 30)
                    heard[place] = [await receiving.recv() for _ in range(expected[place])]
                assert simulator.connections[0].sent == expected[place]
            finally:
                await client.close_connection()
    files = sorted((realdata / "streams" / "cryptofeed").glob("*.ws.*"))
    spot, um = ([json.loads(frame) for frame in recorded_frames([path])] for path in files)
    assert heard["spot"] == spot
    for place in ("public", "market"):
        assert heard[place] == [frame for frame in um if frame["stream"] in streams[place]]
