"""Rows into SQLite: inserted straight where nothing is, else compared with the stored ones, and the difference written.

Either is one statement for thousands of rows: on identical ones a comparison is faster than any upsert. Only rows that
say otherwise than stored ones become objects here, since a correction must name every old value.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from decimal import Decimal, InvalidOperation

from airflow_provider_binance.market import iso_or_number
from airflow_provider_binance.records import Batch, Row, Rows, WriteResult
from airflow_provider_binance.registry import Kind
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.precedence import Origins, Span, standing
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sqlite_incoming import Chunk, Incoming

Value = int | str | None

_TAKEN = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


def write_rows(
    db: sqlite3.Connection, batch: Batch, series_id: int, spans: Callable[[], Sequence[Span]], now_us: int
) -> WriteResult:
    """Bring the rows of `batch` (at least one) into the table; `spans` tells where the stored ones came from."""
    rows = batch.rows
    assert rows is not None
    incoming = Incoming(db, rows)
    table = quoted(data_table(batch.dataset))
    names = ", ".join(quoted(name) for name in rows.columns)
    head = f"INSERT INTO {table} (series_id, {names}) SELECT {series_id}, "
    if not _has_rows(db, table, series_id, batch.dataset.key[0], rows):
        inserted = 0
        db.execute("SAVEPOINT direct")
        try:
            with closing(incoming.chunks()) as chunks:
                for chunk in chunks:
                    inserted += db.execute(f"{head}{', '.join(chunk.values)} FROM {chunk.table}").rowcount
        except sqlite3.IntegrityError as error:
            db.execute("ROLLBACK TO direct")
            if error.sqlite_errorcode not in _TAKEN:
                raise
        else:
            return WriteResult(rows_read=inserted, rows_inserted=inserted)
        finally:
            if db.in_transaction:
                db.execute("RELEASE direct")
    comparison = _Comparison(db, batch, rows, series_id, head, spans, now_us)
    total = WriteResult()
    with closing(incoming.chunks()) as chunks:
        for chunk in chunks:
            total += comparison.write(chunk)
    return total


class _Comparison:
    """Compares the rows of a batch with the stored ones and writes the difference."""

    def __init__(
        self,
        db: sqlite3.Connection,
        batch: Batch,
        rows: Rows,
        series_id: int,
        insert: str,
        spans: Callable[[], Sequence[Span]],
        now_us: int,
    ) -> None:
        self.db, self.batch, self.rows, self.insert, self.now_us = db, batch, rows, insert, now_us
        self._spans = spans
        self._origins: Origins | None = None
        self.series_id, self.table = series_id, quoted(data_table(batch.dataset))
        dataset, columns = batch.dataset, rows.columns
        self.columns = [dataset.column(name) for name in columns]
        self.kinds = [column.kind for column in self.columns]
        self.time = columns.index(dataset.time_column)
        self.key = [columns.index(name) for name in dataset.key]
        self.others = [i for i in range(len(columns)) if i not in self.key]
        self.head = key_head(dataset, batch.series)
        self.own = standing(batch.line.source, batch.line.source_ref, batch.line.published_us)
        sets = ", ".join(f"{quoted(columns[i])} = ?" for i in self.others)
        where = " AND ".join(f"{quoted(name)} = ?" for name in dataset.key)
        self.update = f"UPDATE {self.table} SET {sets} WHERE series_id = {series_id} AND {where}"

    def write(self, chunk: Chunk) -> WriteResult:
        """Write what differs and say what was found."""
        values, stored = chunk.values, [f"d.{quoted(name)}" for name in self.rows.columns]
        same = " AND ".join([f"d.series_id = {self.series_id}", *(f"{stored[i]} = {values[i]}" for i in self.key)])
        if self.time not in self.key and not self.batch.dataset.first_stays:
            self._refine(chunk, f"{stored[self.time]}", values[self.time], same)
        compared = [] if self.batch.dataset.first_stays else self.others
        differs = " OR ".join(self._differs(i, stored[i], values[i]) for i in compared) or "false"
        lacking, changed = self.db.execute(
            f"SELECT count(*) - count(d.series_id), count(d.series_id) "
            f"FROM {chunk.table} LEFT JOIN {self.table} d ON {same} WHERE d.series_id IS NULL OR {differs}"
        ).fetchone()
        inserted = updated = kept = 0
        if changed:
            # A cross join reads in the order of what came.
            pairs = self.db.execute(
                f"SELECT {', '.join([*stored, *values])} FROM {chunk.table} CROSS JOIN {self.table} d ON {same} "
                f"WHERE {differs}"
            ).fetchall()
            updated, kept = self._replace(
                (pair[: len(stored)], self._finest(pair[: len(stored)], pair[len(stored) :])) for pair in pairs
            )
        if lacking:
            # What a key has is there, and by now as it shall be.
            names = ", ".join(quoted(name) for name in ("series_id", *self.batch.dataset.key))
            inserted = self.db.execute(
                f"{self.insert}{', '.join(values)} FROM {chunk.table} WHERE true ON CONFLICT ({names}) DO NOTHING"
            ).rowcount
        return WriteResult(chunk.rows, inserted, updated, chunk.rows - inserted - updated - kept, kept)

    def _refine(self, chunk: Chunk, stored: str, value: str, same: str) -> None:
        """Where the stored time is the millisecond of one that comes with microseconds, the finer one stays."""
        key = [chunk.values[i] for i in self.key]
        finer = self.db.execute(
            f"SELECT {', '.join([value, *key])} FROM {chunk.table} CROSS JOIN {self.table} d ON {same} "
            f"WHERE {stored} <> {value} AND {stored} = {value} / 1000 * 1000"
        ).fetchall()
        where = " AND ".join(f"{quoted(name)} = ?" for name in self.batch.dataset.key)
        time = quoted(self.batch.dataset.time_column)
        self.db.executemany(f"UPDATE {self.table} SET {time} = ? WHERE series_id = {self.series_id} AND {where}", finer)

    def _finest(self, old: Row, new: Row) -> Row:
        """What comes, with the stored time where its own is the millisecond of that."""
        was, comes = old[self.time], new[self.time]
        if self.time in self.key or not isinstance(was, int) or was // 1000 * 1000 != comes:
            return new
        return (*new[: self.time], was, *new[self.time + 1 :])

    def _differs(self, i: int, stored: str, value: str) -> str:
        if i == self.time:  # milliseconds may have come where microseconds are
            return f"({stored} IS NOT {value} AND {stored} / 1000 * 1000 IS NOT {value})"
        # NULL is what a source does not carry: it takes no value's place, and any value takes its.
        if self.columns[i].nullable:
            return f"{stored} IS NOT {value} AND {value} IS NOT NULL"
        return f"{stored} IS NOT {value}"

    def _differing(self, old: Sequence[Value], new: Sequence[Value]) -> list[int]:
        # NULL is what a source does not carry: it takes no value's place, and any value takes its.
        return [
            i for i in self.others
            if old[i] != new[i] is not None and not (self.kinds[i] is Kind.DECIMAL and _equal(old[i], new[i]))
        ]  # fmt: skip

    def _origin(self, row: Row) -> Span | None:
        if self._origins is None:
            self._origins = Origins(self._spans())
        at = row[self.time]
        assert isinstance(at, int)
        return self._origins.at(at)

    def _stays(self, row: Row) -> bool:
        origin = self._origin(row)
        return origin is not None and origin.standing > self.own

    def _replace(self, pairs: Iterable[tuple[Row, Row]]) -> tuple[int, int]:
        """Put the second row of each pair in the place of the first; returns how many were, and how many stayed."""
        corrections, updates, kept = [], [], 0
        dataset, source = self.batch.dataset.name, str(self.batch.line.source)
        for old, new in pairs:
            if not self._differing(old, new):
                continue
            if self._stays(new):
                # Columns that the higher source did not carry are filled.
                new = tuple(its if was is None else was for was, its in zip(old, new, strict=True))
                if old == new:
                    kept += 1
                    continue
            origin, key = self._origin(new), self._key_text(new)
            came_from = None if origin is None else str(origin.source)
            corrections += [
                (
                    dataset,
                    key,
                    self.rows.columns[i],
                    self._text(old, i),
                    self._text(new, i),
                    came_from,
                    source,
                    self.now_us,
                )
                for i in self._differing(old, new)
            ]
            updates.append((*(old[i] if new[i] is None else new[i] for i in self.others), *(new[i] for i in self.key)))
        self.db.executemany(
            "INSERT INTO corrections (dataset, key, column_name, old_value, new_value, old_source, new_source, "
            "corrected_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            corrections,
        )
        return self.db.executemany(self.update, updates).rowcount if updates else 0, kept

    def _key_text(self, row: Row) -> str:
        parts = []
        for i in self.key:
            is_number = self.kinds[i] in (Kind.INTEGER, Kind.SMALL_INTEGER, Kind.BOOLEAN)
            parts.append(f', "{self.rows.columns[i]}": {json.dumps(row[i] if is_number else self._text(row, i))}')
        return self.head + "".join(parts) + "}"

    def _text(self, row: Sequence[Value], i: int) -> str | None:
        value = row[i]
        if value is None:
            return None
        return iso_or_number(value) if self.kinds[i] is Kind.TIME and isinstance(value, int) else str(value)


def _has_rows(db: sqlite3.Connection, table: str, series_id: int, key: str, rows: Rows) -> bool:
    found = db.execute(
        f"SELECT 1 FROM {table} WHERE series_id = ? AND {quoted(key)} BETWEEN ? AND ? LIMIT 1",
        (series_id, *rows.key_bounds()),
    )
    return found.fetchone() is not None


def _equal(old: Value, new: Value) -> bool:
    """Whether two decimals are one number, spelled differently by whoever wrote the first by hand."""
    try:
        return old is not None and new is not None and Decimal(old) == Decimal(new)
    except (InvalidOperation, TypeError):  # bytes, which a TEXT column takes too
        return False
