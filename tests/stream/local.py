"""A websocket server of some lines that does what a test tells it: what the simulator does not play."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Client(WSListener):
    """What the server knows of one connection."""

    def __init__(self, server: Local, path: str) -> None:
        self.server = server
        self.path = path
        self.said: list[str] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.closed = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.server.clients.append(self)
        self.server.changed.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.said.append(frame.get_payload_as_utf8_text())
        elif frame.msg_type is WSMsgType.PING:
            self.pings += 1
            if self.server.answers_pings:
                transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.PONG:
            self.pongs.append(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        self.server.changed.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = True
        self.server.changed.set()

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.transport.send(WSMsgType.TEXT, frame)


class Local:
    """The server."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.answers_pings = True
        self.refuses = 0
        self.changed = asyncio.Event()
        self.url = ""

    @property
    def open(self) -> list[Client]:
        return [client for client in self.clients if not client.closed]

    def accept(self, request: WSUpgradeRequest) -> Client | None:
        if self.refuses:
            self.refuses -= 1
            return None
        return Client(self, request.path.decode())

    async def until(self, clients: int, *, open_: int | None = None) -> Client:
        """The newest connection, once there were so many, and so many of them are open."""
        async with asyncio.timeout(20):
            while len(self.clients) < clients or (open_ is not None and len(self.open) != open_):
                self.changed.clear()
                await self.changed.wait()
        return self.clients[clients - 1]


@asynccontextmanager
async def local() -> AsyncIterator[Local]:
    """A running server."""
    server = Local()
    listening = await ws_create_server(server.accept, "127.0.0.1", 0, enable_auto_pong=False)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"ws://127.0.0.1:{port}"
    try:
        yield server
    finally:
        for client in server.open:
            client.transport.disconnect(graceful=False)
        listening.close()
