"""Tables of ticks in PostgreSQL: a native partition per UTC month of the day column, made when it is first needed.

Months, not days: whoever asks without a day touches every partition, and with one a day the history of a few years
takes more locks than a server has by default (64 for each of 100 connections). So what is too old is dropped by months.

A hypertable of TimescaleDB would be made here and nowhere else: `table` would end with `create_hypertable(…,
by_range('<day column>', interval '1 month'))`, `make` would do nothing, and `drop` would call `drop_chunks`.
"""

from __future__ import annotations

from airflow_provider_binance.market import INTERVALS, from_us
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.store.schema import qualified, quoted

_MONTH = INTERVALS["1M"]

# They run with the rights of the tables' owner, so that a role that may only write rows can have its months made and
# dropped; the name is looked for in the catalog, since to_regclass() remembers what was not there before a wait.
_MAKE = """CREATE OR REPLACE FUNCTION {make}(parent regclass, day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month date := date_trunc('month', day::timestamp)::date;
    space text;
    child text;
BEGIN
    IF NOT has_table_privilege(session_user, parent, 'INSERT') THEN
        RAISE insufficient_privilege USING MESSAGE = format('permission denied for table %s', parent);
    END IF;
    SELECT n.nspname, c.relname || to_char(month, '_YYYY_MM') INTO space, child
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent;
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = space AND c.relname = child) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(format('%I.%I', space, child), 0));
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = space AND c.relname = child) THEN
        RETURN;
    END IF;
    -- Attached, not made as a part: that would wait for all who read or write the table.
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL)', space, child, parent);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, space, child,
        month, (month + interval '1 month')::date);
END $$"""
_DROP = """CREATE OR REPLACE FUNCTION {drop}(parent regclass, before date) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child record;
BEGIN
    IF NOT has_table_privilege(session_user, parent, 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('permission denied for table %s', parent);
    END IF;
    FOR child IN SELECT n.nspname, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhparent = parent
            AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before ORDER BY 2 LOOP
        EXECUTE format('DROP TABLE %I.%I', child.nspname, child.relname);
        RETURN NEXT child.relname;
    END LOOP;
END $$"""


def statements(dataset: Dataset, table: str, lines: list[str], schema: str | None) -> list[str]:
    """The partitioned table of a dataset with a day column, its index by time, and the functions for its months."""
    assert dataset.day_column is not None
    day = quoted(dataset.day_column)
    key = ", ".join(["series_id", day, *(quoted(column) for column in dataset.key)])
    body = ",\n    ".join([*lines, f"{day} date NOT NULL", f"PRIMARY KEY ({key})"])
    index = quoted(f"{dataset.name}_data_by_time")
    return [
        f"CREATE TABLE {table} (\n    {body}\n) PARTITION BY RANGE ({day})",
        # Rows lie in the order of their time, series by series, so that the least of all indexes is enough.
        f"CREATE INDEX {index} ON {table} USING brin ({quoted(dataset.time_column)}) WITH (pages_per_range = 32)",
        _MAKE.format(make=qualified("tick_month", schema)),
        _DROP.format(drop=qualified("drop_tick_months", schema)),
    ]


def months(first_us: int, last_us: int) -> list[str]:
    """The first days of the months from one instant to another, both included."""
    return [f"{from_us(at):%Y-%m-%d}" for at in _MONTH.opens(_MONTH.floor(first_us), last_us + 1)]
