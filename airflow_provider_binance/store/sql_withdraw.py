"""`SqlWithdrawer`: takes back what is wrong, in one transaction under the lock of the series, and notes every value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_provider_binance.coverage import erased
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Column, Continuity, Dataset, Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.inspection import Held, Orphans, Withdrawn
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
        rows: Sequence[Held] = (),
        ranges: Sequence[tuple[int, int]] = (),
        overfull: Sequence[tuple[int, int]] = (),
        beyond: tuple[int, int] | None = None,
        misdated: bool = False,
        source: Source | None,
        seen_line: int,
    ) -> Withdrawn:
        entry = registered(series.dataset)
        if not (rows or ranges or overfull or beyond or misdated):
            return Withdrawn()
        start_us = min([*(held.start_us for held in rows), *(start for start, _ in ranges)], default=0)
        end_us = max([*(held.end_us for held in rows), *(end for _, end in ranges)], default=0)
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
                gone = self._withdraw_rows(entry, series, rows, source)
                gone += self._withdraw_beyond(entry, series, beyond) if beyond else 0
                gone += self._withdraw_misdated(entry, series) if misdated else 0
                self._empty_columns(entry, series, overfull)
                erased_ranges = self._withdraw_coverage(entry, series, ranges)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return Withdrawn(gone, erased_ranges)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _withdraw_rows(self, entry: Dataset, series: Series, rows: Sequence[Held], source: Source | None) -> int:
        series_id = self._find_series(series)
        if series_id is None or not rows:
            return 0
        low, high = min(held.start_us for held in rows), max(held.end_us for held in rows)
        origins, at = self._read_sources(entry, series, low, high), low
        spans: list[tuple[int, int, Source | None]] = []
        for origin in origins:
            spans += [(at, origin.start_us, None), (origin.start_us, origin.end_us, origin.source)]
            at = origin.end_us
        spans.append((at, high, None))
        gone = 0
        for held in rows:
            for start_us, end_us, old_source in spans:
                start_us, end_us = max(start_us, held.start_us), min(end_us, held.end_us)
                if start_us < end_us:
                    where, values = self._rows_held(entry, series_id, held._replace(start_us=start_us, end_us=end_us))
                    gone += self._take_out(entry, series, where, values, old_source, source)
        return gone

    def _rows_held(self, entry: Dataset, series_id: int, held: Held) -> tuple[str, list[Any]]:
        """The condition, with its values, of rows (`d`)."""
        within, values = self._between(entry, held.start_us, held.end_us)
        where = f"d.series_id = {series_id} AND {within}"
        if held.first_id is None or held.last_id is None:
            return where, values
        return f"{where} AND d.{quoted(entry.key[0])} BETWEEN %s AND %s", [*values, held.first_id, held.last_id]

    def _take_out(
        self, entry: Dataset, series: Series, where: str, values: Sequence[Any], old_source: Source | None = None,
        source: Source | None = None,
    ) -> int:  # fmt: skip
        """Delete rows (`d`), every value of theirs noted."""
        columns = [column for column in entry.columns if column.name not in entry.key]
        self._note(entry, series, columns, where, values, old_source, source)
        return self._change(f"DELETE FROM {self._table(data_table(entry))} AS d WHERE {where}", values)

    def _withdraw_misdated(self, entry: Dataset, series: Series) -> int:
        if (series_id := self._find_series(series)) is None:
            return 0
        return self._take_out(entry, series, f"d.series_id = {series_id} AND {self._is_misdated(entry)}", [])

    def _withdraw_beyond(self, entry: Dataset, series: Series, window: tuple[int, int]) -> int:
        if (series_id := self._find_series(series)) is None:
            return 0
        where, values = self._beyond(entry, series_id, *window)
        return self._take_out(entry, series, where, values)

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
        self, entry: Dataset, series: Series, columns: Sequence[Column], where: str, values: Sequence[Any],
        old_source: Source | None = None, new_source: Source | None = None,
    ) -> None:  # fmt: skip
        """A line of `corrections` for every value in `columns` of the rows (`d`), which `new_source` (None: nobody)
        has not."""
        key = " || ".join(self._key_part(entry.column(name)) for name in entry.key)
        for column in columns:
            name = self._value(column, series)
            self._change(
                f"INSERT INTO {self._table('corrections')} (dataset, key, column_name, old_value, new_value, "
                f"old_source, new_source, corrected_at) SELECT %s, %s || {key} || '}}', %s, "
                f"{self._said(column, name)}, NULL, %s, %s, %s FROM {self._data(entry)} "
                f"WHERE {where} AND {name} IS NOT NULL",
                [
                    entry.name,
                    key_head(entry, series),
                    column.name,
                    old_source and str(old_source),
                    new_source and str(new_source),
                    self._time(self.clock()),
                    *values,
                ],
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
        """Take coverage back where there are no rows: somebody may have brought them meanwhile. A hole between ids has
        the rows on either side of it, and nobody wrote since it was seen."""
        series_id = self._find_series(series)
        empty = [
            (start, end)
            for start, end in ranges
            if entry.continuity is Continuity.ID or series_id is None
            or not self._count(entry, series_id, start, end)
        ]  # fmt: skip
        for start, end in empty:
            before = self._read_coverage(entry, series, start, end)
            after = erased(before, start, end, count=self._counter(entry, series))
            self._replace_coverage(entry, series, before, self._told_ids(entry, series, before, after))
        return len(empty)
