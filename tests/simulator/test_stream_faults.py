"""What can go wrong with streams: ends of connections, stalls, bursts, and events that are spoiled."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import aiohttp
import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW
from tests.simulator.listening import listen, recorded

START = to_ms(NOW)
LATER = START + 60_000
TRADES = "/ws/btcusdt@trade"


def story(simulator: Simulator, stop: int = LATER, start: int = START) -> list[int]:
    """The ids of spot's trades in ``(start, stop]``."""
    return [event["t"] for event in simulator.streamed("spot", "btcusdt@trade", start + 1, stop + 1)]


async def test_cut_in_mid_frame(simulator: Simulator) -> None:
    """Half a frame arrives, then the connection is gone; the next one lives."""
    simulator.add_fault("stream-cut=30:1@/spot/")
    async with listen(simulator, "spot", TRADES) as listener:
        simulator.set_clock(START + 29_000)
        assert [event["t"] for event in await listener.take(len(story(simulator, START + 29_000)))]
        simulator.set_clock(LATER)
        assert await listener.closed() == 1006
    async with listen(simulator, "spot", TRADES) as listener:
        simulator.set_clock(LATER + 60_000)
        assert (await listener.next())["t"] == story(simulator, LATER + 60_000, LATER)[0]
    await recorded(simulator, 2)
    ends = [(record.closed_by, record.code, record.reason) for record in simulator.connections]
    assert ends == [("network", 1006, "cut"), ("client", 1000, "")]


async def test_reset(simulator: Simulator) -> None:
    """Without a close frame; only the path that was meant."""
    async with (
        listen(simulator, "spot", TRADES) as struck,
        listen(simulator, "spot", "/ws/ethusdt@trade") as spared,
    ):
        simulator.add_fault("stream-reset=0@btcusdt@trade")
        assert await struck.closed() == 1006
        simulator.set_clock(LATER)
        assert (await spared.next())["s"] == "ETHUSDT"


async def test_stall(simulator: Simulator) -> None:
    """The link stays open, nothing comes, no pong either; afterwards the stream goes on with a hole."""
    async with listen(simulator, "spot", TRADES) as listener:
        simulator.add_fault("stream-stall=30:1")
        await asyncio.sleep(0.2)
        await listener.socket.ping(b"there?")
        simulator.set_clock(START + 20_000)
        assert await listener.is_silent()
        simulator.set_clock(LATER)
        received = [event["t"] for event in await listener.take(len(story(simulator, LATER, START + 20_000)))]
        assert received == story(simulator, LATER, START + 20_000)


async def test_burst(simulator: Simulator) -> None:
    """Held back, and then all at once: nothing is lost."""
    async with listen(simulator, "spot", TRADES) as listener:
        simulator.add_fault("stream-burst=30:1")
        await asyncio.sleep(0.2)
        simulator.set_clock(START + 29_000)
        assert await listener.is_silent()
        simulator.set_clock(LATER)
        assert [event["t"] for event in await listener.take(len(story(simulator)))] == story(simulator)


async def test_server_shutdown(simulator: Simulator) -> None:
    """Announced in both shapes, then closed; events go on in between."""
    async with (
        listen(simulator, "spot", TRADES) as raw,
        listen(simulator, "spot", "/stream?streams=btcusdt@trade") as combined,
    ):
        simulator.add_fault("server-shutdown=60")
        assert await raw.next() == {"e": "serverShutdown", "E": START}
        notice = {"e": "serverShutdown", "E": START}
        assert await combined.next() == {"stream": "!serverShutdown", "data": notice}
        simulator.set_clock(LATER - 1000)
        assert [event["t"] for event in await raw.take(3)] == story(simulator)[:3]
        simulator.set_clock(LATER)
        assert await raw.closed() == 1001
        assert await combined.closed() == 1001


async def test_gaps(simulator: Simulator) -> None:
    """Ids in a row are missing, of the stream that was meant, once."""
    simulator.add_fault("stream-gap=3@/btcusdt@trade")
    async with listen(simulator, "spot", "/stream?streams=btcusdt@trade/ethusdt@trade") as listener:
        simulator.set_clock(LATER)
        others = simulator.streamed("spot", "ethusdt@trade", START + 1, LATER + 1)
        events = await listener.take(len(story(simulator)) - 3 + len(others))
        assert await listener.is_silent()
    received = [event["data"]["t"] for event in events if event["stream"] == "btcusdt@trade"]
    assert received == story(simulator)[3:]


@pytest.mark.parametrize("name", ["stream-duplicates", "stream-disorder"])
async def test_duplicates_and_disorder(simulator: Simulator, name: str) -> None:
    """Every tenth event; nothing is lost, and what is wrong can be seen from the ids."""
    simulator.add_fault(name)
    expected = story(simulator)
    count = len(expected) + (len(expected) // 10 if name == "stream-duplicates" else 0)
    async with listen(simulator, "spot", TRADES) as listener:
        simulator.set_clock(LATER)
        received = [event["t"] for event in await listener.take(count)]
        assert await listener.is_silent()
    assert sorted(set(received)) == expected
    steps = {after - before for before, after in pairwise(received)}
    assert steps == ({0, 1} if name == "stream-duplicates" else {-1, 1, 2})


async def test_silent_streams_and_missing_closes(simulator: Simulator) -> None:
    """Acknowledged all the same; of the klines only the closed ones are missing."""
    simulator.add_fault("stream-silent@btcusdt@trade")
    simulator.add_fault("no-close")
    async with listen(simulator, "spot", "/ws") as listener:
        streams = ["btcusdt@trade", "btcusdt@kline_1m"]
        assert await listener.ask("SUBSCRIBE", streams) == {"result": None, "id": 1}
        simulator.set_clock(LATER)
        news = [each for each in simulator.streamed("spot", streams[1], START + 1, LATER + 1) if not each["k"]["x"]]
        assert await listener.take(len(news)) == news
        assert await listener.is_silent()


@pytest.mark.parametrize(("fault", "status"), [("http=503:1@/spot/", 503), ("451=1@/spot/", 451)])
async def test_refused_handshakes(simulator: Simulator, fault: str, status: int) -> None:
    """The faults of requests hold for handshakes."""
    simulator.add_fault(fault)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with listen(simulator, "spot", TRADES):
            pass
    assert refused.value.status == status
    assert [record.status for record in simulator.requests] == [status]


async def test_slow_and_reset_handshakes(simulator: Simulator) -> None:
    """One comes late, one not at all."""
    simulator.add_fault("latency=400:1@/spot/")
    started = time.monotonic()
    async with listen(simulator, "spot", TRADES):
        assert time.monotonic() - started > 0.35
    simulator.add_fault("reset@/spot/")
    with pytest.raises(aiohttp.ClientError):
        async with listen(simulator, "spot", TRADES):
            pass
