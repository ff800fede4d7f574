"""Connections over real sockets: kept up through cuts, silence, refusals and announced ends, nothing taken twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream import keeping, subscriptions
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.payloads import Value
from airflow_provider_binance.stream.sequences import Verdict, sequence_of
from airflow_provider_binance.stream.subscriptions import plan
from tests.stream.local import Local, local
from tests.stream.samples import agg_trade_frame

BTC = Series("um", "agg_trades", "BTCUSDT")
SHUTDOWN = b'{"e":"serverShutdown","E":1700000000099}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules in tenths of seconds."""
    monkeypatch.setattr(keeping, "OVERLAP_SECONDS", 0.1)
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.01)


class Kept:
    """A keeper, and what came of it."""

    def __init__(self, server: Local, wanted: Sequence[Series] = (BTC,), **options: Any) -> None:
        self.ids: list[int] = []
        self.verdicts: list[str] = []
        self.cuts = 0
        self.admitted: list[Market] = []
        self.came = asyncio.Event()
        self._sequence = sequence_of(BTC)
        [carried] = plan(wanted)
        self.keeper = Keeper(
            carried, server.url, admit=self.admitted.append, on_records=self.take, on_cut=self.cut,
            **{"silence_seconds": 5.0, **options},
        )  # fmt: skip

    def take(self, records: Sequence[Record]) -> None:
        for record in records:
            verdict = self._sequence.take(record)
            self.verdicts.append(verdict.value)
            if verdict is not Verdict.STALE:
                self.ids.append(int(str(record.values[0])))
        self.came.set()

    def cut(self, carried: object) -> None:
        self.cuts += 1

    async def has(self, *ids: int) -> None:
        async with asyncio.timeout(20):
            while sorted(self.ids) != list(ids):
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def kept(server: Local, **options: Any) -> AsyncIterator[Kept]:
    made = Kept(server, **options)
    running = asyncio.create_task(made.keeper.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.until(len(server.clients), open_=0)


def trades(*ids: int) -> list[bytes]:
    return [agg_trade_frame("BTCUSDT", id_, st=1) for id_ in ids]


async def test_a_connection_carries_its_streams_and_is_closed_with_its_keeper() -> None:
    async with local() as server, kept(server) as made:
        client = await server.until(1)
        client.send(*trades(1, 2, 3))
        await made.has(1, 2, 3)

        assert client.path == "/market/stream?streams=btcusdt@aggTrade"
        assert made.admitted == [Market.UM]
        assert made.keeper.is_live
    assert not made.keeper.is_live


async def test_what_the_url_has_no_room_for_is_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MOST_URL_BYTES", 64)
    wanted = [BTC, Series("um", "agg_trades", "ETHUSDT"), Series("um", "agg_trades", "币安人生USDT")]
    async with local() as server, kept(server, wanted=wanted):
        client = await server.until(1)
        async with asyncio.timeout(20):
            while not client.said:
                server.changed.clear()
                await server.changed.wait()

        [said] = map(json.loads, client.said)
        assert said == {"method": "SUBSCRIBE", "params": ["ethusdt@aggTrade", "币安人生usdt@aggTrade"], "id": 1}


async def test_frames_are_had_as_they_were_sent_with_what_they_say() -> None:
    had: list[tuple[bytes, list[Value]]] = []

    def note(frame: bytes, records: Sequence[Record]) -> None:
        had.append((frame, [record.values[0] for record in records]))

    sent = [*trades(1), b'{"result":null,"id":1}', b"odd", *trades(1, 2)]
    async with local() as server, kept(server, on_frame=note) as made:
        (await server.until(1)).send(*sent)
        await made.has(1, 2)

    one, _, _, again, two = sent
    assert had == [(one, [1]), (again, [1]), (two, [2])]
    assert json.loads(had[0][0])["data"]["p"] == "42000.10000000"


async def test_a_cut_is_told_and_followed_by_another_connection() -> None:
    async with local() as server, kept(server) as made:
        (await server.until(1)).send(*trades(1, 2))
        await made.has(1, 2)
        server.clients[0].transport.disconnect(graceful=False)
        (await server.until(2)).send(*trades(5))
        await made.has(1, 2, 5)

        assert made.cuts == 1
        assert made.verdicts == ["accept", "accept", "gap"]


async def test_refused_attempts_are_made_again_each_admitted() -> None:
    async with local() as server:
        server.refuses = 3
        async with kept(server) as made:
            (await server.until(1)).send(*trades(1))
            await made.has(1)

            assert made.admitted == [Market.UM] * 4
            assert made.cuts == 0


@pytest.mark.parametrize(
    "announce", [SHUTDOWN, b'{"stream":"!serverShutdown","data":' + SHUTDOWN + b"}"], ids=["raw", "combined"]
)
async def test_an_announced_end_is_handed_over_with_overlap(announce: bytes) -> None:
    """The old connection goes on delivering until the new one does; what both bring is taken once."""
    async with local() as server, kept(server) as made:
        old = await server.until(1)
        old.send(*trades(1, 2), announce)
        fresh = await server.until(2)
        old.send(*trades(3, 4))
        fresh.send(*trades(4, 5))
        old.send(*trades(5, 6))
        await made.has(1, 2, 3, 4, 5, 6)
        await server.until(2, open_=1)

        assert old.closed
        assert not fresh.closed
        assert made.cuts == 0


async def test_a_connection_is_replaced_before_it_is_cut() -> None:
    lives = iter([200_000])
    async with local() as server, kept(server, life_us=lambda: next(lives, 10**12)) as made:
        (await server.until(1)).send(*trades(1))
        (await server.until(2)).send(*trades(1, 2))
        await made.has(1, 2)
        await server.until(2, open_=1)

        assert made.cuts == 0
        assert made.keeper.connects == 2


async def test_age_is_told_by_the_events_too() -> None:
    """A clock that runs faster than ours, as the simulator's may, ends a connection sooner."""
    lives = iter([3600 * 10**6])
    async with local() as server, kept(server, life_us=lambda: next(lives, 10**12)) as made:
        client = await server.until(1)
        client.send(*trades(1))
        await made.has(1)
        client.send(agg_trade_frame("BTCUSDT", 2, E=1_700_003_700_000))
        await server.until(2)


async def test_a_new_connection_that_fails_leaves_the_old_one() -> None:
    async with local() as server, kept(server) as made:
        old = await server.until(1)
        old.send(*trades(1), SHUTDOWN)
        fresh = await server.until(2)
        fresh.transport.disconnect(graceful=False)
        third = await server.until(3)
        old.send(*trades(2))
        third.send(*trades(2, 3))
        await made.has(1, 2, 3)
        await server.until(3, open_=1)

        assert not third.closed
        assert made.cuts == 0


async def test_a_dead_link_is_noticed_and_replaced() -> None:
    """It takes frames and answers nothing: no reset, no close, as when a cable is pulled."""
    async with local() as server:
        server.answers_pings = False
        async with kept(server, silence_seconds=0.1) as made:
            client = await server.until(1)
            client.send(*trades(1))
            await server.until(2)

            assert client.pings == 1
            assert made.cuts == 1


async def test_a_quiet_link_that_answers_is_kept() -> None:
    async with local() as server, kept(server, silence_seconds=0.05):
        client = await server.until(1)
        async with asyncio.timeout(20):
            while client.pings < 4:
                server.changed.clear()
                await server.changed.wait()

        assert len(server.clients) == 1


async def test_pings_of_the_server_are_answered_with_their_payload() -> None:
    async with local() as server, kept(server):
        client = await server.until(1)
        client.transport.send_ping(b"1700000000000")
        async with asyncio.timeout(20):
            while not client.pongs:
                server.changed.clear()
                await server.changed.wait()

        assert client.pongs == [b"1700000000000"]


async def test_a_paused_reader_is_not_dead_and_loses_nothing() -> None:
    async with local() as server, kept(server, silence_seconds=0.05) as made:
        client = await server.until(1)
        client.send(*trades(1))
        await made.has(1)
        made.keeper.pause(True)
        client.send(*trades(*range(2, 500)))
        await asyncio.sleep(0.3)
        before = len(made.ids)
        made.keeper.pause(False)
        await made.has(*range(1, 500))

        assert before == 1
        assert len(server.clients) == 1


async def test_messages_in_parts_are_put_together() -> None:
    from picows import WSMsgType

    [whole] = trades(1)
    async with local() as server, kept(server) as made:
        client = await server.until(1)
        client.transport.send(WSMsgType.TEXT, whole[:20], fin=False)
        client.transport.send(WSMsgType.CONTINUATION, whole[20:40], fin=False)
        client.transport.send(WSMsgType.CONTINUATION, whole[40:])
        await made.has(1)
