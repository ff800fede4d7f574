"""What a stream brought → the store: many series in one transaction, with one line of the ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from airflow_provider_binance.errors import StoreError, StoreUnavailableError
from airflow_provider_binance.market import SECOND_US, Market
from airflow_provider_binance.records import (
    Batch,
    CoverageRange,
    LedgerLine,
    Rows,
    Series,
    Source,
    WriteResult,
)
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.stream.buffer import Buffer, Item, Lost
from airflow_provider_binance.stream.claiming import Claiming
from airflow_provider_binance.stream.payloads import Values, columns
from airflow_provider_binance.stream.rows import rows_of

log = logging.getLogger(__name__)

#: What gathers so long, or becomes so much, is written together: on average an event waits half as long. A flush has a
#: price by itself, and one for each series that it has something of, so that half as many cost little more than half.
FLUSH_SECONDS = 0.4
FLUSH_ITEMS = 20_000
#: How often the ledger is told up to where a series of ticks is complete, at least.
CLAIM_US = 5 * SECOND_US
_PAUSE_SECONDS = 1.0
_LEAST_PAUSE_SECONDS = 0.02
_HOUR_SECONDS = 3600


class Writing(NamedTuple):
    """What a flush writes: rows of many series; and, series by series, klines, what is complete, and what was lost."""

    batches: list[Batch]
    many: list[ManyRows]


def writing_of(items: Iterable[Item], line: LedgerLine, now_us: int, claiming: Claiming) -> Writing:
    """What is to be written of these items, which follow those that `claiming` knows.

    What a stream brings is provisional until an archive file confirms it. What it lost is due at once where REST or
    the archive may have it; where only streams do, it is `unavailable`.
    """
    values: dict[Series, list[Values]] = defaultdict(list)
    lost: dict[Series, list[Lost]] = defaultdict(list)
    for item in items:
        if isinstance(item, Lost):
            lost[item.series].append(item)
        else:
            values[item.series].append(item.values)
    alone: dict[str, dict[Series, list[Values]]] = defaultdict(dict)
    for series, rows in values.items():
        alone[series.dataset][series] = rows
    klines = {series: rows_of(series, rows) for series, rows in alone.pop("klines", {}).items()}
    # The columns of these are the same in all markets.
    many = [ManyRows(dataset(name), columns(name, Market.SPOT), rows) for name, rows in alone.items()]
    told = claiming.take(many, lost, now_us)
    batches = []
    for series in sorted({*klines, *told}):
        own, coverage = klines.get(series), told.get(series, [])
        if own is not None:
            coverage += claiming.spans.take(series, own, (), now_us)
        batches.append(_batch(series, own, line, coverage))
    return Writing(batches, many)


def _batch(series: Series, rows: Rows | None, line: LedgerLine, coverage: Sequence[CoverageRange]) -> Batch:
    starts, ends = [known.start_us for known in coverage], [known.end_us for known in coverage]
    if rows is not None:
        starts.append(rows.first_us)
        ends.append(rows.last_us + 1)
    return Batch(dataset(series.dataset), series, min(starts), max(ends), rows, line, coverage)


class Flusher(threading.Thread):
    """Writes what is in `buffer` until that is closed and empty, or `error` happens.

    Args:
        now_us: the server's clock.
        on_room: told after each flush.
        on_commit: told what was committed.
        run_ref: kept in the ledger lines.
    """

    def __init__(
        self,
        buffer: Buffer,
        store: Store,
        now_us: Callable[[], int],
        on_room: Callable[[], None],
        run_ref: str = "",
        on_commit: Callable[[Sequence[Item]], None] = lambda items: None,
    ) -> None:
        super().__init__(name="flush", daemon=True)
        self.counts = WriteResult()
        self.flushes = 0
        self.error: Exception | None = None
        #: Why nothing can be written now, or ''; when something last was, in seconds since the epoch.
        self.hindrance = ""
        self.committed_at: float | None = None
        self._buffer = buffer
        self._store = store
        self._now_us = now_us
        self._on_room = on_room
        self._on_commit = on_commit
        self._run_ref = run_ref
        self._claiming = Claiming(CLAIM_US)
        self._rolled_up = 0.0
        self._stopped = threading.Event()

    def give_up(self) -> None:
        """Try no more where the store is away."""
        self._stopped.set()

    def run(self) -> None:
        """Until there is nothing more."""
        try:
            self._roll_up()
            while items := self._buffer.take(FLUSH_ITEMS):
                begun = time.monotonic()
                self._write(items)
                self._buffer.done()
                self._on_room()
                self._roll_up()
                if not self._buffer.has(FLUSH_ITEMS):
                    time.sleep(max(FLUSH_SECONDS - (time.monotonic() - begun), _LEAST_PAUSE_SECONDS))
            self._write_rest()
        except Exception as error:
            log.exception("flushing ends")
            self.error = error
        finally:
            self._on_room()

    def _write(self, items: Sequence[Item]) -> None:
        now_us = self._now_us()
        line = self._line(now_us)
        writing = writing_of(items, line, now_us, self._claiming)
        if any(writing):
            self._commit(writing, line, items)

    def _roll_up(self) -> None:
        """Once an hour, make one line of the ledger of those that the hour's flushes left."""
        hour = time.time() // _HOUR_SECONDS
        if hour == self._rolled_up:
            return
        try:
            gone = self._store.roll_up()
        except StoreError as error:  # the lines are as good, only more of them
            log.warning("the ledger's lines are not rolled up: %s", error)
            if error.retryable:
                return
        else:
            log.info("rolled up: lines=%d", gone)
        self._rolled_up = hour

    def _write_rest(self) -> None:
        """Tell the ledger what it was not told yet."""
        now_us = self._now_us()
        line = self._line(now_us)
        rest = [_batch(series, None, line, ranges) for series, ranges in self._claiming.rest(now_us).items()]
        if rest:
            self._commit(Writing(rest, []), line, [])

    def _line(self, now_us: int) -> LedgerLine:
        return LedgerLine(Source.STREAM, "stream", now_us, self._run_ref)

    def _commit(self, writing: Writing, line: LedgerLine, items: Sequence[Item]) -> None:
        while True:
            try:
                result = self._store.write_flush(writing.batches, line, writing.many)
            except StoreUnavailableError as error:
                self.hindrance = str(error)
                if self._stopped.wait(_PAUSE_SECONDS):
                    raise
                log.warning("%d events wait for the store: %s", len(self._buffer) + len(items), error)
                continue
            self.counts += result
            self.flushes += 1
            self.hindrance, self.committed_at = "", time.time()
            self._on_commit(items)
            log.info("flushed: rows=%d inserted=%d updated=%d", result.rows_read, result.rows_inserted,
                     result.rows_updated)  # fmt: skip
            return
