"""From what came to batches, and from the buffer to the store, which may be away for a while."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_provider_binance.errors import StoreError, StoreUnavailableError
from airflow_provider_binance.market import MINUTE_US
from airflow_provider_binance.records import Batch, LedgerLine, Series, Source, State, WriteResult
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.stream import flushing
from airflow_provider_binance.stream.buffer import Buffer, Lost
from airflow_provider_binance.stream.claiming import Claiming
from airflow_provider_binance.stream.flushing import Flusher, writing_of
from airflow_provider_binance.stream.frames import Record

BTC, ETH = (Series("spot", "klines", symbol, "1m") for symbol in ("BTCUSDT", "ETHUSDT"))
T0 = 1_700_000_040_000_000
LINE = LedgerLine(Source.STREAM, "stream", T0)


def at(minute: int) -> int:
    return T0 + minute * MINUTE_US


def kline(series: Series, minute: int) -> Record:
    values = (at(minute), "1", "2", "0.5", "1", "10", at(minute + 1) - 1000, "10", 3, "5", "5")
    return Record(series, at(minute + 1), at(minute + 1), values)


def test_runs_of_klines_are_complete_and_what_was_lost_is_due_at_once() -> None:
    items = [kline(BTC, 5), kline(ETH, 1), kline(BTC, 1), kline(BTC, 2), Lost(BTC, at(3), at(5)), kline(BTC, 6)]
    btc, eth = writing_of(items, LINE, at(9), Claiming()).batches

    assert [(r.start_us, r.end_us, r.state, r.row_count) for r in btc.coverage] == [
        (at(3), at(5), State.UNPUBLISHED, 0), (at(1), at(3), State.COMPLETE, 2), (at(5), at(7), State.COMPLETE, 2),
    ]  # fmt: skip
    assert btc.coverage[0].next_check_at_us is None
    assert "missed by the stream" in btc.coverage[0].evidence
    assert (btc.start_us, btc.end_us) == (at(1), at(7))
    assert btc.rows is not None
    assert list(btc.rows.times_us()) == [at(1), at(2), at(5), at(6)]
    assert (eth.series, [r.row_count for r in eth.coverage]) == (ETH, [1])


def test_what_was_lost_may_come_alone() -> None:
    [batch] = writing_of([Lost(BTC, at(3), at(5))], LINE, at(9), Claiming()).batches

    assert batch.rows is None
    assert (batch.start_us, batch.end_us) == (at(3), at(5))


class Written:
    """Stands where a store stands, and is away as often as it is told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.batches: list[Batch] = []
        self.rolled_up = 0

    def write_flush(self, batches: list[Batch], line: LedgerLine, many: list[ManyRows]) -> WriteResult:
        if self.errors:
            raise self.errors.pop(0)
        self.batches += batches
        return WriteResult(rows_read=len(batches))

    def roll_up(self) -> int:
        self.rolled_up += 1
        return 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(flushing, "FLUSH_SECONDS", 0.01)


def flushed(store: Any, buffer: Buffer) -> Flusher:
    flusher = Flusher(buffer, store, lambda: at(9), lambda: None)
    flusher.start()
    buffer.close()
    flusher.join(20)
    return flusher


def test_a_store_that_is_away_is_waited_for_and_nothing_is_lost() -> None:
    store, buffer = Written(StoreUnavailableError("away"), StoreUnavailableError("away")), Buffer(10)
    buffer.put([kline(BTC, 1), kline(ETH, 1)])
    flusher = flushed(store, buffer)

    assert flusher.error is None
    assert [batch.series for batch in store.batches] == [BTC, ETH]
    assert flusher.counts.rows_read == 2


def test_lines_are_rolled_up_at_the_start_and_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    store, buffer, times = Written(), Buffer(10), iter([3_800.0, 7_000.0, 7_300.0, 7_400.0, 7_500.0])
    now = [3_700.0]
    monkeypatch.setattr(flushing.time, "time", lambda: now[0])
    monkeypatch.setattr(flushing, "FLUSH_ITEMS", 1)
    buffer.put([kline(BTC, minute) for minute in range(1, 5)])
    flusher = Flusher(buffer, store, lambda: at(9), lambda: now.__setitem__(0, next(times)))  # type: ignore[arg-type]
    flusher.start()
    buffer.close()
    flusher.join(20)

    assert flusher.flushes == 4
    assert store.rolled_up == 2


def test_a_store_that_refuses_ends_it() -> None:
    buffer = Buffer(10)
    buffer.put([kline(BTC, 1)])

    assert isinstance(flushed(Written(StoreError("no such table")), buffer).error, StoreError)


def test_waiting_for_a_store_can_be_given_up() -> None:
    buffer = Buffer(10)
    buffer.put([kline(BTC, 1)])
    flusher = Flusher(buffer, Written(*[StoreUnavailableError("away")] * 10_000), lambda: at(9), lambda: None)  # type: ignore[arg-type]
    flusher.start()
    flusher.give_up()
    flusher.join(20)

    assert isinstance(flusher.error, StoreUnavailableError)


def test_a_full_buffer_says_so_and_keeps_what_came() -> None:
    buffer = Buffer(4)

    assert [buffer.put([kline(BTC, minute)]) for minute in range(5)] == [True, True, True, False, False]
    assert not buffer.is_low
    assert len(buffer.take(3)) == 3
    assert buffer.is_low
    assert len(buffer.take(99)) == 2


def test_taking_waits_until_something_comes_or_never_will() -> None:
    buffer, taken = Buffer(4), []
    reader = threading.Thread(target=lambda: taken.extend([buffer.take(9), buffer.take(9)]))
    reader.start()
    buffer.put([kline(BTC, 1)])
    while not taken and len(buffer):
        pass
    buffer.close()
    reader.join(20)

    assert [len(items) for items in taken] == [1, 0]
