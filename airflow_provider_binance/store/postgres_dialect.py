"""How PostgreSQL spells what checks ask: grids, exact comparisons, exact sums."""

from __future__ import annotations

from airflow_provider_binance.market import Interval, iso
from airflow_provider_binance.registry import Dataset, Kind
from airflow_provider_binance.store.sql_forget import SqlForgetter


class PostgresDialect(SqlForgetter):
    """Native types: `numeric` is exact, and `date_bin` knows any grid but the calendar's."""

    def _snapshot(self) -> None:
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

    def _malformed(self, dataset: Dataset) -> str:
        # NaN sorts above infinity; below zero is another rule's.
        numbers = [f"d.{column.name}" for column in dataset.columns if column.kind is Kind.DECIMAL]
        return f"(greatest({', '.join(numbers)}) >= 'Infinity')"

    def _decimals_differ(self, left: str, right: str) -> str:
        return f"{left} IS DISTINCT FROM {right}"

    def _decimal_text(self, value: str) -> str:
        return f"trim_scale({value})::text"

    def _decimal_aggregate(self, name: str, value: str) -> str:
        return f"{name}({value})"
