"""One websocket connection: its messages taken, its events sent when their time has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from airflow_provider_binance.simulator.clock import SimulatedClock
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.sockets import reset
from airflow_provider_binance.simulator.streams.gate import MessageCounter
from airflow_provider_binance.simulator.streams.liveliness import Liveliness
from airflow_provider_binance.simulator.streams.records import ConnectionRecord
from airflow_provider_binance.simulator.streams.reel import Reel
from airflow_provider_binance.simulator.streams.session import POLICY, Session
from airflow_provider_binance.simulator.streams.trouble import Trouble

GOING_AWAY, ABNORMAL = 1001, 1006
# More than so many bytes unsent, and the events wait: they are made when they can be sent.
MOST_UNSENT = 2**20
FRAMES_AT_ONCE = 2000
# How long it rests between two looks at the clock, in real seconds.
SHORTEST_REST, LONGEST_REST = 0.005, 0.05
SHORTEST_REEL_US, LONGEST_REEL_US = 1_000_000, 60_000_000

ReelMaker = Callable[["Connection", int, int], "asyncio.Future[Reel]"]


@dataclass(frozen=True)
class Surroundings:
    """What a connection needs of the simulator."""

    clock: SimulatedClock
    make_reel: ReelMaker
    # Says whether one more message may come; and hears of a connection that sent one too many.
    allows: Callable[[MessageCounter], bool]
    strike: Callable[[Connection], None]
    faults: Faults


class Connection:
    """Serves one websocket from its first message to its last."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        session: Session,
        record: ConnectionRecord,
        surroundings: Surroundings,
    ) -> None:
        self.session = session
        self.record = record
        self._socket = socket
        self._transport = transport
        self._around = surroundings
        self._clock = surroundings.clock
        self._messages = MessageCounter(record.market)
        self._life = Liveliness(record.market, record.opened_ms, time.monotonic())
        self._trouble = Trouble(surroundings.faults, record)
        self._sets = 0
        # Everything before this moment has been sent.
        self._until_us = record.opened_ms * 1000
        self._version = 0
        self._reel: Reel | None = None
        self._coming: asyncio.Future[Reel] | None = None

    async def serve(self) -> None:
        """Take messages until the connection ends, by whomever."""
        refused = self.session.refused_at_once()
        if refused is not None:
            await self._reply(refused.text, refused.close)
            return
        sender = asyncio.create_task(self._send())
        try:
            await self._receive()
        finally:
            # One that closes has a last word to say.
            if self.record.closed_by != "server":
                sender.cancel()
            (failure,) = await asyncio.gather(sender, return_exceptions=True)
            code = self._socket.close_code
            by = "client" if code not in (None, ABNORMAL) else "network"
            self.record.close(self._clock.now_ms(), by, code or ABNORMAL, "")
        if isinstance(failure, Exception):
            raise failure

    async def close(self, code: int, reason: str) -> None:
        """End it from the server's side."""
        self.record.close(self._clock.now_ms(), "server", code, reason)
        await self._socket.close(code=code, message=reason.encode())

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.PONG:
                self.record.pongs += 1
                awaited = self._life.pong(bytes(message.data))
                # In fast time the server pings faster than a client may talk.
                if awaited and self._clock.speed > 1:
                    continue
            if not self._around.allows(self._messages):
                self._around.strike(self)
                await self.close(POLICY, "Too many requests")
                return
            if message.type is WSMsgType.PING and not self._is_stalled():
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.TEXT and not self._is_stalled():
                self.record.requests.append(message.data)
                reply = self.session.handle(message.data)
                self.record.streams[:] = self.session.streams
                self._forget_reel()
                await self._reply(reply.text, reply.close)

    async def _reply(self, text: str | None, close: tuple[int, str] | None) -> None:
        if text is not None:
            await self._socket.send_str(text)
        if close is not None:
            await self.close(*close)

    async def _send(self) -> None:
        try:
            while not self._socket.closed and not self._transport.is_closing():
                if not await self._stay_alive():
                    return
                if self._trouble.holds(self._clock.now_ms()):
                    pass
                elif self._is_stalled():
                    self._until_us = max(self._until_us, self._now_us())
                else:
                    await self._send_due()
                await asyncio.sleep(self._rest())
        except ConnectionError:
            # The reader sees the end, too, and records it.
            pass

    async def _stay_alive(self) -> bool:
        now_ms, seconds = self._clock.now_ms(), time.monotonic()
        notice = self._trouble.look(now_ms)
        if notice is not None:
            form = '{{"stream":"!serverShutdown","data":{}}}' if self.session.combined else "{}"
            await self._socket.send_str(form.format(notice))
        if self._trouble.is_reset:
            self.record.close(now_ms, "network", ABNORMAL, "reset")
            reset(self._transport)
            return False
        if self._trouble.is_over(now_ms):
            await self.close(GOING_AWAY, "Server shutdown")
            return False
        if self._life.is_old(now_ms):
            await self.close(GOING_AWAY, "24 hours are over")
            return False
        if self._life.is_silent(now_ms, seconds):
            await self.close(POLICY, "Pong timeout")
            return False
        payload = None if self._is_stalled() else self._life.ping(now_ms, seconds)
        if payload is not None:
            self.record.pings += 1
            await self._socket.ping(payload)
        return True

    async def _send_due(self) -> None:
        if self._sets != self._clock.sets:
            # The clock was set: what is ahead again has not been sent, what lies between is sent now.
            self._sets = self._clock.sets
            self._until_us = min(self._until_us, self._now_us())
            self._forget_reel()
        due_us = self._now_us() + 1
        while self._until_us < due_us and self._transport.get_write_buffer_size() < MOST_UNSENT:
            reel = self._reel
            if reel is None or self._until_us >= reel.stop_us:
                await self._next_reel()
                continue
            first, stop = reel.place(self._until_us), reel.place(due_us)
            until_us = min(due_us, reel.stop_us)
            if stop > first + FRAMES_AT_ONCE:
                # All of one instant go together.
                until_us = reel.times_us[first + FRAMES_AT_ONCE] + 1
                stop = reel.place(until_us)
            self._until_us = until_us
            if stop > first:
                frames = self._trouble.spoiled(reel, first, stop)
                self.record.sent += len(frames)
                if frames and self._trouble.is_cut:
                    self._cut(frames)
                    return
                self._transport.write(b"".join(frames))
                # Let others have a turn.
                await asyncio.sleep(0)

    def _cut(self, frames: list[bytes]) -> None:
        """End in the middle of a frame."""
        self.record.sent -= 1
        self.record.close(self._clock.now_ms(), "network", ABNORMAL, "cut")
        whole, last = b"".join(frames[:-1]), frames[-1]
        self._transport.write(whole + last[: len(last) // 2])
        self._transport.close()

    def _is_stalled(self) -> bool:
        return self._trouble.stalls(self._clock.now_ms())

    async def _next_reel(self) -> None:
        version = self._version
        coming = self._coming or self._ask(self._until_us)
        self._coming = None
        reel = await coming
        if version == self._version and reel.start_us <= self._until_us:
            self._reel = reel
            # Made while this one is sent.
            self._coming = self._ask(reel.stop_us)

    def _ask(self, start_us: int) -> asyncio.Future[Reel]:
        length_us = min(max(int(self._clock.speed * 1_000_000), SHORTEST_REEL_US), LONGEST_REEL_US)
        # Far behind, as after a jump of the clock: in long strides, but not beyond what is due.
        length_us = max(length_us, min(self._now_us() + 1 - start_us, LONGEST_REEL_US))
        return self._around.make_reel(self, start_us, start_us + length_us)

    def _forget_reel(self) -> None:
        self._version += 1
        self._reel = None
        self._coming = None

    def _rest(self) -> float:
        reel = self._reel
        place = None if reel is None else reel.place(self._until_us)
        if reel is None or place is None or place >= len(reel.times_us) or not self._clock.speed:
            return LONGEST_REST if not self._clock.speed else SHORTEST_REST * 4
        seconds = (reel.times_us[place] - self._now_us()) / 1_000_000 / self._clock.speed
        return min(max(seconds, SHORTEST_REST), LONGEST_REST)

    def _now_us(self) -> int:
        return self._clock.now_ms() * 1000
