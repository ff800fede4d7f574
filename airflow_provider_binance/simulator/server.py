"""The simulator in process: a local Binance in a thread, for tests, demos and notebooks."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from airflow_provider_binance.simulator.accounts import DEFAULT_API_SECRET, Account, Accounts, default_account
from airflow_provider_binance.simulator.app import Server
from airflow_provider_binance.simulator.clock import SimulatedClock, to_ms
from airflow_provider_binance.simulator.exchange import SOURCES, Exchange, Hidden
from airflow_provider_binance.simulator.instruments import DEFAULT_SYMBOLS
from airflow_provider_binance.simulator.limits import WeightLimiter
from airflow_provider_binance.simulator.recordings import Recordings
from airflow_provider_binance.simulator.rest_trades import aggregate_rows, trade_rows
from airflow_provider_binance.simulator.streams.feed import Feed
from airflow_provider_binance.simulator.streams.records import ConnectionRecord
from airflow_provider_binance.simulator.streams.routes import PREFIX
from airflow_provider_binance.simulator.synthetic import DEFAULT_TRADES_PER_MINUTE
from airflow_provider_binance.simulator.ticks import Aggregates
from airflow_provider_binance.simulator.wire import RequestRecord

Moment = str | int | datetime

START_TIMEOUT_SECONDS = 10
ARCHIVE_SOURCES = frozenset({"monthly", "daily"})


class Simulator:
    """A local Binance; a context manager that listens while it is open.

    ``symbols`` are words as ``--symbols`` takes them; without any, and without a ``replay`` folder, a few well-known
    ones are there. ``now`` and ``speed`` set the clock, ``limits=False`` counts weight but refuses nothing,
    and exchangeInfo names a limit that nobody reaches. With ``api_public_key`` (PEM text of an RSA or Ed25519 key) the
    account signs by that, in place of the HMAC secret.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        symbols: Sequence[str] | None = None,
        trades_per_minute: int = DEFAULT_TRADES_PER_MINUTE,
        now: Moment | None = None,
        speed: float = 1.0,
        replay: str | os.PathLike[str] | None = None,
        faults: Iterable[str] = (),
        request_log: str | os.PathLike[str] | None = None,
        limits: bool = True,
        api_key: str | None = None,
        api_secret: str | None = None,
        api_public_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        recordings = Recordings(Path(replay)) if replay is not None else None
        if symbols is None:
            symbols = DEFAULT_SYMBOLS if recordings is None else ()
        clock = SimulatedClock(None if now is None else to_ms(now), speed)
        self.api_secret = api_secret or DEFAULT_API_SECRET
        self.account = default_account(api_key, api_secret, api_public_key)
        exchange = Exchange(clock, seed, symbols, recordings, trades_per_minute)
        log_path = None if request_log is None else Path(request_log)
        self.server = Server(exchange, WeightLimiter(enabled=limits), Accounts([self.account]), log_path)
        # The server's own is in the hands of its thread.
        self._feed = Feed(exchange)
        for fault in faults:
            self.server.faults.add(fault)
        self._address = (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="simulator", daemon=True)
        self._thread.start()
        if not started.wait(START_TIMEOUT_SECONDS) or self._loop is None:
            self.server.close()
            host, port = self._address
            raise RuntimeError(f"the simulator could not listen on {host}:{port}: {self._failure}") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self.server.close()

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        runner = web.AppRunner(self.server.application(), access_log=None, shutdown_timeout=1)
        try:
            await runner.setup()
            await web.TCPSite(runner, *self._address).start()
            self._address = (self._address[0], int(runner.addresses[0][1]))
            self._loop = asyncio.get_running_loop()
            started.set()
            await self._stop.wait()
        except OSError as error:
            # Kept for the thread that waits; raised here it would end in nobody's hands.
            self._failure = error
        finally:
            started.set()
            await runner.cleanup()

    @property
    def settings(self) -> dict[str, str]:
        """The endpoint settings of this simulator by environment name."""
        return endpoint_settings(*self._address)

    def env(self) -> dict[str, str]:
        """The process environment with the endpoint settings."""
        return {**os.environ, **self.settings}

    @property
    def api_key(self) -> str:
        """The key of the account that the simulator knows from the start."""
        return self.account.api_key

    @property
    def requests(self) -> list[RequestRecord]:
        """The requests received so far, those to the simulator's own controls left out."""
        return list(self.server.records)

    def clear_requests(self) -> None:
        """Forget the requests received so far, and the connections that have ended."""
        self.server.records.clear()
        connections = self.server.streams.records
        connections[:] = [record for record in connections if record.closed_ms is None]

    @property
    def connections(self) -> list[ConnectionRecord]:
        """The websocket connections so far, those that are open among them; refused ones are in ``requests`` only."""
        return list(self.server.streams.records)

    def now_ms(self) -> int:
        """Simulated milliseconds since the epoch."""
        return self.server.exchange.clock.now_ms()

    def set_clock(self, now: Moment, speed: float | None = None) -> None:
        """Jump to ``now``; the speed stays unless given."""
        with self.server.lock:
            self.server.exchange.clock.set(to_ms(now), speed)

    def add_fault(self, text: str) -> None:
        """Switch a fault on; see :mod:`airflow_provider_binance.simulator.faults`."""
        with self.server.lock:
            self.server.faults.add(text)

    def clear_faults(self) -> None:
        """Switch all faults off and show all hidden rows again."""
        with self.server.lock:
            self.server.faults.clear()

    def reset_limits(self) -> None:
        """Forget all used weight and all bans."""
        with self.server.lock:
            self.server.limiter.forgive()
            self.server.streams.gate.forgive()

    def add_account(self, account: Account) -> None:
        """Let the simulator know one more API key."""
        with self.server.lock:
            self.server.accounts.add(account)

    def remove_account(self, api_key: str) -> None:
        """Revoke an API key: whoever still sends it gets -2015."""
        with self.server.lock:
            self.server.accounts.remove(api_key)

    def truth(self, market: str, symbol: str, interval: str, start: Moment, end: Moment) -> list[list[Any]]:
        """The closed rows that open in ``[start, end)`` and that at least one source shows, as REST prints them."""
        with self.server.lock:
            rows = self.server.exchange.truth(market, symbol, interval, to_ms(start), to_ms(end))
        return [list(row) for row in rows]

    def true_ticks(
        self, market: str, dataset: str, symbol: str, start: Moment, end: Moment, *, microseconds: bool = False
    ) -> list[dict[str, Any]]:
        """The ``trades`` or ``aggTrades`` of ``[start, end)`` up to now, as REST prints them, whatever is hidden.

        Raises:
            ValueError: another dataset, or a symbol that is not synthetic.
        """
        unit_us = 1 if microseconds else 1000
        exchange = self.server.exchange
        with self.server.lock:
            found = exchange.true_ticks(market, dataset, symbol, to_ms(start), to_ms(end))
            instrument = exchange.instruments[market, symbol]
            if isinstance(found, Aggregates):
                return aggregate_rows(instrument, found, unit_us)
            ticks = exchange.ticks(instrument)
            assert ticks is not None
            return trade_rows(ticks, found, unit_us)

    def streamed(
        self, market: str, stream: str, start: Moment, end: Moment, *, microseconds: bool = False
    ) -> list[dict[str, Any]]:
        """The events of a stream that are sent in ``[start, end)``, up to now or not: its story, without any fault.

        Raises:
            ValueError: a stream that stays silent.
        """
        with self.server.lock:
            source = self._feed.source(market, stream, microseconds=microseconds)
            if source is None:
                raise ValueError(f"stream {stream!r} of {market} is silent")
            events = source.between(to_ms(start) * 1000, to_ms(end) * 1000)
        return [json.loads(payload) for payload in events.payloads]

    def render(self, market: str, streams: Sequence[str], start: Moment, end: Moment) -> int:
        """Make the events of ``[start, end)`` of these streams beforehand, so that sending them costs next to nothing.

        Gives their number; they are kept until a halt changes the market.
        """
        return self.server.streams.render(market, list(streams), to_ms(start), to_ms(end))

    def hide(
        self,
        market: str,
        symbol: str,
        interval: str | None,
        start: Moment,
        end: Moment,
        sources: Iterable[str] = ("rest", "archive"),
    ) -> None:
        """Let the rows that open in ``[start, end)`` be missing from ``rest``, ``archive``, ``monthly`` or ``daily``.

        Raises:
            ValueError: a source of another name.
        """
        wanted = set(sources)
        if "archive" in wanted:
            wanted = wanted - {"archive"} | ARCHIVE_SOURCES
        if not wanted <= SOURCES:
            raise ValueError(f"sources are rest, archive, monthly and daily, not {sorted(wanted - SOURCES)}")
        with self.server.lock:
            hidden = Hidden(market, symbol, interval, to_ms(start), to_ms(end), frozenset(wanted))
            self.server.exchange.hide(hidden)


def endpoint_settings(host: str, port: int) -> dict[str, str]:
    """``BINANCE_<FIELD>`` for everything that is served on host and port."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {
        "BINANCE_SPOT_REST_URL": f"http://{place}",
        "BINANCE_UM_REST_URL": f"http://{place}",
        "BINANCE_CM_REST_URL": f"http://{place}",
        "BINANCE_ARCHIVE_URL": f"http://{place}/archive",
        "BINANCE_ARCHIVE_LISTING_URL": f"http://{place}/listing",
        "BINANCE_SPOT_STREAM_URL": f"ws://{place}{PREFIX['spot']}",
        "BINANCE_UM_STREAM_URL": f"ws://{place}{PREFIX['um']}",
        "BINANCE_CM_STREAM_URL": f"ws://{place}{PREFIX['cm']}",
    }
