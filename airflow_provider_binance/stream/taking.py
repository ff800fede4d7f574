"""What becomes of records that come: judged by their sequences, on to the buffer; what is lacking is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from airflow_provider_binance.market import INTERVALS, SECOND_US
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.mending import Urgency
from airflow_provider_binance.stream.sequences import KeySequence, Verdict

log = logging.getLogger(__name__)

#: A kline whose close did not come so long after its end is asked for: without a trade the stream sends none.
LATE_US = 5 * SECOND_US
#: A hole stays open for late records of overlapping connections for so long.
SETTLE_SECONDS = 5.0


class Taking:
    """The sequences of all series, in the event loop: nothing here waits.

    Args:
        put: takes what is to be written.
        ask: has a window of a series loaded by REST or archive.

    `gaps` counts holes that stayed open, `stale` records that had come before.
    """

    def __init__(self, put: Callable[[Sequence[Item]], None], ask: Callable[[Urgency, Series, int, int], None]) -> None:
        self.gaps = 0
        self.stale = 0
        self._put = put
        self._ask = ask
        self._sequences: dict[Series, KeySequence] = {}
        self._open_since: dict[Series, float] = {}

    def begin(self, series: Series, known: Iterable[CoverageRange], now_us: int) -> None:
        """Begin a series at the kline that is open now; what lies between it and the stored ones is a gap."""
        interval = INTERVALS[series.interval]
        opened = interval.floor(now_us)
        sequence = self._sequences[series] = KeySequence(interval.next_open)
        sequence.pass_over(opened)
        covered_us = _covered_until(known)
        if covered_us is not None and covered_us < opened:
            log.info("behind: %s from=%d to=%d", series, covered_us, opened)
            self._ask(Urgency.REPAIR, series, covered_us, opened)

    def take(self, records: Sequence[Record], at: float) -> None:
        """Judge what a frame brought `at` a time of the loop."""
        fresh = []
        for record in records:
            sequence = self._sequences.get(record.series)
            verdict = sequence.take(record) if sequence is not None else Verdict.STALE
            if verdict is Verdict.STALE:
                self.stale += 1
                continue
            if verdict is Verdict.GAP:
                self._open_since.setdefault(record.series, at)
            fresh.append(record)
        if fresh:
            self._put(fresh)

    def cut(self, cut: Iterable[Series]) -> None:
        """For a moment or longer, no connection was there for these series."""
        for series in cut:
            if (sequence := self._sequences.get(series)) is not None:
                sequence.cut()

    def drop(self, dropped: Iterable[Series]) -> None:
        """These are not streamed any more: what is open is written down now, what still comes of them is stale."""
        for series in dropped:
            if series in self._open_since:
                self._settle(series)
            self._sequences.pop(series, None)

    def ask_late(self, now_us: int) -> None:
        """Have closes fetched that are late."""
        for series, sequence in self._sequences.items():
            first_us = sequence.next_key
            late_us = INTERVALS[series.interval].closed_end(now_us, LATE_US)
            if first_us is not None and first_us < late_us:
                sequence.pass_over(late_us)
                self._ask(Urgency.LIVE, series, first_us, late_us)

    def settle(self, before: float) -> None:
        """Write down the holes that were open before that time of the loop, and have them filled."""
        for series in [series for series, at in self._open_since.items() if at <= before]:
            self._settle(series)

    def _settle(self, series: Series) -> None:
        del self._open_since[series]
        for start_us, end_us in self._sequences[series].settle():
            self.gaps += 1
            log.warning("gap: %s from=%d to=%d", series, start_us, end_us)
            self._put([Lost(series, start_us, end_us)])
            self._ask(Urgency.REPAIR, series, start_us, end_us)


def _covered_until(ranges: Iterable[CoverageRange]) -> int | None:
    """Where what the ledger knows to be there ends."""
    return max((known.end_us for known in ranges if known.state is State.COMPLETE), default=None)
