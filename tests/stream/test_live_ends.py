"""`get_real_time_data` refuses what makes no sense, waits as it is told to, and ends without a trace."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from airflow_provider_binance import stream
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    BufferFullError,
    ConfigError,
    InputError,
    UnknownIntervalError,
    UnknownSymbolError,
)
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.provider import BinanceDataProvider, DataProviderInterface, Gap
from airflow_provider_binance.rest.budget import hold
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.pools import PoolState
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream import keeping, live
from airflow_provider_binance.stream.asking import Asked
from airflow_provider_binance.stream.live import LiveStream
from tests.stream.local import Client, Local, local
from tests.stream.samples import agg_trade_frame

SECONDS = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.05)
    monkeypatch.setattr(live, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(live, "_TICK_SECONDS", 0.02)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(seed=7, symbols=["BTCUSDT", "ETHUSDT", "um:BTCUSDT"], now="2024-06-15T12:30:20Z") as simulator:
        yield simulator


def config(simulator: Simulator, **settings: Any) -> BinanceConfig:
    return BinanceConfig.load(environ=simulator.settings, rate_limit_store="memory://", **settings)


@pytest.mark.parametrize(
    ("symbols", "words", "kind", "said"),
    [
        (["BTCUSTD"], {}, UnknownSymbolError, "unknown symbol 'BTCUSTD' in market spot.* near matches: BTCUSDT"),
        (["*EUR"], {}, UnknownSymbolError, "no symbol that trades in market spot matches '[*]EUR'"),
        (["BTC USDT"], {}, InputError, "'BTC USDT' is no symbol"),
        ([], {}, InputError, r"symbols \[\] is none: give a list of names"),
        ([7], {}, InputError, r"symbols \[7\] is none: give a list of names"),
        (None, {}, InputError, "symbols None is none: give a list of names"),
        (["BTCUSDT"], {"market": "mars"}, InputError, "unknown market 'mars'"),
        (["BTCUSDT"], {"datasets": ["candles"]}, InputError, "no stream of dataset 'candles'; streams: klines"),
        (["BTCUSDT"], {"datasets": []}, InputError, "datasets"),
        (["BTCUSDT"], {"datasets": ["liquidations"]}, InputError, "market spot has no stream of liquidations; it has:"),
        (["BTCUSDT"], {"market": "um", "datasets": ["trades"]}, InputError, "market um has no stream of trades"),
        (["BTCUSDT"], {"datasets": ["klines"]}, InputError, r"klines need intervals, as in intervals=\['1m'\]"),
        (["BTCUSDT"], {"datasets": ["klines"], "intervals": ["7m"]}, UnknownIntervalError, "7m"),
        (["BTCUSDT"], {"intervals": ["1m"]}, InputError, "intervals are for klines, and datasets are trades"),
        (["BTCUSDT"], {"buffer": 0}, InputError, "buffer 0 is none: give the number of records"),
        (["BTCUSDT"], {"buffer": True}, InputError, "buffer True is none"),
        (["BTCUSDT"], {"on_full": "drop"}, InputError, "on_full 'drop' is none: use wait, drop_oldest, raise"),
    ],
)  # fmt: skip
async def test_mistakes_are_refused_before_anything_connects(
    simulator: Simulator, symbols: Any, words: dict[str, Any], kind: type[Exception], said: str
) -> None:
    records = BinanceDataProvider(config=config(simulator)).get_real_time_data(symbols, **words)
    with pytest.raises(kind, match=said):
        await anext(records)

    assert simulator.connections == []
    if kind is not UnknownSymbolError:
        assert simulator.requests == []


async def test_the_extra_is_named_where_it_lacks(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "NEEDED", ("no_such_library",))
    with pytest.raises(ConfigError, match=r"airflow-provider-binance\[stream\]"):
        await anext(BinanceDataProvider(config=config(simulator)).get_real_time_data(["BTCUSDT"]))


def test_the_interface_has_the_same_arguments() -> None:
    own, promised = (
        inspect.signature(kind.get_real_time_data) for kind in (BinanceDataProvider, DataProviderInterface)
    )
    assert own.parameters == promised.parameters
    assert inspect.isasyncgenfunction(BinanceDataProvider.get_real_time_data)


# --- the end ----------------------------------------------------------------------------------------------------------


def busy_threads() -> list[str]:
    """Those of ours; idle ones of the event loop's own pool are its own."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fill")]


def until_closed(simulator: Simulator) -> None:
    deadline = time.monotonic() + SECONDS
    while not all(one.closed_ms is not None for one in simulator.connections):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["aclose", "cancel", "break"])
async def test_it_ends_without_a_trace(simulator: Simulator, way: str) -> None:
    simulator.set_clock("2024-06-15T12:30:20Z", 30)
    first = asyncio.Event()

    async def consume() -> None:
        records = BinanceDataProvider(config=config(simulator)).get_real_time_data(["BTCUSDT"])
        async with aclosing(records):
            async for _ in records:
                first.set()
                if way == "break":
                    break

    before = asyncio.all_tasks()
    if way == "aclose":
        records = BinanceDataProvider(config=config(simulator)).get_real_time_data(["BTCUSDT"])
        await anext(records)
        await records.aclose()
    else:
        consuming = asyncio.create_task(consume())
        await first.wait()
        if way == "cancel":
            consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        assert consuming.cancelled() == (way == "cancel")

    assert asyncio.all_tasks() == before
    assert busy_threads() == []
    await asyncio.to_thread(until_closed, simulator)
    assert [one.closed_by for one in simulator.connections] == ["client"]


class HeldStore(MemoryBudgetStore):
    """Binance has told everybody to wait for half a minute."""

    def transact(self, key: str, step: Any) -> Any:
        if key not in self._values:
            self._values[key] = hold(PoolState(), round(time.time() * 1000) + 30_000, 429).to_json()
        return super().transact(key, step)


@pytest.mark.parametrize("where", ["exchangeInfo", "connecting", "budget"])
async def test_it_can_be_cancelled_before_the_first_record(
    simulator: Simulator, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While REST is asked, while a host does not answer, and while the budget has everybody wait."""
    settings = config(simulator)
    if where == "exchangeInfo":
        simulator.add_fault("latency=1000@/exchangeInfo")
    elif where == "connecting":
        simulator.add_fault("http=503:1000@/spot/stream")
    else:
        monkeypatch.setattr("airflow_provider_binance.rest.client.open_budget_store", lambda *_: HeldStore())
    before = asyncio.all_tasks()

    consuming = asyncio.ensure_future(anext(BinanceDataProvider(config=settings).get_real_time_data(["BTCUSDT"])))
    await asyncio.sleep(0.5)
    assert not consuming.done()
    consuming.cancel()
    await asyncio.wait([consuming], timeout=SECONDS)

    assert consuming.cancelled()
    assert asyncio.all_tasks() == before
    assert busy_threads() == []
    await asyncio.to_thread(until_closed, simulator)


# --- a slow consumer --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def streamed(simulator: Simulator, **words: Any) -> AsyncIterator[tuple[LiveStream, Local, Client]]:
    """A live stream of um's aggregates, fed by hand."""
    async with local() as server:
        settings = BinanceConfig.load(
            environ={**simulator.settings, "BINANCE_UM_STREAM_URL": server.url}, rate_limit_store="memory://"
        )
        asked = Asked.parse(
            ["BTCUSDT"], "um", None, None, **{"fill_gaps": True, "buffer": 100, "on_full": "wait", **words}
        )
        opened = await LiveStream.open(settings, asked)
        try:
            yield opened, server, await server.until(1)
        finally:
            await opened.close()


def send(client: Client, *ids: int) -> None:
    client.send(*(agg_trade_frame("BTCUSDT", id_, st=1) for id_ in ids))


async def told(opened: LiveStream, count: int) -> list[Any]:
    """Ids, and gaps as `(first, last, cause)`."""
    found: list[Any] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            record: Any = await opened.take()
            found.append(
                (record.first_id, record.last_id, record.cause) if isinstance(record, Gap) else record.agg_trade_id
            )
    return found


async def settled(opened: LiveStream) -> int:
    """How many wait, once nothing more comes."""
    before, now = -1, 0
    while before != now or not now:
        await asyncio.sleep(0.2)
        before, now = now, len(opened._outbox)
    return now


async def test_wait_stops_reading_and_loses_nothing(simulator: Simulator) -> None:
    """13 MB are more than all buffers on the way take: the server sees that nobody reads."""
    count = 70_000
    async with streamed(simulator, on_full="wait") as (opened, _, client):
        for first in range(0, count, 1000):
            send(client, *range(first, first + 1000))
        waiting = await settled(opened)
        unsent = client.transport.underlying_transport.get_write_buffer_size()
        found = await told(opened, count)

    assert found == list(range(count))
    assert waiting < 5_000  # what one read of the socket brings
    assert unsent > 0


async def test_drop_oldest_tells_what_it_dropped(simulator: Simulator) -> None:
    async with streamed(simulator, on_full="drop_oldest") as (opened, _, client):
        send(client, *range(1, 1001))
        assert await settled(opened) == 100
        found = await told(opened, 101)
        send(client, 1001)
        found += await told(opened, 1)

    assert found == [(1, 900, Cause.BUFFER_FULL), *range(901, 1002)]


async def test_raise_ends_after_what_waits(simulator: Simulator) -> None:
    async with streamed(simulator, on_full="raise") as (opened, server, client):
        send(client, *range(1, 1001))
        assert await settled(opened) == 101
        found = await told(opened, 101)
        with pytest.raises(BufferFullError, match="100 records wait to be taken") as caught:
            await told(opened, 1)
        await server.until(1, open_=0)

    assert found == list(range(1, 102))
    assert caught.value.retryable


async def test_a_quick_consumer_never_fills_the_buffer(simulator: Simulator) -> None:
    async with streamed(simulator, on_full="raise", buffer=50) as (opened, _, client):
        found = []
        for first in range(1, 1001, 40):
            send(client, *range(first, first + 40))
            found += await told(opened, 40)

    assert found == list(range(1, 1001))


async def test_what_waits_for_rest_is_bounded(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole that REST does not fill in time is told, and what had to wait goes on: more than the buffer has."""
    simulator.add_fault("latency=4000:50@/fapi/v1/aggTrades")
    async with streamed(simulator, on_full="raise") as (opened, _, client):
        send(client, 1, *range(10, 1010))
        async with asyncio.timeout(SECONDS):
            while opened._held.count < 1000:
                assert len(opened._outbox) <= 1
                await asyncio.sleep(0.02)
        monkeypatch.setattr(live, "MOST_HELD", 300)
        found = await told(opened, 1002)

    assert found == [1, (2, 9, Cause.BUFFER_FULL), *range(10, 1010)]
