"""What becomes of records that come: judged by their sequences, on to the buffer; what is lacking is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from airflow_provider_binance.market import INTERVALS, SECOND_US, Market, iso
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import Continuity, dataset
from airflow_provider_binance.stream import sequences
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.mending import Urgency, holes
from airflow_provider_binance.stream.payloads import columns
from airflow_provider_binance.stream.sequences import KeySequence, Verdict, sequence_of

log = logging.getLogger(__name__)

#: A kline whose close did not come so long after its end is asked for: without a trade the stream sends none.
LATE_US = 5 * SECOND_US
#: A hole stays open for late records of overlapping connections for so long.
SETTLE_SECONDS = 5.0
#: Seconds without a trade have klines but no events. They are no gaps: those of so long are asked for at once.
QUIET_US = 60 * SECOND_US
_OFTEN_QUIET = frozenset({"1s"})
#: Who sends nothing for so long after the start is asked by REST what happened before it.
_PATIENCE_US = 30 * SECOND_US

MISSED = "missed by the stream"
WAS_AWAY = "nobody listened"
NO_OTHER_SOURCE = "no other source has it"


_STALE, _GAP = Verdict.STALE, Verdict.GAP  # an enum is asked slowly


@dataclass(slots=True)
class _Line:
    """One series: its state machine, and what stands between it and the buffer.

    `last` was passed on last; `held` came behind a hole that is open. `covered_us`: where the stored ones end;
    `begun_us` is when it was begun, `is_first` until the first record comes. `quiet_us`: where the first quiet second
    is that was not asked for.
    """

    sequence: sequences.Sequence
    place: int
    is_numbered: bool
    begun_us: int
    covered_us: int | None = None
    is_streamed_only: bool = False
    is_first: bool = True
    is_asked: bool = False
    quiet_us: int | None = None
    last: Record | None = None
    held: list[Record] = field(default_factory=list)

    def add_quiet(self, *starts: int) -> None:
        """No event came of these seconds, and of some behind them."""
        known = () if self.quiet_us is None else (self.quiet_us,)
        self.quiet_us = min((*known, *starts), default=None)

    def time_us(self, record: Record) -> int:
        """When the row of a record happened."""
        at_us = record.values[self.place]
        assert isinstance(at_us, int)
        return at_us


class Taking:
    """The sequences of all series, in the event loop: nothing here waits.

    Records that have ids go on in their order: those behind a hole are held until it is filled or settled, so that
    whoever writes them sees each loss where it is.

    Args:
        put: takes what is to be written.
        ask: has a window of a series loaded by REST or archive.

    `gaps` counts holes that stayed open, `unavailable` those among them that nothing can fill, `stale` records that had
    come before.
    """

    def __init__(self, put: Callable[[Sequence[Item]], None], ask: Callable[[Urgency, Series, int, int], None]) -> None:
        self.gaps = 0
        self.unavailable = 0
        self.stale = 0
        self._put = put
        self._ask = ask
        self._lines: dict[Series, _Line] = {}
        self._grids: dict[Series, KeySequence] = {}
        self._open_since: dict[Series, float] = {}

    @property
    def series(self) -> frozenset[Series]:
        """The series that were begun."""
        return frozenset(self._lines)

    def begin(self, series: Series, known: Iterable[CoverageRange], now_us: int) -> None:
        """Begin a series beside what the ledger knows of it: at the kline that is open now, or at the record that comes
        first. What lies between is a gap, and what is missing within the last days is asked for."""
        known = list(known)
        sequence, entry = sequence_of(series), dataset(series.dataset)
        told = {State.COMPLETE, State.UNAVAILABLE} if entry.is_streamed_only else {State.COMPLETE}
        covered_us = max((each.end_us for each in known if each.state in told), default=None)
        place = columns(series.dataset, Market(series.market)).index(entry.time_column)
        is_numbered = entry.continuity is Continuity.ID
        line = self._lines[series] = _Line(sequence, place, is_numbered, now_us, covered_us, entry.is_streamed_only)
        if isinstance(sequence, KeySequence) and series.interval:
            opened = INTERVALS[series.interval].floor(now_us)
            self._grids[series] = sequence
            sequence.pass_over(opened)
            line.covered_us = None
            if covered_us is not None and covered_us < opened:
                self._put([self._lost(Lost(series, covered_us, opened, WAS_AWAY))])
        if line.is_streamed_only:  # what an earlier run received and could not tell of any more
            self._put([self._lost(_gone_for_good(series, *hole, WAS_AWAY)) for hole in holes(known, now_us)])
        self.ask_holes(series, known, now_us)

    def ask_holes(self, series: Series, known: Iterable[CoverageRange], now_us: int) -> None:
        """Have filled what the ledger lacks of the last days."""
        if dataset(series.dataset).is_streamed_only:
            return
        for start_us, end_us in holes(known, now_us):
            log.info("open: %s from=%s to=%s", series, iso(start_us), iso(end_us))
            self._ask(Urgency.REPAIR, series, start_us, end_us)

    def drop(self, dropped: Iterable[Series]) -> None:
        """These are not streamed any more: what is open is written down now, what still comes of them is stale."""
        for series in dropped:
            if series in self._open_since:
                self._release(series)
            self._grids.pop(series, None)
            self._lines.pop(series, None)

    def take(self, records: Sequence[Record], at: float) -> None:
        """Judge what a frame brought `at` a time of the loop."""
        fresh: list[Item] = []
        for record in records:
            line = self._lines.get(record.series)
            verdict = line.sequence.take(record) if line is not None else _STALE
            if line is None or verdict is _STALE:
                self.stale += 1
                continue
            if line.is_first:
                fresh += self._first(record, line)
            if verdict is _GAP:
                if line.is_numbered:
                    self._open_since.setdefault(record.series, at)
                    line.held.append(record)
                    continue
                if record.series in self._grids:
                    self._open_since.setdefault(record.series, at)
                else:
                    fresh += self._gone(record, line)
            elif line.held:
                line.held.append(record)
                if not line.sequence.holes:
                    fresh += self._in_order(record.series, line)
                continue
            line.last = record
            fresh.append(record)
        if fresh:
            self._put(fresh)

    def cut(self, cut: Iterable[Series]) -> None:
        """For a moment or longer, no connection was there for these series."""
        for series in cut:
            if (line := self._lines.get(series)) is not None:
                line.sequence.cut()

    def ask_late(self, now_us: int) -> None:
        """Have fetched what is late: closes of klines, and what lies behind a series that does not begin."""
        for series, grid in self._grids.items():
            first_us = grid.next_key
            late_us = INTERVALS[series.interval].closed_end(now_us, LATE_US)
            if first_us is not None and first_us < late_us:
                grid.pass_over(late_us)
                if series.interval in _OFTEN_QUIET:
                    self._lines[series].add_quiet(first_us)
                else:
                    self._ask(Urgency.LIVE, series, first_us, late_us)
            line = self._lines[series]
            if line.quiet_us is not None and line.quiet_us <= late_us - QUIET_US:
                self._ask(Urgency.LIVE, series, line.quiet_us, late_us)
                line.quiet_us = None
        for series, line in self._lines.items():
            if not line.is_first or line.covered_us is None or line.is_asked or now_us < line.begun_us + _PATIENCE_US:
                continue
            line.is_asked = True
            if line.is_numbered and line.covered_us < line.begun_us:
                self._ask(Urgency.REPAIR, series, line.covered_us, line.begun_us)

    def settle(self, before: float) -> None:
        """Write down the holes that were open before that time of the loop, and have them filled."""
        for series in [series for series, at in self._open_since.items() if at <= before]:
            self._release(series)

    def _release(self, series: Series) -> None:
        """Let go of what stood behind the holes of a series; these are the repair's from now on."""
        del self._open_since[series]
        line = self._lines[series]
        holes = line.sequence.settle()
        if series.interval in _OFTEN_QUIET:
            line.add_quiet(*(start_us for start_us, end_us in holes if end_us - start_us < QUIET_US))
            holes = [hole for hole in holes if hole[1] - hole[0] >= QUIET_US]
        if line.is_numbered:
            items = self._in_order(series, line)
        else:
            items = [self._lost(Lost(series, start_us, end_us, MISSED)) for start_us, end_us in holes]
        if items:
            self._put(items)

    def _in_order(self, series: Series, line: _Line) -> list[Item]:
        """What is held of a series by its ids, and what is still lacking between them."""
        self._open_since.pop(series, None)
        held, line.held = sorted(line.held, key=_id), []
        items: list[Item] = []
        for record in held:
            if line.last is not None and _id(record) != _id(line.last) + 1:
                low_us, high_us = sorted((line.time_us(line.last), line.time_us(record)))
                items.append(self._lost(Lost(series, low_us, high_us + 1, MISSED)))
            items.append(record)
            line.last = record
        return items

    def _gone(self, record: Record, line: _Line) -> list[Item]:
        """What was lost before a record that no other source can tell of."""
        line.sequence.settle()
        if line.last is None:
            return []
        low_us, high_us = line.time_us(line.last) + 1, line.time_us(record)
        if low_us >= high_us:
            return []
        return [self._lost(_gone_for_good(record.series, low_us, high_us, MISSED))]

    def _first(self, record: Record, line: _Line) -> list[Item]:
        """What lies between a series' first record and what was there before.

        Of what only streams bring it is told in any case that something does: a spool may have more of the series than
        the ledger knows.
        """
        line.is_first = False
        at_us = line.time_us(record)
        since_us = at_us if line.covered_us is None else min(line.covered_us, at_us)
        is_behind = since_us < at_us
        if line.is_streamed_only:
            lost = _gone_for_good(record.series, since_us, at_us, WAS_AWAY)
            return [self._lost(lost) if is_behind else lost]
        if is_behind and line.is_numbered:
            return [self._lost(Lost(record.series, since_us, at_us + 1, WAS_AWAY))]
        return []

    def _lost(self, lost: Lost) -> Lost:
        """Count and tell a loss, and have it filled if that can be."""
        self.gaps += 1
        self.unavailable += lost.is_for_good
        log.warning("gap: %s from=%s to=%s for_good=%s: %s", lost.series, iso(lost.start_us), iso(lost.end_us),
                    lost.is_for_good, lost.why)  # fmt: skip
        if not lost.is_for_good:
            self._ask(Urgency.REPAIR, lost.series, lost.start_us, lost.end_us)
        return lost


def _gone_for_good(series: Series, start_us: int, end_us: int, why: str) -> Lost:
    return Lost(series, start_us, end_us, f"{why}; {NO_OTHER_SOURCE}", is_for_good=True)


def _id(record: Record) -> int:
    number = record.values[0]
    assert isinstance(number, int)
    return number
