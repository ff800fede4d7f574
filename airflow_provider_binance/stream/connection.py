"""`Connection`: one websocket, from its handshake to its end. It answers pings and notices when the link is dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Self

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from python_socks import ProxyError

from airflow_provider_binance.stream.pacing import SILENCE_SECONDS, Beat, Heartbeat, Talk
from airflow_provider_binance.stream.ways import refused, spoken, trusted, untrusted

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
_LOOK_SECONDS = 0.5
#: All prices of a market in one frame are some 200 kB.
_MOST_FRAME_BYTES = 8 * 1024 * 1024


class Connection(WSListener):
    """One websocket. `on_text` is called with each message, `on_end` once when nothing comes any more.

    `delivers` and `subscribed`, the names of its streams, are the owner's to set.
    """

    def __init__(
        self,
        on_text: Callable[[Connection, bytes], None],
        on_end: Callable[[Connection], None],
        *,
        messages_a_second: int,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._on_text = on_text
        self._on_end = on_end
        self._silence_seconds = silence_seconds
        self._talk = Talk(messages_a_second)
        self._parts: list[bytes] = []
        self._transport: WSTransport | None = None
        self._watching: asyncio.Task[None] | None = None
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self.delivers = asyncio.Event()
        self.subscribed: set[str] = set()
        self.ended = asyncio.Event()
        #: Why it ended, for the log.
        self.reason = ""

    @classmethod
    async def open(
        cls,
        url: str,
        on_text: Callable[[Connection, bytes], None],
        on_end: Callable[[Connection], None],
        *,
        messages_a_second: int,
        silence_seconds: float = SILENCE_SECONDS,
        proxy: str | None = None,
    ) -> Self:
        """Connect; raises OSError, TimeoutError, picows.WSError, or a BinanceError for a proxy that refuses, and
        for a server that is not trusted."""
        made = cls(on_text, on_end, messages_a_second=messages_a_second, silence_seconds=silence_seconds)
        context = await asyncio.to_thread(trusted) if url.startswith("wss:") or proxy else None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await ws_connect(
                    lambda: made, url, websocket_handshake_timeout=HANDSHAKE_SECONDS, max_redirects=0,
                    max_frame_size=_MOST_FRAME_BYTES, ssl_context=context, proxy=proxy and spoken(proxy),
                    proxy_ssl_context=context if proxy and proxy.startswith("https:") else None,
                )  # fmt: skip
        except ProxyError as error:
            raise refused(url, proxy, error) from None
        except ssl.SSLCertVerificationError as error:
            raise untrusted(url) from error
        except asyncio.CancelledError:
            await made.close()  # it may be there already
            raise
        return made

    # --- what the link says -------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._heartbeat = Heartbeat(self._loop.time(), self._silence_seconds)
        self._watching = self._loop.create_task(self._watch(transport))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came. Pings are answered by picows."""
        self._heartbeat.heard(self._loop.time())
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.CONTINUATION:
            text = frame.get_payload_as_bytes()
            if not frame.fin:
                self._parts.append(text)
                return
            if self._parts:
                text = b"".join([*self._parts, text])
                self._parts.clear()
            self._on_text(self, text)
        elif kind is WSMsgType.CLOSE:
            code, said = frame.get_close_code(), frame.get_close_message()
            self.reason = self.reason or f"closed by the server: {getattr(code, 'value', code)} {said!r}"
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The link is no more."""
        self.reason = self.reason or "the link broke"
        if self._watching is not None:
            self._watching.cancel()
        self.ended.set()
        self._on_end(self)

    # --- what is done with it -----------------------------------------------------------------------------------------

    async def say(self, message: str) -> None:
        """Send a control message, not faster than Binance allows."""
        await asyncio.sleep(self._talk.wait(self._loop.time()))
        if self._transport is not None and not self.ended.is_set():
            self._transport.send(WSMsgType.TEXT, message.encode())

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on: what Binance sends meanwhile waits in its and this machine's buffers."""
        if self._transport is None or self.ended.is_set() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.underlying_transport.pause_reading()
        else:
            self._heartbeat.heard(self._loop.time())  # nothing could be heard
            self._transport.underlying_transport.resume_reading()

    async def close(self, reason: str = "closed here") -> None:
        """End it; nothing comes after this returns."""
        self.reason = self.reason or reason
        if self._transport is None or self.ended.is_set():
            return
        self._transport.send_close(WSCloseCode.OK)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.ended.wait()
        if not self.ended.is_set():
            self._transport.disconnect(graceful=False)
            await self.ended.wait()

    async def _watch(self, transport: WSTransport) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._silence_seconds / 2))
            if self._paused:
                continue
            beat = self._heartbeat.look(self._loop.time())
            if beat is Beat.PING:
                transport.send_ping()
            elif beat is Beat.DEAD:
                self.reason = f"dead: silent for {2 * self._silence_seconds:.0f} s, a ping stayed unanswered"
                transport.disconnect(graceful=False)
