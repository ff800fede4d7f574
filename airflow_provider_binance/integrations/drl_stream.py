"""`TradeStream`: spot's trades, as Binance sends them, to a callback in a thread of its own.

One thread reads the sockets, another one calls: a callback that takes its time holds up no answer to a ping. Where it
falls behind, reading pauses, and what Binance sends waits in its own buffers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import IngestError, InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.sequences import Verdict, sequence_of
from airflow_provider_binance.stream.subscriptions import Carried, plan

log = logging.getLogger(__name__)

#: Trades that may wait for the callback, and how few must be left before reading goes on.
_MOST_WAITING, _FEW_WAITING = 10_000, 1_000
_END = None


class TradeStream:
    """The trades of `series`, once each, in `callback`, until `stop`.

    Args:
        config: hosts and weight budget.
        series: of spot's trades.
        callback: gets `{"e": "trade", "E", "s", "t", "p", "q", "T", "m", …}`.
        attempts: so many attempts to connect may fail in a row; None: it is tried for ever.
        silence_seconds: a link that said nothing for so long is sent a ping.
    """

    def __init__(
        self,
        config: BinanceConfig,
        series: Sequence[Series],
        callback: Callable[[dict[str, Any]], None],
        *,
        attempts: int | None = None,
        silence_seconds: float = 4.0,
    ) -> None:
        self._config = config
        self._planned = plan(series)
        self._sequences = {one.symbol: sequence_of(one) for one in series}
        self._callback = callback
        self._attempts = attempts
        self._silence_seconds = silence_seconds
        self._tried: dict[int, int] = {}
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._keepers: list[Keeper] = []
        self._is_paused = False
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._guard = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="binance-trades", daemon=True)
        self._caller = threading.Thread(target=self._call, name="binance-trades-callback", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether trades may still come."""
        return self._reader.is_alive()

    def start(self) -> None:
        """Begin; returns at once."""
        self._caller.start()
        self._reader.start()

    def stop(self) -> None:
        """End; the callback is not called any more once this returns, unless it is the callback that calls this."""
        self._stopping.set()
        with self._guard:
            if self._loop is not None and self._running is not None:
                self._loop.call_soon_threadsafe(self._running.cancel)
        for thread in (self._reader, self._caller):
            if thread is not threading.current_thread():
                thread.join()

    # --- the thread that reads ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                asyncio.run(self._keep())
        except Exception:
            log.exception("streaming of trades ends")
        finally:
            with self._guard:
                self._loop = self._running = None
            self._waiting.put(_END)

    async def _keep(self) -> None:
        with self._guard:
            self._loop, self._running = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopping.is_set():
            return
        proxies = self._config.proxies
        with BinanceRest(self._config, priority="live") as rest:
            self._keepers = [
                Keeper(
                    carried, self._config.spot_stream_url, admit=self._admitting(carried.number, rest),
                    on_records=lambda records: None, on_cut=self._cut,
                    on_frame=self._taking(carried.number), proxy=proxies.get("https") or proxies.get("http"),
                    silence_seconds=self._silence_seconds,
                )
                for carried in self._planned
            ]  # fmt: skip
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers:
                    group.create_task(keeper.run())

    def _admitting(self, number: int, rest: BinanceRest) -> Callable[[Market], None]:
        def admit(market: Market) -> None:
            tried = self._tried[number] = self._tried.get(number, 0) + 1
            if self._attempts is not None and tried > self._attempts + 1:
                raise InputError(f"no connection after {tried - 1} attempts (reconnect_attempts={self._attempts})")
            rest.admit_connection(market)

        return admit

    def _taking(self, number: int) -> Callable[[bytes, Sequence[Record]], None]:
        def take(frame: bytes, records: Sequence[Record]) -> None:
            self._tried[number] = 0
            told = json.loads(frame)["data"]
            # The connection asks for microseconds, as the store keeps them; whoever does not ask is sent milliseconds.
            told.update({name: told[name] // 1000 for name in ("E", "T")})
            for record in records:
                if self._sequences[record.series.symbol].take(record) is not Verdict.STALE:
                    self._waiting.put(told)
            if not self._is_paused and self._waiting.qsize() >= _MOST_WAITING:
                self._pause(True)

        return take

    def _cut(self, carried: Carried) -> None:
        for one in carried.streams.values():
            self._sequences[one.symbol].settle()  # what was missed is not waited for

    def _pause(self, paused: bool) -> None:
        self._is_paused = paused
        for keeper in self._keepers:
            keeper.pause(paused)

    # --- the thread that calls ----------------------------------------------------------------------------------------

    def _call(self) -> None:
        while (trade := self._waiting.get()) is not _END and not self._stopping.is_set():
            try:
                self._callback(trade)
            except IngestError as error:
                log.error("the callback failed: %s", error)
            except Exception:
                log.exception("the callback failed at trade %s of %s", trade.get("t"), trade.get("s"))
            if self._is_paused and self._waiting.qsize() <= _FEW_WAITING:
                with self._guard:
                    if self._loop is not None:
                        self._loop.call_soon_threadsafe(self._pause, False)
