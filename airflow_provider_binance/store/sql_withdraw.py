"""`SqlWithdrawer`: takes back what is wrong, in one transaction under the lock of the series, and notes every value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_provider_binance.coverage import erased
from airflow_provider_binance.market import iso_or_number
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.inspection import Orphans, Withdrawn
from airflow_provider_binance.store.precedence import Origins
from airflow_provider_binance.store.schema import data_table, literal, quoted
from airflow_provider_binance.store.sql import SqlStore
from airflow_provider_binance.store.sql_read import OF_SERIES, of

#: Columns whose values stand bare in a key's JSON.
_NUMBERS = (Kind.INTEGER, Kind.SMALL_INTEGER, Kind.BOOLEAN)


class SqlWithdrawer(SqlStore):
    """Takes out what should not be there."""

    def withdraw(
        self,
        series: Series,
        *,
        rows: Sequence[int] = (),
        ranges: Sequence[tuple[int, int]] = (),
        overfull: Sequence[tuple[int, int]] = (),
        beyond: tuple[int, int] | None = None,
        source: Source | None,
        seen_line: int,
    ) -> Withdrawn:
        entry = registered(series.dataset)
        if not (rows or ranges or overfull or beyond):
            return Withdrawn()
        start_us = min([*rows, *(start for start, _ in ranges)], default=0)
        end_us = max([*(at + 1 for at in rows), *(end for _, end in ranges)], default=0)
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
                gone += self._withdraw_beyond(entry, series, beyond) if beyond else 0
                self._empty_columns(entry, series, overfull)
                erased_ranges = self._withdraw_coverage(entry, series, ranges)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return Withdrawn(gone, erased_ranges)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _withdraw_rows(self, entry: Dataset, series: Series, times: Sequence[int], source: Source | None) -> int:
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
                        [
                            *line,
                            None if origin is None else str(origin.source),
                            None if source is None else str(source),
                            self._time(self.clock()),
                        ],
                    )
            gone += self._change(f"DELETE FROM {table} WHERE series_id = %s AND {time} = %s", values)
        return gone

    def _withdraw_beyond(self, entry: Dataset, series: Series, window: tuple[int, int]) -> int:
        if (series_id := self._find_series(series)) is None:
            return 0
        where, values = self._beyond(entry, series_id, *window)
        self._note(entry, series, [c for c in entry.columns if c.name not in entry.key], where, values)
        return self._change(f"DELETE FROM {self._table(data_table(entry))} AS d WHERE {where}", values)

    def _empty_columns(self, entry: Dataset, series: Series, spans: Sequence[tuple[int, int]]) -> None:
        """Have NULL in the columns that the market has not."""
        foreign = [column for column in entry.columns if series.market not in column.markets]
        series_id, time = self._find_series(series), f"d.{quoted(entry.time_column)}"
        if series_id is None or not foreign:
            return
        names = [quoted(column.name) for column in foreign]
        for start_us, end_us in spans:
            where = f"d.series_id = {series_id} AND {time} >= %s AND {time} < %s"
            values = [self._time(start_us), self._time(end_us)]
            self._note(entry, series, foreign, where, values)
            self._change(
                f"UPDATE {self._table(data_table(entry))} AS d SET {', '.join(f'{name} = NULL' for name in names)} "
                f"WHERE {where} AND ({' OR '.join(f'd.{name} IS NOT NULL' for name in names)})",
                values,
            )

    def _note(
        self, entry: Dataset, series: Series, columns: Sequence[Column], where: str, values: Sequence[Any]
    ) -> None:  # fmt: skip
        """A line of `corrections` for every value in `columns` of the rows (`d`), which no source has."""
        key = " || ".join(self._key_part(entry.column(name)) for name in entry.key)
        for column in columns:
            name = f"d.{quoted(column.name)}"
            self._change(
                f"INSERT INTO {self._table('corrections')} (dataset, key, column_name, old_value, new_value, "
                f"old_source, new_source, corrected_at) SELECT %s, %s || {key} || '}}', %s, "
                f"{self._said(column, name)}, NULL, NULL, NULL, %s FROM {self._data(entry)} "
                f"WHERE {where} AND {name} IS NOT NULL",
                [entry.name, key_head(entry, series), column.name, self._time(self.clock()), *values],
            )

    def _key_part(self, column: Column) -> str:
        """A column of the key of a row (`d`), as it stands in the JSON."""
        quote = "" if column.kind in _NUMBERS else '"'
        said = self._said(column, f"d.{quoted(column.name)}")
        return f"{literal(f', {json.dumps(column.name)}: {quote}')} || {said} || {literal(quote)}"

    def name_orphans(self, orphans: Orphans) -> bool:
        series = orphans.series
        if series is None:
            return False
        entry = registered(series.dataset)
        with self._session():
            self._writable(entry)
            try:
                self._lock(entry, series)
                done = self._change(
                    f'INSERT INTO {self._table("series")} (series_id, market, symbol, "interval") '
                    "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    [orphans.series_id, series.market, series.symbol, series.interval],
                )
                self._commit()
            except BaseException:
                self._rollback()
                raise
            self._series_ids.clear()
        return done > 0

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


def _corrections(entry: Dataset, series: Series, row: Sequence[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Dataset, key, column and value of everything that goes with a row."""
    texts = {
        column.name: iso_or_number(value) if column.kind is Kind.TIME and isinstance(value, int) else str(value)
        for column, value in zip(entry.columns, row, strict=True)
        if value is not None
    }
    key = "".join(
        f", {json.dumps(name)}: {texts[name] if entry.column(name).kind in _NUMBERS else json.dumps(texts[name])}"
        for name in entry.key
    )
    for name, text in texts.items():
        if name not in entry.key:
            yield entry.name, key_head(entry, series) + key + "}", name, text
