"""`SqlReader`: the reading half of a store; nothing here writes, not even an empty file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_binance.market import parse_interval
from airflow_provider_binance.records import CoverageRange, Row, Series, Source, State
from airflow_provider_binance.registry import Continuity, Dataset, Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.base import ArchiveLine
from airflow_provider_binance.store.precedence import Line, Span, sources, standing
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_base import SqlBase

_PAGE_ROWS = 20_000

#: The condition that picks one series in the ledger's tables, and its values.
OF_SERIES = 'dataset = %s AND market = %s AND symbol = %s AND "interval" = %s'
#: The lines of `ingest_log` that flushes of many series left.
OF_FLUSHES = "market IS NULL AND symbol IS NULL AND source = 'stream'"


def of(dataset: str, series: Series) -> list[str]:
    """The values of `OF_SERIES`."""
    return [dataset, series.market, series.symbol, series.interval]


class SqlReader(SqlBase):
    """Reads rows and ledger."""

    def coverage(
        self, dataset: str, series: Iterable[Series], start_us: int, end_us: int
    ) -> dict[Series, list[CoverageRange]]:
        found: dict[Series, list[CoverageRange]] = {one: [] for one in series}
        columns, order = self._coverage_columns(), "range_start"
        for one, line in self._lines_of(found, dataset, "coverage", columns, order, start_us, end_us):
            found[one].append(_range(line))
        return found

    def series(self, dataset: str | None = None) -> list[Series]:
        with self._session():
            if not self._readable():
                return []
            chosen, values = ("", []) if dataset is None else ("AND dataset = %s ", [dataset])
            select = "SELECT market, dataset, symbol, COALESCE(\"interval\", '') FROM"
            lines = self._query(
                f"{select} {self._table('coverage')} WHERE market IS NOT NULL {chosen}"
                f"UNION {select} {self._table('ingest_log')} WHERE symbol IS NOT NULL {chosen}",
                values * 2,
            )
        return sorted(Series(*line) for line in lines)

    def row_counts(self, dataset: str, series: Series, windows: Sequence[tuple[int, int]]) -> list[int]:
        entry = registered(dataset)
        with self._session():
            series_id = self._find_series(series) if self._readable(entry) else None
            return [0 if series_id is None else self._count(entry, series_id, *window) for window in windows]

    def rows(self, dataset: str, series: Series, start_us: int, end_us: int) -> Iterator[Row]:
        entry = registered(dataset)
        names = entry.column_names
        order = self._order(entry)
        columns = ", ".join(self._out(column, series) for column in entry.columns)
        ordered = ", ".join(f"d.{quoted(name)}" for name in order)
        within, bounds = self._between(entry, start_us, end_us)
        after: str = ""
        at: list[Any] = []
        while True:
            # A page at a time, each its own query: no transaction stays open while the caller works.
            with self._session():
                series_id = self._find_series(series) if self._readable(entry) else None
                if series_id is None:
                    return
                page = self._query(
                    f"SELECT {columns} FROM {self._table(data_table(entry))} d WHERE d.series_id = %s "
                    f"AND {within} {after} ORDER BY {ordered} LIMIT {_PAGE_ROWS}",
                    [series_id, *bounds, *at],
                )
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            last = dict(zip(names, page[-1], strict=True))
            after = f"AND ({ordered}) > ({', '.join(['%s'] * len(order))})"
            at_us = last[entry.time_column]
            if entry.time_column in order:
                within, bounds = self._between(entry, at_us, end_us)
            at = [self._key_value(entry, name, last) for name in order]

    def archive_lines(self, series: Series, start_us: int, end_us: int) -> list[ArchiveLine]:
        return self.archive_lines_of([series], start_us, end_us)[series]

    def archive_lines_of(self, series: Iterable[Series], start_us: int, end_us: int) -> dict[Series, list[ArchiveLine]]:
        found: dict[Series, list[ArchiveLine]] = {one: [] for one in series}
        with self._session():
            if not self._readable():
                return found
            columns = f"source, source_ref, sha256, {self._us('range_start')}, {self._us('range_end')}, part, parts"
            columns += f", {self._published_columns()}, {self._us('started_at')}"
            for dataset in {one.dataset for one in found}:
                for one, line in self._lines_of(found, dataset, "ingest_log", columns, "id", start_us, end_us):
                    if line[0] == Source.ARCHIVE:
                        found[one].append(ArchiveLine(*line[1:]))
        return found

    def id_time(self, series: Series, row_id: int, start_us: int, end_us: int) -> int | None:
        entry = registered(series.dataset)
        with self._session():
            series_id = self._find_series(series) if self._readable(entry) else None
            if series_id is None:
                return None
            within, bounds = self._between(entry, start_us, end_us)
            found = self._query(
                f"SELECT {self._us(f'd.{quoted(entry.time_column)}')} FROM {self._table(data_table(entry))} d "
                f"WHERE d.series_id = %s AND d.{quoted(entry.key[0])} = %s AND {within}",
                [series_id, row_id, *bounds],
            )
        return int(found[0][0]) if found else None

    def made_us(self) -> int | None:
        with self._session():
            if not self._readable():
                return None
            found = self._query(f"SELECT min({self._us('applied_at')}) FROM {self._table('schema_version')}")
        return None if found[0][0] is None else int(found[0][0])

    def lines_after(self, series: Series, line: int) -> list[tuple[int, int, int]]:
        with self._session():
            if not self._readable():
                return []
            found = self._query(
                f"SELECT id, {self._us('range_start')}, {self._us('range_end')} FROM {self._table('ingest_log')} "
                f"WHERE {OF_SERIES} AND id > %s ORDER BY id",
                [*of(series.dataset, series), line],
            )
        return [(number, start_us, end_us) for number, start_us, end_us in found]

    def corrected(self, dataset: str, since_us: int) -> list[tuple[str, int, bool]]:
        with self._session():
            if not self._readable():
                return []
            found = self._query(
                f"SELECT key, max({self._us('corrected_at')}), sum(CASE WHEN new_value IS NULL THEN 1 ELSE 0 END) "
                f"FROM {self._table('corrections')} WHERE dataset = %s AND corrected_at >= %s GROUP BY key",
                [dataset, self._time(since_us)],
            )
        return [(key, int(at_us), bool(gone)) for key, at_us, gone in found]

    def _order(self, entry: Dataset) -> tuple[str, ...]:
        """The columns in whose order rows are read: time, and the rest of the key."""
        return (entry.time_column, *(name for name in entry.key if name != entry.time_column))

    def _between(self, entry: Dataset, start_us: int, end_us: int) -> tuple[str, list[Any]]:
        """The condition that a row (`d`) lies in a window, and its values."""
        time = f"d.{quoted(entry.time_column)}"
        return f"{time} >= %s AND {time} < %s", [self._time(start_us), self._time(end_us)]

    def _key_value(self, entry: Dataset, name: str, row: Mapping[str, Any]) -> Any:
        """The value of a column of `_order` of a row that was read."""
        return self._time(row[name]) if entry.column(name).kind is Kind.TIME else row[name]

    # --- the ledger of many series ------------------------------------------------------------------------------------

    def _lines_of(
        self, series: Iterable[Series], dataset: str, table: str, columns: str, order: str, start_us: int, end_us: int
    ) -> list[tuple[Series, list[Any]]]:
        """The lines of a ledger table that overlap the window, with their series; as few queries as values allow."""
        asked = {(one.market, one.symbol, one.interval): one for one in series if one.dataset == dataset}
        keys, found = list(asked), []
        with self._session():
            if not keys or not self._readable():
                return []
            most = (self._most_values() - 3) // 3
            for at in range(0, len(keys), most):
                chunk = keys[at : at + most]
                found += self._query(
                    f'SELECT market, symbol, "interval", {columns} FROM {self._table(table)} '
                    f"WHERE dataset = %s AND range_start < %s AND range_end > %s "
                    f'AND (market, symbol, "interval") IN (VALUES {", ".join(["(%s, %s, %s)"] * len(chunk))}) '
                    f"ORDER BY {order}",
                    [dataset, self._time(end_us), self._time(start_us), *(part for key in chunk for part in key)],
                )
        return [(asked[market, symbol, interval], line) for market, symbol, interval, *line in found]

    # --- the ledger of one series -------------------------------------------------------------------------------------

    def _coverage_columns(self) -> str:
        return (
            f"{self._us('range_start')}, {self._us('range_end')}, state, row_count, first_id, last_id, confirmed_by, "
            f"evidence, {self._us('checked_at')}, {self._us('next_check_at')}"
        )

    def _read_coverage(self, dataset: Dataset, series: Series, start_us: int, end_us: int) -> list[CoverageRange]:
        lines = self._query(
            f"SELECT {self._coverage_columns()} FROM {self._table('coverage')} WHERE {OF_SERIES} "
            f"AND range_start < %s AND range_end > %s ORDER BY range_start",
            [*of(dataset.name, series), self._time(end_us), self._time(start_us)],
        )
        return [_range(line) for line in lines]

    def _read_sources(self, dataset: Dataset, series: Series, start_us: int, end_us: int) -> list[Span]:
        """Where the stored rows of a window came from, as the ledger tells it."""
        told = self._read_lines(dataset, series, start_us, end_us)
        return sources(start_us, end_us, self._read_coverage(dataset, series, start_us, end_us), told)

    def _read_lines(self, dataset: Dataset, series: Series, start_us: int, end_us: int) -> list[Line]:
        """The ledger's lines that overlap a window, oldest first, as far as they tell where rows came from."""
        lines = self._query(
            f"SELECT {self._us('range_start')}, {self._us('range_end')}, source, source_ref, sha256, "
            f"{self._published_columns()} FROM {self._table('ingest_log')} "
            f"WHERE {OF_SERIES} AND range_start < %s AND range_end > %s ORDER BY id",
            [*of(dataset.name, series), self._time(end_us), self._time(start_us)],
        )
        # A flush of a stream has one line for all series. They are many, and lowest of all: as one they tell enough.
        flushed = self._query(
            f"SELECT {self._us('min(range_start)')}, {self._us('max(range_end)')} FROM {self._table('ingest_log')} "
            f"WHERE dataset = %s AND market IS NULL AND source = %s AND range_start < %s AND range_end > %s",
            [dataset.name, str(Source.STREAM), self._time(end_us), self._time(start_us)],
        )
        found = [Line(low, high, Source.STREAM, standing(Source.STREAM)) for low, high in flushed if low is not None]
        return found + [
            Line(start, end, Source(source), standing(Source(source), ref, published), sha256)
            for start, end, source, ref, sha256, published, _ in lines
        ]

    def _published_columns(self) -> str:
        return f"{self._us('published_at')}, etag" if self._has_published else "NULL, NULL"

    def _find_series(self, series: Series) -> int | None:
        """The series' number, None if the store has never met it."""
        key = (series.market, series.symbol, series.interval)
        if key not in self._series_ids:
            lines = self._query(
                f'SELECT series_id FROM {self._table("series")} WHERE market = %s AND symbol = %s AND "interval" = %s',
                key,
            )
            if not lines:
                return None
            self._series_ids[key] = lines[0][0]
        return self._series_ids[key]

    def _count(self, dataset: Dataset, series_id: int, start_us: int, end_us: int) -> int:
        within, bounds = self._between(dataset, start_us, end_us)
        counted = self._query(
            f"SELECT count(*) FROM {self._table(data_table(dataset))} d WHERE d.series_id = %s AND {within}",
            [series_id, *bounds],
        )
        return int(counted[0][0])

    def _counter(self, dataset: Dataset, series: Series) -> Callable[[int, int], int]:
        """How many rows a complete range has: told by the grid, or counted where ids have none."""
        if dataset.continuity is Continuity.GRID:
            return parse_interval(series.interval).count

        def count(start_us: int, end_us: int) -> int:
            series_id = self._find_series(series)
            return 0 if series_id is None else self._count(dataset, series_id, start_us, end_us)

        return count


def _range(line: Sequence[Any]) -> CoverageRange:
    start, end, state, *rest = line
    return CoverageRange(start, end, State(state), *rest)
