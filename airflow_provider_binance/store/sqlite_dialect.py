"""How SQLite spells what checks ask. Its decimals are text: floats compare them, Python where that is too rough.

A float is the nearest one to its decimal, so that two decimals never come out in the wrong order, only as equal. Sums
and extremes are aggregates of Python's Decimal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, InvalidOperation

from airflow_provider_binance.kline_rows import canonical
from airflow_provider_binance.market import INTERVALS, Interval, iso_or_number
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.store.sql_sidecars import SqlSidecars
from airflow_provider_binance.store.sqlite_schema import NOW_US
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US

_MONTH = INTERVALS["1M"]
#: A sum of a month of minutes has no more digits than this.
_EXACT = Context(prec=100)

_Text = str | int | float | None


class SqliteDialect(SqlSidecars):
    """Times are integers, and months this package's own."""

    _now = NOW_US

    def _seconds_ago(self, time: str) -> str:
        return f"(({NOW_US} - {time}) / 1000000.0)"

    def _snapshot(self) -> None:
        self._change("BEGIN")

    def _bucket(self, time: str, interval: Interval) -> str:
        if interval.is_calendar:
            return f"month_of({time})"
        return f"(({time}) - (({time}) - {interval.anchor_us}) % {interval.size_us})"

    def _next_open(self, time: str, interval: Interval) -> str:
        if interval.is_calendar:
            return f"month_after({time})"
        return f"(({time}) + {interval.size_us})"

    def _above(self, left: str, right: str, kind: Kind) -> str:
        if kind is not Kind.DECIMAL:
            return f"{left} > {right}"
        if "0" in (left, right):
            return f"CAST({left} AS REAL) > CAST({right} AS REAL)"
        rough = f"CAST({left} AS REAL) - CAST({right} AS REAL)"
        return f"{left} <> {right} AND ({rough} > 0 OR {rough} = 0 AND decimal_above({left}, {right}))"

    def _malformed(self, columns: Sequence[Column]) -> str:
        checks = []
        for column in columns:
            name, null = f"d.{column.name}", f"d.{column.name} IS NULL"
            if column.kind is Kind.DECIMAL:
                plain = f"typeof({name}) = 'text' AND {name} <> '' AND {name} NOT GLOB '*[^0-9.-]*'"
            else:
                plain = f"typeof({name}) = 'integer'"
            checks.append(f"NOT ({f'{null} OR ' if column.nullable else ''}{plain})")
        return f"({' OR '.join(checks)})"

    def _is_time(self, value: str) -> str:
        return f"typeof({value}) = 'integer'"

    def _is_misdated(self, entry: Dataset) -> str:
        return "false"  # the day is made of the time

    def _clamped(self, time: str) -> str:
        # Text and bytes sort above every number, so that they come out as the end of time.
        return f"min(max({time}, {EARLIEST_US}), {LATEST_US})"

    def _said(self, column: Column, value: str) -> str:
        return f"as_told({value})" if column.kind is Kind.TIME else f"CAST({value} AS TEXT)"

    def _value(self, column: Column, series: Series) -> str:
        return f"d.{column.name}"

    def _named_by_ledger(self, entry: Dataset) -> dict[int, Series]:
        return {}

    def _decimals_differ(self, left: str, right: str) -> str:
        return f"({left} IS NOT {right} AND decimals_differ({left}, {right}))"

    def _decimal_text(self, value: str) -> str:
        return value

    def _decimal_aggregate(self, name: str, value: str) -> str:
        return f"decimal_{name}({value})"


class _Aggregate:
    """Over decimals as text; NULL is passed over, and so is what is no number: a check of its own tells of that."""

    def __init__(self) -> None:
        self.value: Decimal | None = None

    def step(self, text: _Text) -> None:
        """Take a value."""
        if (value := _decimal(text)) is not None:
            self.value = value if self.value is None else self.joined(self.value, value)

    def joined(self, one: Decimal, other: Decimal) -> Decimal:
        """What two values make."""
        raise NotImplementedError

    def finalize(self) -> str | None:
        """Canonical text."""
        return None if self.value is None else canonical(format(self.value, "f"))


class _Sum(_Aggregate):
    def joined(self, one: Decimal, other: Decimal) -> Decimal:
        return _EXACT.add(one, other)


class _Max(_Aggregate):
    def joined(self, one: Decimal, other: Decimal) -> Decimal:
        return max(one, other)


class _Min(_Aggregate):
    def joined(self, one: Decimal, other: Decimal) -> Decimal:
        return min(one, other)


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the spellings above use."""
    for name, aggregate in (("decimal_sum", _Sum), ("decimal_max", _Max), ("decimal_min", _Min)):
        connection.create_aggregate(name, 1, aggregate)  # type: ignore[arg-type]  # the stub's protocol names no `step`
    connection.create_function("decimal_above", 2, _above, deterministic=True)
    connection.create_function("decimals_differ", 2, _differ, deterministic=True)
    connection.create_function("as_told", 1, _as_told, deterministic=True)
    connection.create_function("month_of", 1, _or_null(_MONTH.floor), deterministic=True)
    connection.create_function("month_after", 1, _or_null(_MONTH.next_open), deterministic=True)


def _or_null(of: Callable[[int], int]) -> Callable[[int | None], int | None]:
    return lambda at_us: None if at_us is None else of(at_us)


def _as_told(value: _Text | bytes) -> str | None:
    """A time as ISO text, or whatever else stands in its place."""
    return iso_or_number(value) if isinstance(value, int) else None if value is None else str(value)


def _above(left: _Text, right: _Text) -> bool:
    a, b = _decimal(left), _decimal(right)
    return a is not None and b is not None and a > b


def _differ(left: _Text, right: _Text) -> bool:
    return _decimal(left) != _decimal(right)


def _decimal(text: _Text) -> Decimal | None:
    try:
        value = None if text is None else Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() else None
