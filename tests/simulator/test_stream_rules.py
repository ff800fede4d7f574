"""The rules of connections: pings, lifetime, how fast one may talk and how often connect."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import requests

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.limits import WeightLimiter
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.streams.gate import ATTEMPTS, Gate, MessageCounter
from airflow_provider_binance.simulator.streams.liveliness import Liveliness
from tests.simulator.conftest import NOW
from tests.simulator.listening import listen, recorded

START = to_ms(NOW)
DAY = 86_400_000


@pytest.mark.parametrize(("market", "every", "within"), [("spot", 20_000, 60_000), ("um", 180_000, 600_000)])
def test_pings(market: str, every: int, within: int) -> None:
    """At the market's interval; each wants its own payload back, and unsolicited pongs help nobody."""
    life = Liveliness(market, START, 0.0)
    assert life.ping(START + every - 1, 100.0) is None
    payload = life.ping(START + every, 101.0)
    assert payload == str(START + every).encode()
    assert not life.pong(b"")
    assert not life.is_silent(START + every + within, 200.0)
    assert life.is_silent(START + every + within + 1, 200.0)
    assert life.pong(payload)
    assert not life.is_silent(START + every + within + 1, 200.0)


def test_pings_in_fast_time() -> None:
    """A client has some real time, however fast the simulated one runs."""
    life = Liveliness("spot", START, 0.0)
    assert life.ping(START + 100_000, 0.9) is None
    assert life.ping(START + 110_000, 1.0)
    assert not life.is_silent(START + 10_000_000, 2.9)
    assert life.is_silent(START + 10_000_000, 3.1)


async def test_a_pong_is_asked_for(simulator: Simulator) -> None:
    """A client that answers stays, one that does not is dropped."""
    async with (
        listen(simulator, "spot", "/ws", autoping=False) as mute,
        listen(simulator, "spot", "/ws") as polite,
    ):
        silence = asyncio.create_task(polite.is_silent(20))
        await asyncio.sleep(1.1)
        simulator.set_clock(START + 20_000)
        ping = await mute.socket.receive(timeout=5)
        assert (ping.type, ping.data) == (aiohttp.WSMsgType.PING, str(START + 20_000).encode())
        await asyncio.sleep(2.1)
        simulator.set_clock(START + 81_000)
        while (message := await mute.socket.receive(timeout=5)).type is aiohttp.WSMsgType.PING:
            pass
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "Pong timeout")
        assert not silence.done()
        silence.cancel()
        await asyncio.gather(silence, return_exceptions=True)
    await recorded(simulator, 2)
    records = {record.number: record for record in simulator.connections}
    assert records[min(records)].reason == "Pong timeout"
    assert records[max(records)].pongs >= 1


async def test_a_day_and_no_longer(simulator: Simulator) -> None:
    """After 24 simulated hours the connection is closed, whatever it has to say."""
    async with listen(simulator, "um", "/market/ws") as listener:
        simulator.set_clock(START + DAY - 1)
        assert (await listener.ask("LIST_SUBSCRIPTIONS"))["result"] == []
        simulator.set_clock(START + DAY)
        assert await listener.closed() == 1001


@pytest.mark.parametrize(("market", "path", "most"), [("spot", "/ws", 5), ("um", "/public/ws", 15), ("cm", "/ws", 15)])
async def test_too_many_messages(market: str, path: str, most: int) -> None:
    """So many in a second are answered; one more closes, and the third time an address of spot is banned."""
    with Simulator(seed=1, now=NOW, speed=0) as simulator:
        for _ in range(3):
            async with listen(simulator, market, path) as listener:
                for number in range(most):
                    assert await listener.ask("LIST_SUBSCRIPTIONS", id=number) == {"result": [], "id": number}
                await listener.socket.ping()
                assert await listener.closed() == 1008
        assert {record.reason for record in simulator.connections} == {"Too many requests"}
        base = simulator.settings["BINANCE_SPOT_REST_URL"]
        status = await asyncio.to_thread(lambda: requests.get(f"{base}/api/v3/ping", timeout=5).status_code)
        if market == "spot":
            assert status == 418
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with listen(simulator, market, path):
                    pass
            assert refused.value.status == 418
        else:
            assert status == 200
            async with listen(simulator, market, path):
                pass


def test_messages_are_counted_in_a_sliding_second() -> None:
    """Five, and another five a second later."""
    counter = MessageCounter("spot")
    assert all(counter.takes(each * 100.0) for each in range(5))
    assert not counter.takes(999.0)
    assert MessageCounter("spot").takes(0.0)
    slow = MessageCounter("spot")
    assert all(slow.takes(each * 200.0) for each in range(100))


def test_attempts_to_connect() -> None:
    """300 in five minutes per address and market; the window slides, refused ones count."""
    gate = Gate()
    assert all(gate.admits("a", "spot", float(each)) for each in range(ATTEMPTS))
    assert not gate.admits("a", "spot", 1000.0)
    assert gate.admits("b", "spot", 1000.0)
    assert gate.admits("a", "um", 1000.0)
    assert gate.admits("a", "spot", 301_001.0)
    assert all(Gate(enabled=False).admits("a", "spot", 0.0) for _ in range(2 * ATTEMPTS))


async def test_an_attempt_too_many() -> None:
    """Answered 429 at the handshake."""
    with Simulator(seed=1, now=NOW, speed=0) as simulator:
        gate = simulator.server.streams.gate
        for _ in range(ATTEMPTS):
            gate.admits("127.0.0.1", "spot", simulator.server.streams.pace_ms())
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with listen(simulator, "spot", "/ws"):
                pass
        assert refused.value.status == 429
        simulator.reset_limits()
        async with listen(simulator, "spot", "/ws"):
            pass


def test_a_ban_is_looked_up_for_free() -> None:
    """Without counting as a request."""
    limiter = WeightLimiter()
    assert not limiter.is_banned("a", "spot", START)
    limiter.ban("a", "spot", START)
    assert limiter.is_banned("a", "spot", START)
    assert not limiter.is_banned("a", "spot", START + 120_000)


async def test_events_at_speed() -> None:
    """A clock that runs 300 times as fast: everything comes, in order, once."""
    with Simulator(seed=1, now=NOW, speed=0, limits=False) as simulator:
        end = START + 1_200_000
        streams = [("btcusdt@aggTrade", "a"), ("ethusdt@aggTrade", "a")]
        stories = {
            name: [event[key] for event in simulator.streamed("um", name, START + 1, end)] for name, key in streams
        }
        async with listen(simulator, "um", "/market/stream?streams=" + "/".join(stories)) as listener:
            simulator.set_clock(START, 300)
            received: dict[str, list[int]] = {name: [] for name in stories}
            while any(len(received[name]) < len(stories[name]) for name in stories):
                event = await listener.next()
                received[event["stream"]].append(event["data"]["a"])
    assert {name: ids[: len(stories[name])] for name, ids in received.items()} == stories
