"""`SqlIdInspector`: the rows of a series of ids beside its ledger, counted day by day and looked at where that differs.

A day whose count, first and last id agree with the ledger is sound, and one pass over its rows tells so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from airflow_provider_binance.market import INTERVALS, Interval, Market
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import Continuity, Dataset
from airflow_provider_binance.store.id_runs import Examined, examine
from airflow_provider_binance.store.inspection import Held
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_read import SqlReader

#: Breaks told one by one of a day: behind those the rest of the day counts as one run.
_MOST_BREAKS = 10_000

Span = tuple[int, int]


@dataclass(slots=True)
class IdLook:
    """What a look at the rows of a window tells; see `Audit`."""

    islands: list[Span] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    lacking: list[Held] = field(default_factory=list)
    misplaced: list[Held] = field(default_factory=list)
    counted: list[Held] = field(default_factory=list)
    rows: int = 0


class SqlIdInspector(SqlReader):
    """Looks at series of ids."""

    @abstractmethod
    def _bucket(self, time: str, interval: Interval) -> str:
        """The open time of the kline of `interval` that contains `time`."""

    @abstractmethod
    def _is_time(self, value: str) -> str:
        """Whether what a time column says is a time at all."""

    @abstractmethod
    def _is_misdated(self, entry: Dataset) -> str:
        """Whether a row (`d`) lies under another day than its time's."""

    def _look_at_ids(
        self, entry: Dataset, series: Series, series_id: int, ranges: Sequence[CoverageRange], window: Span
    ) -> IdLook:
        look, at = IdLook(), window[0]
        is_contiguous = Market(series.market) in entry.contiguous
        for known in ranges:
            self._look_outside(look, entry, series_id, at, min(known.start_us, window[1]))
            at = max(at, known.end_us)
            # All of it, also where the window has a part: the ledger counts the whole.
            days = self._days(entry, series_id, known.start_us, known.end_us)
            is_dense = is_contiguous and known.state is State.COMPLETE
            runs = [run for day in days for run in (self._runs(entry, series_id, day) if is_dense else [day])]
            if not is_dense:
                runs = list(self._cut(entry, series_id, known, runs))
            examined = examine(known, runs, self._twice(entry, series_id, days), is_contiguous=is_contiguous)
            self._take_down(look, known, days, examined, window)
        self._look_outside(look, entry, series_id, at, window[1])
        return look

    def _look_at_nothing(self, entry: Dataset, ranges: Sequence[CoverageRange], window: Span) -> IdLook:
        """What a look tells where the series has no rows."""
        look = IdLook()
        for known in ranges if entry.continuity is Continuity.ID else ():
            self._take_down(look, known, [], examine(known, [], [], is_contiguous=False), window)
        return look

    def _take_down(
        self, look: IdLook, known: CoverageRange, days: Sequence[Held], examined: Examined, window: Span
    ) -> None:
        lacking, misplaced, counted = examined
        look.rows += sum(day.rows for day in days)
        look.held += days
        look.counted.append(counted)
        # Where only a count tells, what lacks may be anywhere in the range.
        look.lacking += [hole for hole in lacking if hole.first_id is None]
        look.lacking += _clipped((hole for hole in lacking if hole.first_id is not None), window)
        look.misplaced += _clipped(misplaced, window)
        if known.state is State.COMPLETE:
            at = max(known.start_us, window[0])
            for hole in sorted(_clipped(lacking, window)):
                if at < hole.start_us:
                    look.islands.append((at, hole.start_us))
                at = max(at, hole.end_us)
            if at < (end := min(known.end_us, window[1])):
                look.islands.append((at, end))
        elif counted.rows > known.row_count:
            look.islands += [(day.start_us, day.end_us) for day in _clipped(days, window)]

    def _look_outside(self, look: IdLook, entry: Dataset, series_id: int, start_us: int, end_us: int) -> None:
        """Rows of which the ledger says nothing."""
        if start_us >= end_us:
            return
        days = self._days(entry, series_id, start_us, end_us)
        look.rows += sum(day.rows for day in days)
        look.held += days
        look.islands += [(day.start_us, day.end_us) for day in days]

    # --- the questions ------------------------------------------------------------------------------------------------

    def _days(self, entry: Dataset, series_id: int, start_us: int, end_us: int) -> list[Held]:
        """The rows of each day: from when to when they are, how many, and their first and last id."""
        name, time = f"d.{quoted(entry.key[0])}", f"d.{quoted(entry.time_column)}"
        within, bounds = self._between(entry, start_us, end_us)
        lines = self._query(
            f"SELECT {self._us(f'min({time})')}, {self._us(f'max({time})')}, count(*), min({name}), max({name}) "
            f"FROM {self._table(data_table(entry))} d WHERE d.series_id = {series_id} AND {within} "
            f"AND {self._is_time(time)} AND NOT {self._is_misdated(entry)} "
            f"GROUP BY {self._bucket(time, INTERVALS['1d'])} ORDER BY 1",
            bounds,
        )
        return [Held(first_us, last_us + 1, *rest) for first_us, last_us, *rest in lines]

    def _runs(self, entry: Dataset, series_id: int, day: Held) -> Iterator[Held]:
        """The parts of a day whose ids follow one another."""
        assert day.first_id is not None
        assert day.last_id is not None
        if day.last_id - day.first_id + 1 == day.rows:
            yield day
            return
        name, time = f"d.{quoted(entry.key[0])}", f"d.{quoted(entry.time_column)}"
        within, bounds = self._between(entry, day.start_us, day.end_us)
        breaks = self._query(
            f"SELECT before_id, {self._us('before_at')}, id, {self._us('at')} FROM (SELECT {name} AS id, {time} AS at, "
            f"lag({name}) OVER by_id AS before_id, lag({time}) OVER by_id AS before_at "
            f"FROM {self._table(data_table(entry))} d WHERE d.series_id = {series_id} AND {within} "
            f"AND NOT {self._is_misdated(entry)} WINDOW by_id AS (ORDER BY {name})) steps "
            f"WHERE id <> before_id + 1 ORDER BY id LIMIT {_MOST_BREAKS}",
            bounds,
        )
        at_us, first_id, left = day.start_us, day.first_id, day.rows
        for before_id, before_us, next_id, next_us in breaks:
            low, high = sorted((before_us if first_id == before_id else at_us, before_us))
            yield Held(low, high + 1, before_id - first_id + 1, first_id, before_id)
            left -= before_id - first_id + 1
            first_id, at_us = next_id, next_us
        end_us = at_us + 1 if first_id == day.last_id else day.end_us
        yield Held(min(at_us, end_us - 1), end_us, left, first_id, day.last_id)

    def _cut(self, entry: Dataset, series_id: int, known: CoverageRange, days: Sequence[Held]) -> Iterator[Held]:
        """The days, without what has ids below or above those of the range, which come by themselves."""
        first, last = known.first_id, known.last_id
        for day in days:
            assert day.first_id is not None
            assert day.last_id is not None
            if first is None or last is None or first <= day.first_id <= day.last_id <= last:
                yield day
                continue
            name, time = f"d.{quoted(entry.key[0])}", f"d.{quoted(entry.time_column)}"
            within, bounds = self._between(entry, day.start_us, day.end_us)
            lines = self._query(
                f"SELECT {self._us(f'min({time})')}, {self._us(f'max({time})')}, count(*), min({name}), max({name}) "
                f"FROM {self._table(data_table(entry))} d WHERE d.series_id = {series_id} AND {within} "
                f"AND NOT {self._is_misdated(entry)} "
                f"GROUP BY CASE WHEN {name} < %s THEN 0 WHEN {name} > %s THEN 2 ELSE 1 END",
                [*bounds, first, last],
            )
            yield from (Held(low, high + 1, *rest) for low, high, *rest in lines)

    def _twice(self, entry: Dataset, series_id: int, days: Iterable[Held]) -> list[Held]:
        """Rows of different days that have one id."""
        found: list[Held] = []
        name, time = f"d.{quoted(entry.key[0])}", f"d.{quoted(entry.time_column)}"
        by_id = sorted(days, key=lambda day: (day.first_id or 0, day.last_id or 0))
        for one, other in pairwise(by_id):
            low, high = other.first_id or 0, min(one.last_id or 0, other.last_id or 0)
            if low > high:
                continue
            low_us, high_us = min(one.start_us, other.start_us), max(one.end_us, other.end_us)
            within, bounds = self._between(entry, low_us, high_us)
            lines = self._query(
                f"SELECT {name}, {self._us(f'min({time})')}, {self._us(f'max({time})')} "
                f"FROM {self._table(data_table(entry))} d WHERE d.series_id = {series_id} AND {within} "
                f"AND {name} BETWEEN %s AND %s AND NOT {self._is_misdated(entry)} "
                f"GROUP BY {name} HAVING count(*) > 1 ORDER BY 1 LIMIT {_MOST_BREAKS}",
                [*bounds, low, high],
            )
            found += [Held(at, at + 1, 1, each, each) for each, first, last in lines for at in (first, last)]
        return found

    def _count_misdated(self, entry: Dataset, series_id: int) -> int:
        """How many rows lie under another day than their time's."""
        condition = self._is_misdated(entry)
        if condition == "false":
            return 0
        table = self._table(data_table(entry))
        return int(self._query(f"SELECT count(*) FROM {table} d WHERE d.series_id = {series_id} AND {condition}")[0][0])


def _clipped(parts: Iterable[Held], window: Span) -> list[Held]:
    """What of the parts lies in the window."""
    return [
        part._replace(start_us=max(part.start_us, window[0]), end_us=min(part.end_us, window[1]))
        for part in parts
        if part.start_us < window[1] and part.end_us > window[0]
    ]
