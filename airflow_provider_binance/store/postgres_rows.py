"""Rows into PostgreSQL: COPY straight into the table where nothing is, else COPY aside and write the difference.

Measured on 1 M klines: the direct way is about twice as fast as any upsert, and the difference (one join, no ON
CONFLICT) three times as fast as a blind upsert when most rows are there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from psycopg import errors

from airflow_provider_binance.market import DAY_US, from_us
from airflow_provider_binance.records import Batch, Rows, WriteResult
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.rows import TupleRows, copy_chunks
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.postgres_schema import actual, close_after
from airflow_provider_binance.store.precedence import standing
from airflow_provider_binance.store.schema import data_table, literal, qualified, quoted

if TYPE_CHECKING:
    from airflow_provider_binance.store.postgres import PostgresStore


class Part(NamedTuple):
    """The rows (at least one) of one series, and its number."""

    batch: Batch
    rows: Rows
    series_id: int


def write_rows(store: PostgresStore, batch: Batch, rows: Rows, series_id: int) -> WriteResult:
    """Bring `rows` (at least one) into the table of their dataset."""
    table = store._table(data_table(batch.dataset))
    part = Part(batch, rows, series_id)
    bounded, bounds = _bounds(store, [part])
    if not store._query(f"SELECT 1 FROM {table} d WHERE d.series_id = %s AND {bounded} LIMIT 1", [series_id, *bounds]):
        result = copy_directly(store, [part])
        if result is not None:
            return result
    return write_difference(store, [part])


def copy_directly(store: PostgresStore, parts: Sequence[Part]) -> WriteResult | None:
    """COPY the rows of some series, which carry the same columns, into their table; None if a key is there already."""
    first = parts[0]
    return copy_unless_met(store, first.batch.dataset, first.rows.copy_columns, _chunks(parts))


def copy_unless_met(
    store: PostgresStore, dataset: Dataset, columns: Sequence[str], chunks: Iterable[bytes]
) -> WriteResult | None:
    """COPY these lines, each with the number of its series and `columns`, into the table of their dataset; None if a
    key is there already, or comes twice."""
    store._change("SAVEPOINT direct")
    try:
        copied = _copy(store, qualified(data_table(dataset), store._schema), columns, chunks)
    except errors.UniqueViolation:
        store._change("ROLLBACK TO SAVEPOINT direct")
        return None
    store._change("RELEASE SAVEPOINT direct")
    return WriteResult(rows_read=copied, rows_inserted=copied)


def write_difference(store: PostgresStore, parts: Sequence[Part]) -> WriteResult:
    """Write what the rows of some series say otherwise than the stored ones; they carry the same columns, and their
    klines are of one interval."""
    return _Difference(store, parts, store._table(data_table(parts[0].batch.dataset))).write()


def bigints(values: Iterable[int | None]) -> str:
    """Whole numbers as the text of an array: a driver takes several times as long over a list."""
    return "{%s}" % ",".join(["NULL" if value is None else str(value) for value in values])  # noqa: UP031


def _copy(store: PostgresStore, table: str, carried: Sequence[str], chunks: Iterable[bytes]) -> int:
    columns = ", ".join(["series_id", *map(quoted, carried)])
    store._verb = "INSERT"  # the right that COPY needs
    with store._db.cursor() as cursor:
        statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT text, DELIMITER ',')"
        with cursor.copy(cast(Any, statement)) as copy:
            for chunk in chunks:
                copy.write(chunk)
        return cursor.rowcount


def _chunks(parts: Sequence[Part]) -> Iterator[bytes]:
    tuples = [(part.series_id, part.rows) for part in parts if isinstance(part.rows, TupleRows)]
    if tuples:
        yield from copy_chunks(tuples)
    for part in parts:
        if not isinstance(part.rows, TupleRows):
            yield from part.rows.copy_chunks(part.series_id)


def _bounds(store: PostgresStore, parts: Sequence[Part]) -> tuple[str, list[Any]]:
    """The condition, and its values, under which a stored row (`d`) may be one of those that come: else one would read
    the whole series. Where days join the key, the days before and after are looked at too, since an id is one across
    midnight; one by one, so that the key's index is asked for each.
    """
    dataset = parts[0].batch.dataset
    first = dataset.key[0]
    ends = [part.rows.key_bounds() for part in parts]
    bounds: list[Any] = [min(low for low, _ in ends), max(high for _, high in ends)]
    if dataset.column(first).kind is Kind.TIME:
        bounds = [store._time(at_us) for at_us in bounds]
    condition = f"d.{quoted(first)} BETWEEN %s AND %s"
    if dataset.day_column is None:
        return condition, bounds
    return f"{condition} AND d.{quoted(dataset.day_column)} = ANY (%s)", [*bounds, days_of(parts)]


def days_of(parts: Sequence[Part]) -> list[date]:
    """The UTC days that rows may be stored under which come with these."""
    return days_between(min(part.rows.first_us for part in parts), max(part.rows.last_us for part in parts))


def days_between(first_us: int, last_us: int) -> list[date]:
    """The UTC days that rows between these times may be stored under, one more on both sides."""
    days = range((first_us - DAY_US) // DAY_US, (last_us + DAY_US) // DAY_US + 1)
    return [from_us(day * DAY_US).date() for day in days]


class _Difference:
    """Compares rows with the stored ones, in the database, and writes what differs.

    `ingest_stage` has what came, `ingest_new` the part of it that is lacking or says otherwise, `ingest_origin` where
    the stored rows came from.
    """

    def __init__(self, store: PostgresStore, parts: Sequence[Part], table: str) -> None:
        self.store, self.parts, self.table = store, parts, table
        batch, rows, series_id = parts[0]
        dataset = self.dataset = batch.dataset
        self.line = batch.line
        day = dataset.day_column
        self.carried = rows.columns
        self.columns = [quoted(name) for name in ((*rows.columns, day) if day else rows.columns)]
        self.key = [quoted(name) for name in dataset.key]
        self.others = [column for column in self.columns if column not in self.key]
        # NULL is what a source does not carry: it takes no value's place, and any value takes its.
        self.nullable = {quoted(name) for name in rows.columns if dataset.column(name).nullable}
        self.time = quoted(dataset.time_column)
        bounded, self.bounds = _bounds(store, parts)
        own = f"d.series_id = {series_id}" if len(parts) == 1 else "d.series_id = n.series_id"
        self.same = " AND ".join([own, bounded, *(f"d.{k} = n.{k}" for k in self.key)])
        self.close_after = close_after(batch.series.interval)

    def write(self) -> WriteResult:
        """Write the difference and say what was found."""
        store = self.store
        read = self._stage()
        if self.time not in self.key and not self.dataset.first_stays:
            self._refine()
        found = self._find()
        if not found:
            return WriteResult(rows_read=read, rows_unchanged=read)
        names = ", ".join(["series_id", *self.columns])
        inserted = store._change(f"INSERT INTO {self.table} ({names}) SELECT {names} FROM ingest_new WHERE is_new")
        kept = updated = 0
        if found > inserted:
            kept = self._keep()
            if found > inserted + kept:
                self._correct()
                updated = self._update()
        return WriteResult(read, inserted, updated, read - inserted - updated - kept, kept)

    def _stage(self) -> int:
        store, names = self.store, ", ".join(["series_id", *self.columns])
        # Room for the hash of a monthly file, and few samples of its key: a full ANALYZE takes as long as the COPY.
        # Both end with the transaction.
        store._query("SELECT set_config('work_mem', '64MB', true), set_config('default_statistics_target', '10', true)")
        store._change("DROP TABLE IF EXISTS pg_temp.ingest_stage, pg_temp.ingest_new, pg_temp.ingest_origin")
        store._change(f"CREATE TEMPORARY TABLE ingest_stage ON COMMIT DROP AS SELECT {names} FROM {self.table} LIMIT 0")
        store._change(
            f"CREATE TEMPORARY TABLE ingest_new ON COMMIT DROP AS "
            f"SELECT {names}, false AS is_new FROM {self.table} LIMIT 0"
        )
        read = _copy(store, "ingest_stage", self.parts[0].rows.copy_columns, _chunks(self.parts))
        store._change(f"ANALYZE ingest_stage ({self.key[0]})")
        return read

    def _refine(self) -> None:
        """Where one of two times has microseconds and the other is its millisecond, the finer one is both's."""
        store, time, whole = self.store, self.time, "date_trunc('milliseconds', {}.{})"
        coarse, fine = whole.format("n", time), whole.format("d", time)
        store._change(
            f"UPDATE ingest_stage n SET {time} = d.{time} FROM {self.table} d WHERE {self.same} "
            f"AND n.{time} <> d.{time} AND n.{time} = {fine}",
            self.bounds,
        )
        store._change(
            f"UPDATE {self.table} d SET {time} = n.{time} FROM ingest_stage n WHERE {self.same} "
            f"AND n.{time} <> d.{time} AND d.{time} = {coarse}",
            self.bounds,
        )

    def _find(self) -> int:
        """Put aside the rows that are lacking or differ; returns how many."""
        names = ", ".join(["n.series_id", *(f"n.{column}" for column in self.columns)])
        dataset = self.dataset
        compared = [] if dataset.first_stays else [name for name in self.carried if name not in dataset.key]
        differs = " OR ".join(self._differs(name) for name in compared) or "false"
        return self.store._change(
            f"INSERT INTO ingest_new SELECT {names}, d.series_id IS NULL "
            f"FROM ingest_stage n LEFT JOIN {self.table} d ON {self.same} WHERE d.series_id IS NULL OR {differs}",
            self.bounds,
        )

    def _keep(self) -> int:
        """Take out the rows whose stored ones come from a higher source; returns how many.

        Columns that the higher source did not carry are filled.
        """
        store = self.store
        store._change(
            "CREATE TEMPORARY TABLE ingest_origin (series_id integer, range_start timestamptz, range_end timestamptz, "
            "source text, outranks boolean) ON COMMIT DROP"
        )
        own = standing(self.line.source, self.line.source_ref, self.line.published_us)
        differing = {number for (number,) in store._query("SELECT DISTINCT series_id FROM ingest_new WHERE NOT is_new")}
        higher = []
        origins = []
        for batch, _, series_id in self.parts:
            if series_id in differing:
                for span in store._read_sources(batch.dataset, batch.series, batch.start_us, batch.end_us):
                    higher.append(span.standing > own)
                    ends = store._time(span.start_us), store._time(span.end_us)
                    origins.append((series_id, *ends, str(span.source), higher[-1]))
        with store._db.cursor() as cursor:
            cursor.executemany("INSERT INTO ingest_origin VALUES (%s, %s, %s, %s, %s)", origins)
        if not any(higher):
            return 0
        outranked = (
            f"{self.same} AND NOT n.is_new AND o.outranks AND o.series_id = n.series_id "
            f"AND n.{self.time} >= o.range_start AND n.{self.time} < o.range_end"
        )
        fills = " OR ".join(f"d.{c} IS NULL AND n.{c} IS NOT NULL" for c in self.others if c in self.nullable)
        kept = store._change(
            f"DELETE FROM ingest_new n USING ingest_origin o, {self.table} d "
            f"WHERE {outranked} AND NOT ({fills or 'false'})",
            self.bounds,
        )
        if fills:
            sets = ", ".join(
                f"{c} = COALESCE(d.{c}, n.{c})" if c in self.nullable else f"{c} = d.{c}" for c in self.others
            )
            store._change(
                f"UPDATE ingest_new n SET {sets} FROM ingest_origin o, {self.table} d WHERE {outranked}", self.bounds
            )
        return kept

    def _correct(self) -> None:
        """Write a line of `corrections` for every value that is about to change."""
        dataset, store = self.dataset, self.store
        values = ", ".join(
            f"({literal(name)}, {as_text(dataset.column(name), self._actual(name, 'd'))}, "
            f"{as_text(dataset.column(name), self._actual(name, 'n'))}, {self._differs(name)})"
            for name in self.carried
            if name not in dataset.key
        ).replace("%", "%%")
        key = " || ".join(f"', {quoted(name)}: ' || {_json(dataset, name)}" for name in dataset.key).replace("%", "%%")
        store._change(
            f"INSERT INTO {store._table('corrections')} (dataset, key, column_name, old_value, new_value, old_source, "
            f"new_source, corrected_at) SELECT %s, h.head || {key} || '}}', v.name, v.old, v.new, o.source, %s, %s "
            f"FROM ingest_new n JOIN {self.table} d ON {self.same} "
            f"JOIN unnest(%s::int[], %s::text[]) h(series_id, head) ON h.series_id = n.series_id "
            f"LEFT JOIN ingest_origin o ON o.series_id = n.series_id "
            f"AND n.{self.time} >= o.range_start AND n.{self.time} < o.range_end "
            f"CROSS JOIN LATERAL (VALUES {values}) v (name, old, new, differs) WHERE NOT n.is_new AND v.differs",
            [
                dataset.name,
                str(self.line.source),
                store._time(store.clock()),
                *self.bounds,
                [part.series_id for part in self.parts],
                [key_head(dataset, part.batch.series) for part in self.parts],
            ],
        )

    def _actual(self, name: str, alias: str) -> str:
        return actual(self.dataset.column(name), alias, self.close_after)

    def _update(self) -> int:
        sets = ", ".join(f"{c} = COALESCE(n.{c}, d.{c})" if c in self.nullable else f"{c} = n.{c}" for c in self.others)
        return self.store._change(
            f"UPDATE {self.table} d SET {sets} FROM ingest_new n WHERE {self.same} AND NOT n.is_new",
            self.bounds,
        )

    def _differs(self, name: str) -> str:
        differs = f"{self._actual(name, 'd')} IS DISTINCT FROM {self._actual(name, 'n')}"
        return f"(n.{quoted(name)} IS NOT NULL AND {differs})" if quoted(name) in self.nullable else differs


def as_text(column: Column, value: str) -> str:
    """A value as `corrections` spells it, the same in both databases."""
    if column.kind is Kind.DECIMAL:
        return f"trim_scale({value})::text"
    if column.kind is Kind.BOOLEAN:
        return f"{value}::integer::text"
    return _iso(value) if column.kind is Kind.TIME else f"{value}::text"


def _iso(value: str) -> str:
    """A time as ISO 8601 with `Z`, as short as exactness allows (`market.iso`)."""
    utc = f"{value} AT TIME ZONE 'UTC'"
    micros = f"extract(microseconds FROM {value})::bigint"
    return (
        f"to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS' || CASE WHEN {micros} % 1000000 = 0 THEN '' "
        f"WHEN {micros} % 1000 = 0 THEN '.MS' ELSE '.US' END || '\"Z\"')"
    )


def _json(dataset: Dataset, name: str) -> str:
    column: Column = dataset.column(name)
    text = as_text(column, f"n.{quoted(name)}")
    is_number = column.kind in (Kind.INTEGER, Kind.SMALL_INTEGER, Kind.BOOLEAN)
    return text if is_number else f"to_json({text})::text"
