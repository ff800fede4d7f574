"""`SqlInspector`: ledger and rows of a series looked at in one snapshot, by questions that the database answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_provider_binance.market import Interval, grid_of
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Column, Continuity, Dataset, Kind, Rule
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.inspection import WINDOW_ROWS, Audit, Beyond, Broken, LogSpan, Orphans
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_inspect_ids import SqlIdInspector
from airflow_provider_binance.store.sql_read import OF_FLUSHES, OF_SERIES, of
from airflow_provider_binance.windows import LATEST_US

#: Rows told one by one of a window; whoever has more of them hears of the others once these are mended.
MOST_ROWS = 10_000
#: Times shown of rows beyond all time.
_SHOWN_TIMES = 3


class SqlInspector(SqlIdInspector):
    """Looks; the spelling of grids and exact comparisons is each database's own."""

    # --- what each database spells ------------------------------------------------------------------------------------

    @abstractmethod
    def _snapshot(self) -> None:
        """Open a transaction in which every question is answered as of one instant."""

    @abstractmethod
    def _next_open(self, time: str, interval: Interval) -> str:
        """The open time after `time`, which is one itself."""

    @abstractmethod
    def _above(self, left: str, right: str, kind: Kind) -> str:
        """Whether `left` > `right`, exactly; either may be 0. NULL where one of them is."""

    @abstractmethod
    def _malformed(self, columns: Sequence[Column]) -> str:
        """Whether a row (`d`) has a value that its column must not have, as far as its type allows that."""

    @abstractmethod
    def _clamped(self, time: str) -> str:
        """A time, moved into `EARLIEST_US` … `LATEST_US`."""

    @abstractmethod
    def _said(self, column: Column, value: str) -> str:
        """A value as text, as `corrections` has it; a time beyond the calendar as the database says it."""

    @abstractmethod
    def _value(self, column: Column, series: Series) -> str:
        """What a column of a row (`d`) says, also where the table leaves it to be understood."""

    @abstractmethod
    def _named_by_ledger(self, entry: Dataset) -> dict[int, Series]:
        """The series that the ledger still knows by the number that it had."""

    # --- the contract -------------------------------------------------------------------------------------------------

    def extents(self, dataset: str) -> dict[Series, tuple[int, int]]:
        entry = registered(dataset)
        table, time = self._table(data_table(entry)), quoted(entry.time_column)
        ends = []
        for way in ("ASC", "DESC"):
            order = ", ".join(f"{quoted(name)} {way}" for name in self._order(entry))
            at = self._us(self._clamped(time))
            ends.append(f"(SELECT {at} FROM {table} d WHERE d.series_id = s.series_id ORDER BY {order} LIMIT 1)")
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
        entry, grid = registered(series.dataset), grid_of(series.interval)
        with self._looking(entry) as is_there:
            if not is_there:
                return Audit(start_us, end_us)
            ranges = tuple(self._read_coverage(entry, series, start_us, end_us))
            lines, last_line = self._read_log(series, start_us, end_us)
            flushed = tuple(self._read_flushes(entry, start_us, end_us))
            series_id = self._find_series(series)
            if series_id is None:
                look = self._look_at_nothing(entry, ranges, (start_us, end_us))
                return Audit(
                    start_us, end_us, ranges, lines, last_line=last_line, lacking=tuple(look.lacking),
                    counted=tuple(look.counted), flushed=flushed,
                )  # fmt: skip
            beyond = self._count_beyond(entry, series_id, start_us, end_us)
            if entry.continuity is Continuity.ID:
                look = self._look_at_ids(entry, series, series_id, ranges, (start_us, end_us))
                within, values = self._between(entry, start_us, end_us)
                where = f"d.series_id = {series_id} AND {within} AND NOT {self._is_misdated(entry)}"
                return Audit(
                    start_us, end_us, ranges, lines, tuple(look.islands), (),
                    tuple(self._broken(entry, series, grid, where, values)), look.rows, last_line, beyond,
                    tuple(look.held), tuple(look.lacking), tuple(look.misplaced), tuple(look.counted),
                    self._count_misdated(entry, series_id), flushed,
                )  # fmt: skip
            time = f"d.{quoted(entry.time_column)}"
            where = f"d.series_id = {series_id} AND {time} >= %s AND {time} < %s AND {self._is_time(time)}"
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
                broken += self._broken(entry, series, grid, where, values)
        return Audit(
            start_us, end_us, ranges, lines, tuple(islands), tuple(strays), tuple(broken), rows, last_line, beyond,
            flushed=flushed,
        )  # fmt: skip

    def orphans(self, dataset: str) -> list[Orphans]:
        entry = registered(dataset)
        table, time = self._table(data_table(entry)), f"d.{quoted(entry.time_column)}"
        with self._looking(entry) as is_there:
            if not is_there:
                return []
            # From number to number through the key: the rows are not read.
            lines = self._query(
                f"WITH RECURSIVE numbers (n) AS (SELECT min(series_id) FROM {table} UNION ALL SELECT (SELECT "
                f"min(d.series_id) FROM {table} d WHERE d.series_id > numbers.n) FROM numbers WHERE n IS NOT NULL) "
                f"SELECT n FROM numbers WHERE n IS NOT NULL AND n NOT IN (SELECT series_id FROM "
                f"{self._table('series')}) ORDER BY n"
            )
            found = []
            for (series_id,) in lines:
                ends = [self._us(self._clamped(f"{end}({time})")) for end in ("min", "max")]
                [counts] = self._query(
                    f"SELECT count(*), {', '.join(ends)} FROM {self._data(entry)} WHERE d.series_id = {series_id}"
                )
                found.append(Orphans(series_id, *counts))
            nameless = self._nameless(entry) if found else {}
            known = self._named_by_ledger(entry) if found else {}
        if not known and len(found) == len(nameless) == 1:
            known = {found[0].series_id: next(iter(nameless))}
        return [each._replace(series=s if (s := known.get(each.series_id)) in nameless else None) for each in found]

    def _nameless(self, entry: Dataset) -> dict[Series, None]:
        """The series with coverage that have no line in `series`."""
        lines = self._query(
            f'SELECT DISTINCT c.market, c.symbol, c."interval" FROM {self._table("coverage")} c '
            f"WHERE c.dataset = %s AND c.row_count > 0 AND NOT EXISTS (SELECT 1 FROM {self._table('series')} s "
            f'WHERE s.market = c.market AND s.symbol = c.symbol AND s."interval" = c."interval")',
            [entry.name],
        )
        return {Series(market, entry.name, symbol, interval): None for market, symbol, interval in lines}

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
        step = WINDOW_ROWS * grid.size_us
        while first is not None:
            yield first, min(first + step, last + 1)
            # On from the next row, not from the next window: one row too far away would make millions of them.
            [(first,)] = self._query(
                f"SELECT {self._us(f'min({time})')} FROM {self._data(entry)} WHERE {where}",
                [self._time(first + step), self._time(bounds[1])],
            )

    def _beyond(self, entry: Dataset, series_id: int, start_us: int, end_us: int) -> tuple[str, list[Any]]:
        """The condition, with its values, of the rows (`d`) that lie beyond a window: see `Audit`."""
        time = f"d.{quoted(entry.time_column)}"
        sides, values = ["false"], []
        if start_us <= 0:
            sides.append(f"{time} < %s")
            values.append(self._time(start_us))
        if end_us >= LATEST_US:
            sides += [f"{time} >= %s", f"NOT {self._is_time(time)}"]
            values.append(self._time(end_us))
        return f"d.series_id = {series_id} AND ({' OR '.join(sides)})", values

    def _count_beyond(self, entry: Dataset, series_id: int, start_us: int, end_us: int) -> Beyond:
        where, values = self._beyond(entry, series_id, start_us, end_us)
        [(rows,)] = self._query(f"SELECT count(*) FROM {self._data(entry)} WHERE {where}", values)
        if not rows:
            return Beyond()
        time = entry.column(entry.time_column)
        shown = self._query(
            f"SELECT {self._said(time, f'd.{quoted(time.name)}')} FROM {self._data(entry)} WHERE {where} "
            f"LIMIT {_SHOWN_TIMES}",
            values,
        )
        return Beyond(rows, tuple(str(text) for (text,) in shown))

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

    def _read_flushes(self, entry: Dataset, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
        """The times of the lines that series share; an hour of them is one stretch before it comes here."""
        found = self._query(
            f"SELECT min({self._us('low')}), max({self._us('high')}) FROM (SELECT low, high, sum(begins) OVER "
            "(ORDER BY low, high) AS stretch FROM (SELECT range_start AS low, range_end AS high, CASE WHEN range_start "
            "<= max(range_end) OVER (ORDER BY range_start, range_end ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) "
            f"THEN 0 ELSE 1 END AS begins FROM {self._table('ingest_log')} WHERE dataset = %s AND {OF_FLUSHES} "
            "AND range_start < %s AND range_end > %s) marked) numbered GROUP BY stretch ORDER BY 1",
            [entry.name, self._time(end_us), self._time(start_us)],
        )
        yield from ((start, end) for start, end in found)

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

    def _broken(
        self, entry: Dataset, series: Series, grid: Interval, where: str, values: list[Any]
    ) -> list[Broken]:  # fmt: skip
        time = f"d.{quoted(entry.time_column)}"
        columns = entry.columns_of(series.market)
        names = {column.name for column in columns}
        named = [
            (str(rule), self._breaks(entry, rule))
            for rule in entry.rules
            if {rule.left or rule.right, rule.right} <= names
        ]
        # What no market lacks is NOT NULL in the table, or may be NULL.
        named += [
            (f"{column.name} is there", f"d.{quoted(column.name)} IS NULL") for column in columns if column.is_needed
        ]
        if any(column.name == "close_time" for column in entry.columns):
            late = f"d.close_time >= {self._next_open(self._bucket(time, grid), grid)}"
            # NULL where the close is the regular one.
            named.append(("open_time ≤ close_time < next open", f"(d.close_time < {time} OR {late})"))
        named.append(("every value as its column has it", self._malformed(columns)))
        foreign = [column.name for column in entry.columns if column.name not in names]
        named += [(name, f"d.{quoted(name)} IS NOT NULL") for name in foreign]
        # NULL is not true, which is all that WHERE asks.
        checks = ", ".join(f"coalesce({check}, false)" for _, check in named)
        lines = self._query(
            f"SELECT {self._us(time)}, {checks} FROM {self._data(entry)} "
            f"WHERE {where} AND ({' OR '.join(check for _, check in named)}) ORDER BY {time} LIMIT {MOST_ROWS}",
            values,
        )
        found = []
        for at, *flags in lines:
            told = [name for (name, _), is_broken in zip(named, flags, strict=True) if is_broken]
            rules, others = [n for n in told if n not in foreign], [n for n in told if n in foreign]
            found.append(Broken(at, tuple(rules), tuple(others)))
        return found

    def _breaks(self, entry: Dataset, rule: Rule) -> str:
        def above(left: str | None, right: str | None) -> str:
            kind = entry.column(left or right or "").kind
            named = [f"d.{quoted(name)}" if name else "0" for name in (left, right)]
            return self._above(named[0], named[1], kind)

        if not rule.together:
            return f"({above(rule.left, rule.right)})"
        assert rule.left is not None
        return f"(({above(rule.left, None)}) <> ({above(rule.right, None)}))"
