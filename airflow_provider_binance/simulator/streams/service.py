"""All websocket connections: handshakes answered, records kept, reels made in a thread of their own."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from aiohttp import web

from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.limits import POOL_OF_MARKET, WeightLimiter
from airflow_provider_binance.simulator.streams import routes
from airflow_provider_binance.simulator.streams.connection import Connection, Surroundings
from airflow_provider_binance.simulator.streams.feed import Feed
from airflow_provider_binance.simulator.streams.gate import Gate, MessageCounter
from airflow_provider_binance.simulator.streams.records import ConnectionRecord
from airflow_provider_binance.simulator.streams.reel import Reel, make_reel
from airflow_provider_binance.simulator.streams.routes import Route
from airflow_provider_binance.simulator.streams.session import Session
from airflow_provider_binance.simulator.wire import Answer, Request

# The log in memory is for tests.
MOST_RECORDS = 100_000
LARGEST_MESSAGE = 2**20
CLOSE_SECONDS = 2.0
TOO_MANY_ATTEMPTS = Answer(429, b"", {"Retry-After": "300"})
BANNED = Answer(418, b"", {"Retry-After": "120"})


class StreamService:
    """Serves the streams of all markets."""

    def __init__(self, exchange: Exchange, limiter: WeightLimiter, faults: Faults) -> None:
        self._exchange = exchange
        self._limiter = limiter
        self._faults = faults
        self._clock = exchange.clock
        self._feed = Feed(exchange)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="streams")
        self._started = time.monotonic()
        self.gate = Gate(enabled=limiter.enabled)
        self.records: list[ConnectionRecord] = []
        self._number = 0

    def close(self) -> None:
        """Stop making events."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def route(request: Request) -> Route | None:
        """What the request asks for, if it is a websocket's."""
        if (request.header("Upgrade") or "").lower() != "websocket":
            return None
        return routes.parse(request.raw_path, request.query)

    def refusal(self, request: Request, route: Route) -> Answer | None:
        """Why this handshake is refused; None lets it in. Each one counts as an attempt."""
        pool, now_ms = POOL_OF_MARKET[route.market], self._clock.now_ms()
        if self._limiter.is_banned(request.remote, pool, now_ms):
            return Answer(BANNED.status, BANNED.body, dict(BANNED.headers))
        if not self.gate.admits(request.remote, route.market, self.pace_ms()):
            return Answer(TOO_MANY_ATTEMPTS.status, TOO_MANY_ATTEMPTS.body, dict(TOO_MANY_ATTEMPTS.headers))
        return None

    async def serve(self, http_request: web.Request, request: Request, route: Route) -> web.StreamResponse:
        """Speak websocket until the connection ends."""
        socket = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=LARGEST_MESSAGE, timeout=CLOSE_SECONDS
        )
        # From here on it hears everything, before the client knows that it is through.
        record = self._new_record(request, route)
        await socket.prepare(http_request)
        session = Session(route.market, combined=route.combined, streams=route.streams)
        surroundings = Surroundings(
            self._clock,
            lambda connection, start_us, stop_us: self._make(route, connection, start_us, stop_us),
            self._allows,
            self._strike,
            self._faults,
        )
        transport = cast("asyncio.Transport", http_request.transport)
        await Connection(socket, transport, session, record, surroundings).serve()
        return socket

    def _new_record(self, request: Request, route: Route) -> ConnectionRecord:
        self._number += 1
        record = ConnectionRecord(
            self._number,
            route.market,
            request.raw_path,
            request.query,
            request.headers,
            request.remote,
            self._clock.now_ms(),
            list(route.streams),
        )
        self.records.append(record)
        if len(self.records) > MOST_RECORDS:
            del self.records[: MOST_RECORDS // 2]
        return record

    def _make(self, route: Route, connection: Connection, start_us: int, stop_us: int) -> asyncio.Future[Reel]:
        # Copied here: the session changes in this thread, the reel is made in another.
        streams, combined = list(connection.session.streams), connection.session.combined
        return asyncio.get_running_loop().run_in_executor(
            self._worker, self._reel, route, streams, combined, start_us, stop_us
        )

    def _reel(self, route: Route, streams: list[str], combined: bool, start_us: int, stop_us: int) -> Reel:
        sources = []
        for text in streams:
            if not route.carries(text):
                continue
            source = self._feed.source(route.market, text, microseconds=route.microseconds)
            if source is not None:
                sources.append((text, source))
        return make_reel(sources, start_us, stop_us, combined=combined)

    def render(self, market: str, streams: list[str], start_ms: int, stop_ms: int) -> int:
        """Make the events of these streams in ``[start_ms, stop_ms)`` beforehand; how many there are."""
        span_us = start_ms * 1000, stop_ms * 1000
        made = self._worker.submit(lambda: sum(self._feed.render(market, each, *span_us) for each in streams))
        return made.result()

    def _allows(self, counter: MessageCounter) -> bool:
        # Real seconds: a client paces itself by its own clock.
        return counter.takes(time.monotonic() * 1000) or not self.gate.enabled

    def _strike(self, connection: Connection) -> None:
        record = connection.record
        if self.gate.strike(record.address, record.market, self.pace_ms()):
            self._limiter.ban(record.address, POOL_OF_MARKET[record.market], self._clock.now_ms())

    def pace_ms(self) -> float:
        """A clock that runs as fast as the simulated one, but never slower than the real one."""
        return (time.monotonic() - self._started) * 1000 * max(1.0, self._clock.speed)
