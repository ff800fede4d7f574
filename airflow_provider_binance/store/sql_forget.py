"""`SqlForgetter`: takes back rows and coverage, or forgets both, in one transaction under the lock of the series."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_binance.coverage import erased
from airflow_provider_binance.market import iso, to_us
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Dataset, Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.inspection import Emptied, Withdrawn
from airflow_provider_binance.store.precedence import Origins
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql import SqlStore
from airflow_provider_binance.store.sql_read import OF_SERIES, of


class SqlForgetter(SqlStore):
    """Takes out what should not be there, or not any more."""

    def withdraw(
        self,
        series: Series,
        *,
        rows: Sequence[int] = (),
        ranges: Sequence[tuple[int, int]] = (),
        source: Source,
        seen_line: int,
    ) -> Withdrawn:
        entry = registered(series.dataset)
        if not rows and not ranges:
            return Withdrawn()
        start_us = min([*rows, *(start for start, _ in ranges)])
        end_us = max([*(at + 1 for at in rows), *(end for _, end in ranges)])
        with self._session():
            self._writable(entry)
            try:
                self._lock(entry, series)
                later = self._query(
                    f"SELECT 1 FROM {self._table('ingest_log')} WHERE {OF_SERIES} AND id > %s AND range_start < %s "
                    "AND range_end > %s LIMIT 1",
                    [*of(entry.name, series), seen_line, self._time(end_us), self._time(start_us)],
                )
                if later:
                    self._rollback()
                    return Withdrawn(is_late=True)
                gone = self._withdraw_rows(entry, series, sorted(rows), source)
                erased_ranges = self._withdraw_coverage(entry, series, ranges)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return Withdrawn(gone, erased_ranges)

    def forget(self, series: Series, start_us: int, end_us: int, *, dry_run: bool = False) -> Emptied:
        entry = registered(series.dataset)
        with self._session():
            if not self._readable(entry):
                return Emptied(0, 0, 0, 0)
            try:
                self._lock(entry, series)
                emptied = self._empty(entry, series, start_us, end_us)
                if dry_run:
                    self._rollback()
                else:
                    self._commit()
            except BaseException:
                self._rollback()
                raise
        return emptied

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _withdraw_rows(self, entry: Dataset, series: Series, times: Sequence[int], source: Source) -> int:
        series_id = self._find_series(series)
        if series_id is None or not times:
            return 0
        table, time = self._table(data_table(entry)), quoted(entry.time_column)
        origins = Origins(self._read_sources(entry, series, times[0], times[-1] + 1))
        columns = ", ".join(self._out(column, series) for column in entry.columns)
        gone = 0
        for at in times:
            where, values = f"WHERE d.series_id = %s AND d.{time} = %s", [series_id, self._time(at)]
            for row in self._query(f"SELECT {columns} FROM {table} d {where}", values):
                origin = origins.at(at)
                for line in _corrections(entry, series, row):
                    self._change(
                        f"INSERT INTO {self._table('corrections')} (dataset, key, column_name, old_value, new_value, "
                        "old_source, new_source, corrected_at) VALUES (%s, %s, %s, %s, NULL, %s, %s, %s)",
                        [*line, None if origin is None else str(origin.source), str(source), self._time(self.clock())],
                    )
            gone += self._change(f"DELETE FROM {table} WHERE series_id = %s AND {time} = %s", values)
        return gone

    def _withdraw_coverage(self, entry: Dataset, series: Series, ranges: Sequence[tuple[int, int]]) -> int:
        """Take coverage back where there are no rows: somebody may have brought them meanwhile."""
        series_id = self._find_series(series)
        empty = [
            (start, end) for start, end in ranges if series_id is None or not self._count(entry, series_id, start, end)
        ]
        for start, end in empty:
            before = self._read_coverage(entry, series, start, end)
            after = erased(before, start, end, count=self._counter(entry, series))
            self._replace_coverage(entry, series, before, after)
        return len(empty)

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def _empty(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> Emptied:
        series_id, time = self._find_series(series), quoted(entry.time_column)
        window = [self._time(start_us), self._time(end_us)]
        rows = 0
        if series_id is not None:
            rows = self._change(
                f"DELETE FROM {self._table(data_table(entry))} WHERE series_id = %s AND {time} >= %s AND {time} < %s",
                [series_id, *window],
            )
        before = self._read_coverage(entry, series, start_us, end_us)
        self._replace_coverage(
            entry, series, before, erased(before, start_us, end_us, count=self._counter(entry, series))
        )
        lines = self._cut_log(entry, series, start_us, end_us)
        return Emptied(rows, len(before), lines, self._forget_corrections(entry, series, start_us, end_us))

    def _cut_log(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> int:
        """Take the window out of every line of `ingest_log`; one that reaches beyond on both sides becomes two.

        A line that kept saying that a file was read for the window would keep that file from being read again.
        """
        log = self._table("ingest_log")
        start, end, named = self._time(start_us), self._time(end_us), of(entry.name, series)
        touched = f"{OF_SERIES} AND range_start < %s AND range_end > %s"
        [(count,)] = self._query(f"SELECT count(*) FROM {log} WHERE {touched}", [*named, end, start])
        kept = (
            'dataset, market, symbol, "interval", source, source_ref, sha256, part, parts, rows_read, rows_inserted, '
            "rows_updated, rows_unchanged, started_at, finished_at, run_ref"
        ) + (", published_at, etag" if self._has_published else "")
        counts = ("rows_read", "rows_inserted", "rows_updated", "rows_unchanged")
        copied = ", ".join("0" if name in counts else name for name in kept.split(", "))
        self._change(
            f"INSERT INTO {log} ({kept}, range_start, range_end) SELECT {copied}, %s, range_end FROM {log} "
            f"WHERE {OF_SERIES} AND range_start < %s AND range_end > %s ORDER BY id",
            [end, *named, start, end],
        )
        self._change(
            f"DELETE FROM {log} WHERE {OF_SERIES} AND range_start >= %s AND range_end <= %s", [*named, start, end]
        )
        self._change(
            f"UPDATE {log} SET range_end = %s WHERE {touched} AND range_start < %s", [start, *named, end, start, start]
        )
        self._change(f"UPDATE {log} SET range_start = %s WHERE {touched}", [end, *named, end, start])
        return int(count)

    def _forget_corrections(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> int:
        table, head = self._table("corrections"), key_head(entry, series)
        keys = self._query(
            f"SELECT DISTINCT key FROM {table} WHERE dataset = %s AND substr(key, 1, %s) = %s",
            [entry.name, len(head) + 1, head + ","],
        )
        wanted = [key for (key,) in keys if (at := _time_of(entry, key)) is None or start_us <= at < end_us]
        gone, most = 0, self._most_values() - 1
        for first in range(0, len(wanted), most):
            # Many at once: the table has no index, so that each statement reads all of it.
            some = wanted[first : first + most]
            gone += self._change(
                f"DELETE FROM {table} WHERE dataset = %s AND key IN (VALUES {', '.join(['(%s)'] * len(some))})",
                [entry.name, *some],
            )
        return gone


def _corrections(entry: Dataset, series: Series, row: Sequence[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Dataset, key, column and value of everything that goes with a row."""
    texts = {
        column.name: iso(value) if column.kind is Kind.TIME and isinstance(value, int) else str(value)
        for column, value in zip(entry.columns, row, strict=True)
        if value is not None
    }
    numbers = (Kind.INTEGER, Kind.SMALL_INTEGER, Kind.BOOLEAN)
    key = "".join(
        f", {json.dumps(name)}: {texts[name] if entry.column(name).kind in numbers else json.dumps(texts[name])}"
        for name in entry.key
    )
    for name, text in texts.items():
        if name not in entry.key:
            yield entry.name, key_head(entry, series) + key + "}", name, text


def _time_of(entry: Dataset, key: str) -> int | None:
    """The time of the row that a correction names, None if its key has none."""
    text = json.loads(key).get(entry.time_column)
    return None if text is None else to_us(datetime.fromisoformat(text))
