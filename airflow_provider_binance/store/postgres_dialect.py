"""How PostgreSQL spells what checks ask: grids, exact comparisons, exact sums."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_binance.market import Interval, iso
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.store.postgres_rows import as_text
from airflow_provider_binance.store.postgres_schema import actual, close_after
from airflow_provider_binance.store.schema import quoted
from airflow_provider_binance.store.sql_sidecars import SqlSidecars
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US


class PostgresDialect(SqlSidecars):
    """Native types: `numeric` is exact, and `date_bin` knows any grid but the calendar's."""

    _now = "clock_timestamp()"

    def _seconds_ago(self, time: str) -> str:
        return f"extract(epoch FROM clock_timestamp() - {time})::double precision"

    def _snapshot(self) -> None:
        self._commit_held()
        self._change("BEGIN ISOLATION LEVEL REPEATABLE READ")
        # Room for the sums of a symbol-year's hours; ends with the transaction.
        self._query("SELECT set_config('work_mem', '64MB', true)")

    def _bucket(self, time: str, interval: Interval) -> str:
        if interval.is_calendar:
            return f"date_trunc('month', {time}, 'UTC')"
        return f"date_bin(interval '{interval.size_us} microseconds', {time}, timestamptz '{iso(interval.anchor_us)}')"

    def _next_open(self, time: str, interval: Interval) -> str:
        if interval.is_calendar:
            # In UTC, whatever the session's zone thinks of the length of a month.
            return f"((({time}) AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC')"
        return f"({time} + interval '{interval.size_us} microseconds')"

    def _above(self, left: str, right: str, kind: Kind) -> str:
        return f"{left} > {right}"

    def _malformed(self, columns: Sequence[Column]) -> str:
        # NaN sorts above infinity; below zero is another rule's.
        numbers = [f"d.{column.name}" for column in columns if column.kind is Kind.DECIMAL]
        return f"(greatest({', '.join(numbers)}) >= 'Infinity')"

    def _is_time(self, value: str) -> str:
        return "true"

    def _is_misdated(self, entry: Dataset) -> str:
        if entry.day_column is None:
            return "false"
        day = f"d.{quoted(entry.day_column)}"
        return f"({day} <> (d.{quoted(entry.time_column)} AT TIME ZONE 'UTC')::date)"

    def _clamped(self, time: str) -> str:
        return f"least(greatest({time}, timestamptz '{iso(EARLIEST_US)}'), timestamptz '{iso(LATEST_US)}')"

    def _said(self, column: Column, value: str) -> str:
        text = as_text(column, value).replace("%", "%%")
        if column.kind is not Kind.TIME:
            return text
        calendar = f"{value} >= timestamptz '{iso(EARLIEST_US)}' AND {value} < timestamptz '{iso(LATEST_US)}'"
        return f"CASE WHEN {calendar} THEN {text} ELSE {value}::text END"

    def _value(self, column: Column, series: Series) -> str:
        return actual(column, "d", close_after(series.interval))

    def _named_by_ledger(self, entry: Dataset) -> dict[int, Series]:
        lines = self._query(
            f'SELECT DISTINCT series_id, market, symbol, "interval" FROM {self._table("coverage")} WHERE dataset = %s',
            [entry.name],
        )
        return {number: Series(market, entry.name, symbol, interval) for number, market, symbol, interval in lines}

    def _decimals_differ(self, left: str, right: str) -> str:
        return f"{left} IS DISTINCT FROM {right}"

    def _decimal_text(self, value: str) -> str:
        return f"trim_scale({value})::text"

    def _decimal_aggregate(self, name: str, value: str) -> str:
        return f"{name}({value})"
