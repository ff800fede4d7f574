"""The HTTP server: bytes in, services asked, bytes out, and what faults do to the wire."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from airflow_provider_binance.simulator import sockets
from airflow_provider_binance.simulator.accounts import Accounts, default_account
from airflow_provider_binance.simulator.archive import Archive
from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.limits import WeightLimiter
from airflow_provider_binance.simulator.listing import ARCHIVE_PREFIX, LISTING_PREFIX, ArchiveService
from airflow_provider_binance.simulator.refusals import JSON, refused_by_fault, refused_by_firewall
from airflow_provider_binance.simulator.rest import RestService
from airflow_provider_binance.simulator.streams.routes import Route
from airflow_provider_binance.simulator.streams.service import StreamService
from airflow_provider_binance.simulator.wire import Answer, Request, RequestRecord, json_answer

SWITCHING = 101
CONTROL_PREFIX = "/simulator/"
# The log in memory is for tests; a soak test has the file.
MOST_RECORDS = 200_000
BODY_PIECES = 10


class Server:
    """All services behind one port, with the request log."""

    def __init__(
        self, exchange: Exchange, limiter: WeightLimiter, accounts: Accounts, log_path: Path | None = None
    ) -> None:
        self.exchange = exchange
        self.limiter = limiter
        self.accounts = accounts
        self.faults = Faults(exchange)
        self.archive = Archive(exchange, self.faults.late)
        self.records: list[RequestRecord] = []
        self._count = 0
        # Held while an answer is made, and by whoever changes the simulated world from another thread.
        self.lock = threading.RLock()
        self._rest = RestService(exchange, limiter, accounts, self.faults)
        self._files = ArchiveService(self.archive, self.faults)
        self.streams = StreamService(exchange, limiter, self.faults)
        # Appended to line by line for as long as the server lives.
        self._log_file = None if log_path is None else log_path.open("a", encoding="utf-8")
        # One worker: answers are computed one after another, off the event loop.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="simulator")

    def application(self) -> web.Application:
        """The aiohttp application; every path goes to one handler."""
        application = web.Application(client_max_size=2**20)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    def close(self) -> None:
        """Stop the worker and close the log."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self.streams.close()
        if self._log_file is not None:
            self._log_file.close()

    async def handle(self, http_request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request."""
        raw_path, _, query = http_request.raw_path.partition("?")
        request = Request(
            http_request.method,
            raw_path,
            query,
            tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in http_request.raw_headers),
            await http_request.read(),
            http_request.remote or "",
        )
        loop = asyncio.get_running_loop()
        if request.path.startswith(CONTROL_PREFIX):
            answer = await loop.run_in_executor(self._worker, self._control, request)
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        await asyncio.sleep(self._latency(request))
        hang_seconds = self.faults.number("hang", request)
        if hang_seconds is not None:
            self._record(request, Answer(0, b""))
            await asyncio.sleep(hang_seconds)
            return _drop(http_request)
        if self.faults.take("reset", request):
            self._record(request, Answer(0, b""))
            return _drop(http_request, reset=True)
        route = self.streams.route(request)
        if route is not None:
            return await self._upgrade(http_request, request, route)
        answer = await loop.run_in_executor(self._worker, self._respond, request)
        self._record(request, answer)
        self._finish_headers(request, answer)
        if self.faults.take("truncate", request):
            return await _send_half(http_request, answer)
        slow_seconds = self.faults.number("slow-body", request)
        if slow_seconds is not None:
            return await _send_slowly(http_request, answer, slow_seconds)
        if request.method == "HEAD":
            # aiohttp lets only a streamed response announce a length that it does not send.
            head = web.StreamResponse(status=answer.status, headers=answer.headers)
            await head.prepare(http_request)
            return head
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _upgrade(self, http_request: web.Request, request: Request, route: Route) -> web.StreamResponse:
        """Answer the handshake of a websocket, and serve it."""
        answer = refused_by_fault(self.faults, request) or self.streams.refusal(request, route)
        self._record(request, answer or Answer(SWITCHING, b""))
        if answer is not None:
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        return await self.streams.serve(http_request, request, route)

    def _latency(self, request: Request) -> float:
        """Seconds to wait before the answer."""
        jitter = self.faults.number("jitter", request) or 0.0
        self._count += 1
        # A hash, so that the same requests wait as long in every run.
        share = zlib.crc32(str(self._count).encode()) / 2**32
        return ((self.faults.number("latency", request) or 0.0) + jitter * share) / 1000

    def _finish_headers(self, request: Request, answer: Answer) -> None:
        ahead_seconds = self.faults.number("wrong-date", request) or 0
        now_ms = self.exchange.clock.now_ms() + int(ahead_seconds * 1000)
        answer.headers["Date"] = format_datetime(from_ms(now_ms), usegmt=True)
        if "Retry-After" in answer.headers and self.faults.take("no-retry-after", request):
            del answer.headers["Retry-After"]
        taken = request.header("Accept-Encoding") or ""
        if answer.used_weight is not None and "gzip" in taken and self.faults.take("gzip", request):
            answer.body = gzip.compress(answer.body, compresslevel=1)
            answer.headers["Content-Encoding"] = "gzip"
        if answer.used_weight is not None and self.faults.take("no-weight-header", request):
            answer.headers = {
                name: value for name, value in answer.headers.items() if not name.startswith("x-mbx-used-weight")
            }

    def _respond(self, request: Request) -> Answer:
        with self.lock:
            refused = refused_by_fault(self.faults, request)
            if refused is not None:
                return refused
            if request.path.startswith(ARCHIVE_PREFIX):
                return self._files.respond_file(request)
            if request.path.rstrip("/") == LISTING_PREFIX:
                return self._files.respond_listing(request)
            return refused_by_firewall(request) or self._rest.respond(request)

    def _record(self, request: Request, answer: Answer) -> None:
        record = RequestRecord(
            request.method,
            request.raw_path,
            request.query,
            request.headers,
            answer.status,
            answer.weight,
            answer.used_weight,
            self.exchange.clock.now_ms(),
        )
        self.records.append(record)
        if len(self.records) > MOST_RECORDS:
            del self.records[: MOST_RECORDS // 2]
        if self._log_file is not None:
            self._log_file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
            self._log_file.flush()

    def _control(self, request: Request) -> Answer:
        try:
            with self.lock:
                payload = self._command(request.method, request.path.removeprefix(CONTROL_PREFIX), request.body)
        except (ValueError, KeyError, TypeError) as error:
            return json_answer({"error": str(error)}, JSON, 400)
        return json_answer(payload, JSON, 200 if payload is not None else 404)

    def _command(self, method: str, command: str, body: bytes) -> Any:
        """``GET|DELETE requests``, ``GET connections``, ``GET|POST clock``, ``POST|DELETE faults``,
        ``POST|DELETE accounts``, ``DELETE limits``, ``POST streams``."""
        sent = json.loads(body) if body else {}
        match method, command:
            case "DELETE", "requests":
                self.records.clear()
            case "POST", "clock":
                now = sent.get("now")
                now_ms = self.exchange.clock.now_ms() if now is None else to_ms(now)
                self.exchange.clock.set(now_ms, sent.get("speed"))
            case "POST", "faults":
                faults = sent["fault"]
                for fault in [faults] if isinstance(faults, str) else faults:
                    self.faults.add(fault)
            case "DELETE", "faults":
                self.faults.clear()
            case "POST", "accounts":
                account = default_account(sent["api_key"], sent.get("api_secret"), sent.get("public_key"))
                may_trade, may_withdraw = bool(sent.get("may_trade")), bool(sent.get("may_withdraw"))
                self.accounts.add(replace(account, may_trade=may_trade, may_withdraw=may_withdraw))
            case "DELETE", "accounts":
                self.accounts.remove(sent["api_key"])
            case "DELETE", "limits":
                self.limiter.forgive()
                self.streams.gate.forgive()
            case _:
                return self._show(method, command, sent)
        return {}

    def _show(self, method: str, command: str, sent: dict[str, Any]) -> Any:
        """The commands that change nothing; None for one that there is not."""
        match method, command:
            case "GET", "requests":
                return [record.to_dict() for record in self.records]
            case "GET", "connections":
                return [record.to_dict() for record in self.streams.records]
            case "GET", "clock":
                return {"now": self.exchange.clock.now_ms(), "speed": self.exchange.clock.speed}
            case "POST", "streams":
                span = to_ms(sent["start"]), to_ms(sent["end"])
                return {"events": self.streams.render(sent["market"], sent["streams"], *span)}
        return None


def _drop(http_request: web.Request, *, reset: bool = False) -> web.StreamResponse:
    """Close the connection without an answer; with ``reset`` the peer sees a reset."""
    transport = http_request.transport
    if transport is not None and reset:
        sockets.reset(transport)
    elif transport is not None:
        transport.abort()
    return web.Response()


async def _send_slowly(http_request: web.Request, answer: Answer, seconds: float) -> web.StreamResponse:
    """Send the body in pieces, the last of them when the time is over."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(http_request)
    length = max(1, -(-len(answer.body) // BODY_PIECES))
    for first in range(0, len(answer.body), length):
        await asyncio.sleep(seconds / BODY_PIECES)
        await response.write(answer.body[first : first + length])
    await response.write_eof()
    return response


async def _send_half(http_request: web.Request, answer: Answer) -> web.StreamResponse:
    """Announce the whole body, send half of it and close."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(http_request)
    await response.write(answer.body[: len(answer.body) // 2])
    if http_request.transport is not None:
        http_request.transport.close()
    return response
