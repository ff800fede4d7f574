"""A plain websocket client for the tests of the simulator's streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from airflow_provider_binance.simulator.server import Simulator

SECONDS = 20


class Listener:
    """One connection; reads JSON, answers pings."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def next(self, seconds: float = SECONDS) -> Any:
        """The next message; fails when none comes."""
        message = await self.socket.receive(timeout=seconds)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)

    async def take(self, count: int) -> list[Any]:
        """So many messages."""
        return [await self.next() for _ in range(count)]

    async def ask(self, method: str, params: list[Any] | None = None, id: Any = 1) -> Any:
        """Send a request and give its answer, which comes before any event of a still market."""
        request = {"method": method, "id": id} | ({} if params is None else {"params": params})
        await self.socket.send_str(json.dumps(request))
        return await self.next()

    async def closed(self) -> int | None:
        """The close code, once everything before it was read."""
        while True:
            message = await self.socket.receive(timeout=SECONDS)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return self.socket.close_code

    async def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            message = await self.socket.receive(timeout=seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"it said {message}")


@asynccontextmanager
async def listen(simulator: Simulator, market: str, path: str, **options: Any) -> AsyncIterator[Listener]:
    """Connect to a path below the stream host of a market."""
    url = simulator.settings[f"BINANCE_{market.upper()}_STREAM_URL"] + path
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
        yield Listener(socket)


async def recorded(simulator: Simulator, count: int) -> None:
    """Wait until so many connections have ended."""
    for _ in range(200):
        if sum(record.closed_ms is not None for record in simulator.connections) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(simulator.connections)
