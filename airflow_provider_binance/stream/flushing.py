"""What a stream brought → the store: many series in one transaction, with one line of the ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from airflow_provider_binance.errors import StoreUnavailableError
from airflow_provider_binance.evidence import Evidence, Stretch, hole
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State, WriteResult
from airflow_provider_binance.registry import Dataset, dataset
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.stream.buffer import Buffer, Item, Lost
from airflow_provider_binance.stream.payloads import Values
from airflow_provider_binance.stream.rows import rows_of
from airflow_provider_binance.stream.spans import Spans

log = logging.getLogger(__name__)

#: What gathers so long, or becomes so much, is written together.
FLUSH_SECONDS = 0.25
FLUSH_ITEMS = 20_000
_PAUSE_SECONDS = 1.0
MISSED = "missed by the stream"


def batches_of(items: Iterable[Item], line: LedgerLine, now_us: int, spans: Spans | None = None) -> list[Batch]:
    """What is to be written, series by series: rows, what is complete with them, and what was lost.

    What a stream brings is provisional until an archive file confirms it. What it lost is due at once where REST or
    the archive may have it; where only streams do, it is `unavailable`. `spans` remembers what earlier flushes claimed,
    of which these are the next items.
    """
    spans = spans or Spans()
    values: dict[Series, list[Values]] = defaultdict(list)
    lost: dict[Series, list[Lost]] = defaultdict(list)
    for item in items:
        if isinstance(item, Lost):
            lost[item.series].append(item)
        else:
            values[item.series].append(item.values)
    batches = []
    for series in sorted({*values, *lost}):
        entry, holes = dataset(series.dataset), lost.get(series, [])
        coverage = [_hole(entry, one, now_us) for one in holes]
        rows = rows_of(series, values[series]) if series in values else None
        coverage += spans.take(series, rows, holes, now_us)
        ends = [(known.start_us, known.end_us) for known in coverage]
        if rows is not None:
            ends.append((rows.first_us, rows.last_us + 1))
        start_us, end_us = min(start for start, _ in ends), max(end for _, end in ends)
        batches.append(Batch(entry, series, start_us, end_us, rows, line, coverage))
    return batches


def _hole(entry: Dataset, lost: Lost, now_us: int) -> CoverageRange:
    evidence = Evidence(note=lost.why or MISSED)
    if entry.is_streamed_only or lost.is_for_good:
        return CoverageRange(lost.start_us, lost.end_us, State.UNAVAILABLE, 0, None, None, None, str(evidence), now_us)
    return hole(Stretch(lost.start_us, lost.end_us, evidence), now_us)


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
        self._spans = Spans()
        self._stopped = threading.Event()

    def give_up(self) -> None:
        """Try no more where the store is away."""
        self._stopped.set()

    def run(self) -> None:
        """Until there is nothing more."""
        try:
            while items := self._buffer.take(FLUSH_ITEMS):
                self._write(items)
                self._buffer.done()
                self._on_room()
                if not self._buffer.has(FLUSH_ITEMS):
                    time.sleep(FLUSH_SECONDS)
        except Exception as error:
            log.exception("flushing ends")
            self.error = error
        finally:
            self._on_room()

    def _write(self, items: Sequence[Item]) -> None:
        now_us = self._now_us()
        batches = batches_of(items, LedgerLine(Source.STREAM, "stream", now_us, self._run_ref), now_us, self._spans)
        while True:
            try:
                result = self._store.write_flush(batches, batches[0].line)
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
            log.info("flushed: series=%d rows=%d inserted=%d updated=%d", len(batches), result.rows_read,
                     result.rows_inserted, result.rows_updated)  # fmt: skip
            return
