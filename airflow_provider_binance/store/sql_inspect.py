"""`SqlInspector`: ledger and rows of a series looked at in one snapshot, by questions that the database answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_binance.market import Interval, parse_interval
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Dataset, Kind, Rule
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.inspection import WINDOW_ROWS, Audit, Broken, LogSpan
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_read import OF_SERIES, SqlReader, of

#: Rows told one by one of a window; whoever has more of them hears of the others once these are mended.
MOST_ROWS = 10_000


class SqlInspector(SqlReader):
    """Looks; the spelling of grids and exact comparisons is each database's own."""

    # --- what each database spells ------------------------------------------------------------------------------------

    @abstractmethod
    def _snapshot(self) -> None:
        """Open a transaction in which every question is answered as of one instant."""

    @abstractmethod
    def _bucket(self, time: str, interval: Interval) -> str:
        """The open time of the kline of `interval` that contains `time`."""

    @abstractmethod
    def _next_open(self, time: str, interval: Interval) -> str:
        """The open time after `time`, which is one itself."""

    @abstractmethod
    def _above(self, left: str, right: str, kind: Kind) -> str:
        """Whether `left` > `right`, exactly; either may be 0. NULL where one of them is."""

    @abstractmethod
    def _malformed(self, dataset: Dataset) -> str:
        """Whether a row (`d`) has a value that its column must not have, as far as its type allows that."""

    # --- the contract -------------------------------------------------------------------------------------------------

    def extents(self, dataset: str) -> dict[Series, tuple[int, int]]:
        entry = registered(dataset)
        table, time = self._table(data_table(entry)), quoted(entry.time_column)
        ends = [
            self._us(f"(SELECT {time} FROM {table} d WHERE d.series_id = s.series_id ORDER BY {time} {way} LIMIT 1)")
            for way in ("ASC", "DESC")
        ]
        with self._session():
            if not self._readable(entry):
                return {}
            lines = self._query(
                f'SELECT s.market, s.symbol, s."interval", {ends[0]}, {ends[1]} FROM {self._table("series")} s '
                "ORDER BY 1, 2, 3"
            )
        return {
            Series(market, dataset, symbol, interval): (first, last)
            for market, symbol, interval, first, last in lines
            if first is not None and bool(interval) == entry.has_interval
        }

    def audit(self, series: Series, start_us: int, end_us: int) -> Audit:
        entry, grid = registered(series.dataset), parse_interval(series.interval)
        with self._looking(entry) as is_there:
            if not is_there:
                return Audit(start_us, end_us)
            ranges = tuple(self._read_coverage(entry, series, start_us, end_us))
            lines, last_line = self._read_log(series, start_us, end_us)
            series_id = self._find_series(series)
            if series_id is None:
                return Audit(start_us, end_us, ranges, lines, last_line=last_line)
            time = f"d.{quoted(entry.time_column)}"
            where = f"d.series_id = {series_id} AND {time} >= %s AND {time} < %s"
            islands: list[tuple[int, int]] = []
            strays: list[int] = []
            broken: list[Broken] = []
            rows = 0
            for window in self._windows(entry, grid, where, (start_us, end_us)):
                values = [self._time(at_us) for at_us in window]
                rows += self._query(f"SELECT count(*) FROM {self._data(entry)} WHERE {where}", values)[0][0]
                for start, end in self._islands(entry, grid, where, values):
                    joins = bool(islands) and islands[-1][1] == start
                    islands.append((islands.pop()[0] if joins else start, end))
                strays += self._strays(entry, grid, where, values)
                broken += self._broken(entry, grid, where, values)
        return Audit(start_us, end_us, ranges, lines, tuple(islands), tuple(strays), tuple(broken), rows, last_line)

    # --- the questions ------------------------------------------------------------------------------------------------

    @contextmanager
    def _looking(self, entry: Dataset) -> Iterator[bool]:
        """A session with one snapshot, whose temporary tables go with it; false: there is nothing to look at."""
        with self._session():
            if not self._readable(entry):
                yield False
                return
            try:
                self._snapshot()
                yield True
            finally:
                self._rollback()

    def _data(self, entry: Dataset) -> str:
        return f"{self._table(data_table(entry))} d"

    def _windows(
        self, entry: Dataset, grid: Interval, where: str, bounds: tuple[int, int]
    ) -> Iterator[tuple[int, int]]:
        """The part of a window that has rows, cut so that the answers about each piece are bounded."""
        time = f"d.{quoted(entry.time_column)}"
        [(first, last)] = self._query(
            f"SELECT {self._us(f'min({time})')}, {self._us(f'max({time})')} FROM {self._data(entry)} WHERE {where}",
            [self._time(at_us) for at_us in bounds],
        )
        if first is not None:
            step = WINDOW_ROWS * grid.size_us
            yield from ((at, min(at + step, last + 1)) for at in range(first, last + 1, step))

    def _read_log(self, series: Series, start_us: int, end_us: int) -> tuple[tuple[LogSpan, ...], int]:
        lines = self._query(
            f"SELECT {self._us('range_start')}, {self._us('range_end')}, source, source_ref, sha256 "
            f"FROM {self._table('ingest_log')} WHERE {OF_SERIES} AND range_start < %s AND range_end > %s ORDER BY id",
            [*of(series.dataset, series), self._time(end_us), self._time(start_us)],
        )
        newest = self._query(
            f"SELECT coalesce(max(id), 0) FROM {self._table('ingest_log')} WHERE {OF_SERIES}",
            of(series.dataset, series),
        )
        spans = (LogSpan(start, end, Source(source), ref, sha) for start, end, source, ref, sha in lines)
        return tuple(spans), newest[0][0]

    def _islands(self, entry: Dataset, grid: Interval, where: str, values: list[Any]) -> Iterator[tuple[int, int]]:
        """Stretches of neighbouring open times, by one pass over the key."""
        time = quoted(entry.time_column)
        edges = self._query(
            f"SELECT {self._us('at')}, {self._us(self._next_open('before', grid))} FROM (SELECT d.{time} AS at, "
            f"lag(d.{time}) OVER (ORDER BY d.{time}) AS before FROM {self._data(entry)} "
            f"WHERE {where} AND d.{time} = {self._bucket(f'd.{time}', grid)}) steps "
            f"WHERE before IS NULL OR at <> {self._next_open('before', grid)} ORDER BY at",
            values,
        )
        if not edges:
            return
        last = self._query(
            f"SELECT {self._us(self._next_open('at', grid))} FROM (SELECT max(d.{time}) AS at FROM {self._data(entry)} "
            f"WHERE {where} AND d.{time} = {self._bucket(f'd.{time}', grid)}) newest",
            values,
        )[0][0]
        starts = [edge[0] for edge in edges]
        ends = [*(edge[1] for edge in edges[1:]), last]
        yield from zip(starts, ends, strict=True)

    def _strays(self, entry: Dataset, grid: Interval, where: str, values: list[Any]) -> list[int]:
        time = f"d.{quoted(entry.time_column)}"
        lines = self._query(
            f"SELECT {self._us(time)} FROM {self._data(entry)} WHERE {where} AND {time} <> {self._bucket(time, grid)} "
            f"ORDER BY {time} LIMIT {MOST_ROWS}",
            values,
        )
        return [line[0] for line in lines]

    def _broken(self, entry: Dataset, grid: Interval, where: str, values: list[Any]) -> list[Broken]:
        time = f"d.{quoted(entry.time_column)}"
        named = [(str(rule), self._breaks(entry, rule)) for rule in entry.rules]
        if any(column.name == "close_time" for column in entry.columns):
            late = f"d.close_time >= {self._next_open(self._bucket(time, grid), grid)}"
            # NULL where the close is the regular one.
            named.append(("open_time ≤ close_time < next open", f"(d.close_time < {time} OR {late})"))
        named.append(("every value as its column has it", self._malformed(entry)))
        # NULL is not true, which is all that WHERE asks.
        checks = ", ".join(f"coalesce({check}, false)" for _, check in named)
        lines = self._query(
            f"SELECT {self._us(time)}, {checks} FROM {self._data(entry)} "
            f"WHERE {where} AND ({' OR '.join(check for _, check in named)}) ORDER BY {time} LIMIT {MOST_ROWS}",
            values,
        )
        return [
            Broken(at, tuple(name for (name, _), is_broken in zip(named, flags, strict=True) if is_broken))
            for at, *flags in lines
        ]

    def _breaks(self, entry: Dataset, rule: Rule) -> str:
        def above(left: str | None, right: str | None) -> str:
            kind = entry.column(left or right or "").kind
            named = [f"d.{quoted(name)}" if name else "0" for name in (left, right)]
            return self._above(named[0], named[1], kind)

        if not rule.together:
            return f"({above(rule.left, rule.right)})"
        assert rule.left is not None
        return f"(({above(rule.left, None)}) <> ({above(rule.right, None)}))"
