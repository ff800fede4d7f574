"""Many series of one dataset into PostgreSQL at once: as many statements for a thousand as for one.

Rows whose keys are new are one COPY into the table. Ranges that go on where the last flush ended are one UPDATE; what
is laid otherwise is read by one query and written by two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, State, WriteResult
from airflow_provider_binance.registry import Dataset, Kind
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.store.postgres_rows import (
    Part,
    bigints,
    copy_directly,
    copy_unless_met,
    days_between,
    write_difference,
)
from airflow_provider_binance.store.schema import data_table, quoted

if TYPE_CHECKING:
    from airflow_provider_binance.store.postgres import PostgresStore

#: Where the last range of a series begins, as far as this store knows.
Tails = dict[Series, int]

_AT = "timestamptz 'epoch' + {} * interval '1 microsecond'"


def write_many(store: PostgresStore, batches: Sequence[Batch], line: LedgerLine, tails: Tails) -> WriteResult:
    """Write rows and coverage of series of one dataset, under their locks; `tails` is a hint, and kept up to date."""
    first: dict[Series, Batch] = {}
    again = [batch for batch in batches if first.setdefault(batch.series, batch) is not batch]
    result = _write_rows(store, list(first.values()), line)
    _write_coverage(store, list(first.values()), tails)
    return result + write_many(store, again, line, tails) if again else result


def write_rows_of_many(store: PostgresStore, many: ManyRows, line: LedgerLine) -> WriteResult:
    """Write rows of series of one dataset, under their locks: in one COPY those of which nothing is stored where they
    come."""
    numbers = _numbers(store, list(many.rows))
    store._make_months(many.dataset, many.first_us, many.last_us)
    days = days_between(many.first_us, many.last_us)
    met = _met(store, many.dataset, list(numbers.values()), many.key_bounds(), days)
    old = [series for series, number in numbers.items() if number in met] if met else []
    result = WriteResult()
    if len(old) < len(numbers):
        chunks = many.copy_chunks(numbers, without=set(old))
        copied = copy_unless_met(store, many.dataset, many.copy_columns, chunks)
        if copied is None:
            old = list(numbers)
        else:
            result += copied
    if old:
        parts = []
        for series in old:
            rows = many.of(series)
            batch = Batch(many.dataset, series, rows.first_us, rows.last_us + 1, rows, line)
            parts.append(Part(batch, rows, numbers[series]))
        result += write_difference(store, parts)
    return result


def _write_rows(store: PostgresStore, batches: Sequence[Batch], line: LedgerLine) -> WriteResult:
    full = [batch for batch in batches if batch.rows is not None and len(batch.rows)]
    if not full:
        return WriteResult()
    numbers = _numbers(store, [batch.series for batch in full])
    groups: dict[tuple[Any, ...], list[Part]] = {}
    for batch in full:
        rows = batch.rows
        assert rows is not None
        kind = (rows.columns, rows.copy_columns, batch.series.interval)
        groups.setdefault(kind, []).append(Part(batch, rows, numbers[batch.series]))
    every = [part for parts in groups.values() for part in parts]
    first_us = min(part.rows.first_us for part in every)
    last_us = max(part.rows.last_us for part in every)
    store._make_months(full[0].dataset, first_us, last_us)
    met = _met(
        store, full[0].dataset, [part.series_id for part in every], [part.rows.key_bounds() for part in every],
        days_between(first_us, last_us),
    )  # fmt: skip
    result = WriteResult()
    for parts in groups.values():
        new = [part for part in parts if part.series_id not in met]
        old = [part for part in parts if part.series_id in met]
        if new:
            copied = copy_directly(store, new)
            if copied is None:
                old = parts
            else:
                result += copied
        if old:
            result += write_difference(store, [part._replace(batch=replace(part.batch, line=line)) for part in old])
    return result


def _numbers(store: PostgresStore, series: Sequence[Series]) -> Mapping[Series, int]:
    """The numbers of the series, given to them now where they have none."""
    known = store._series_ids
    if lacking := [one for one in series if (one.market, one.symbol, one.interval) not in known]:
        named = [[one.market for one in lacking], [one.symbol for one in lacking], [one.interval for one in lacking]]
        wanted = 'unnest(%s::text[], %s::text[], %s::text[]) w(market, symbol, "interval")'
        table = store._table("series")
        store._change(
            f'INSERT INTO {table} (market, symbol, "interval") SELECT * FROM {wanted} ON CONFLICT DO NOTHING', named
        )
        found = store._query(
            f'SELECT market, symbol, "interval", series_id FROM {table} JOIN {wanted} '
            'USING (market, symbol, "interval")', named,
        )  # fmt: skip
        known.update({(market, symbol, interval): number for market, symbol, interval, number in found})
    return {one: known[one.market, one.symbol, one.interval] for one in series}


def _met(
    store: PostgresStore, dataset: Dataset, numbers: Sequence[int], bounds: Sequence[tuple[int, int]], on: list[date]
) -> set[int]:
    """The numbers of the series of which rows are stored between the first and the last key that come, on these days
    where the days join the key."""
    key = quoted(dataset.key[0])
    low, high = "w.low", "w.high"
    if dataset.column(dataset.key[0]).kind is Kind.TIME:
        low, high = _AT.format(low), _AT.format(high)
    values: list[Any] = []
    days = ""
    if dataset.day_column:
        days, values = f"AND d.{quoted(dataset.day_column)} = ANY (%s) ", [on]
    # The key's index is asked once a series, whatever the planner thinks of a table that grows while it is read.
    store._query("SELECT set_config('enable_seqscan', 'off', true)")
    found = store._query(
        f"SELECT series_id FROM (SELECT w.series_id, (SELECT 1 FROM {store._table(data_table(dataset))} d "
        f"WHERE d.series_id = w.series_id AND d.{key} BETWEEN {low} AND {high} {days}LIMIT 1) AS met "
        f"FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) w(series_id, low, high)) asked WHERE met = 1",
        [
            *values,
            bigints(numbers),
            bigints(least for least, _ in bounds),
            bigints(most for _, most in bounds),
        ],
    )
    return {number for (number,) in found}


# --- coverage ---------------------------------------------------------------------------------------------------------

_NAMES = "%s::text[], %s::text[], %s::text[]"
_OF_WANTED = 'c.dataset = %s AND c.market = w.market AND c.symbol = w.symbol AND c."interval" = w."interval"'


def _write_coverage(store: PostgresStore, batches: Sequence[Batch], tails: Tails) -> None:
    told = [batch for batch in batches if batch.coverage]
    left = {batch.series: batch for batch in told}
    for series in _extend(store, [batch for batch in told if _goes_on(batch, tails)], tails):
        del left[series]
    if left:
        _lay(store, list(left.values()), tails)


def _goes_on(batch: Batch, tails: Tails) -> bool:
    """Whether it may do to make a range longer."""
    if len(batch.coverage) != 1 or batch.series not in tails:
        return False
    [known] = batch.coverage
    return known.is_provisional and not known.evidence and known.next_check_at_us is None and known.row_count >= 0


def _extend(store: PostgresStore, batches: Sequence[Batch], tails: Tails) -> set[Series]:
    """Make the last ranges longer that say the same and end where these begin; returns whose."""
    if not batches:
        return set()
    ranges = [batch.coverage[0] for batch in batches]
    table = store._table("coverage")
    start, end = _AT.format("w.low"), _AT.format("w.high")
    found = store._query(
        f"UPDATE {table} c SET range_end = {end}, row_count = c.row_count + w.rows, "
        "first_id = COALESCE(c.first_id, w.first_id), last_id = COALESCE(w.last_id, c.last_id), "
        f"checked_at = greatest(c.checked_at, {_AT.format('w.checked')}) "
        f"FROM unnest({_NAMES}, %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], "
        '%s::bigint[]) WITH ORDINALITY w(market, symbol, "interval", tail, low, high, rows, first_id, last_id, '
        f"checked, place) WHERE {_OF_WANTED} AND c.range_start = {_AT.format('w.tail')} AND c.range_end = {start} "
        "AND c.state = 'complete' AND c.confirmed_by IS NULL AND c.evidence = '' AND c.next_check_at IS NULL "
        f"AND NOT EXISTS (SELECT FROM {table} o WHERE o.dataset = c.dataset AND o.market = c.market "
        f'AND o.symbol = c.symbol AND o."interval" = c."interval" AND o.range_start >= {start} '
        f"AND o.range_start <= {end}) RETURNING w.place",
        [
            *_names(batch.series for batch in batches),
            bigints(tails[batch.series] for batch in batches),
            bigints(known.start_us for known in ranges),
            bigints(known.end_us for known in ranges),
            bigints(known.row_count for known in ranges),
            bigints(known.first_id for known in ranges),
            bigints(known.last_id for known in ranges),
            bigints(known.checked_at_us for known in ranges),
            batches[0].dataset.name,
        ],
    )
    return {batches[place - 1].series for (place,) in found}


def _lay(store: PostgresStore, batches: Sequence[Batch], tails: Tails) -> None:
    """Lay what is told over what the ledger has, and write only what thereby differs."""
    dataset = batches[0].dataset
    before = _read(store, batches)
    gone: list[tuple[Series, CoverageRange]] = []
    come: list[tuple[Series, CoverageRange]] = []
    for batch, known in zip(batches, before, strict=True):
        after = store._laid(dataset, batch.series, known, batch.coverage)
        old, new = set(known), set(after)
        gone += [(batch.series, one) for one in known if one not in new]
        come += [(batch.series, one) for one in after if one not in old]
        tails[batch.series] = after[-1].start_us
    table = store._table("coverage")
    if gone:
        store._change(
            f'DELETE FROM {table} c USING unnest({_NAMES}, %s::bigint[]) w(market, symbol, "interval", start) '
            f"WHERE {_OF_WANTED} AND c.range_start = {_AT.format('w.start')}",
            [*_names(series for series, _ in gone), bigints(one.start_us for _, one in gone), dataset.name],
        )
    if come:
        _insert(store, table, dataset, come)


def _insert(
    store: PostgresStore, table: str, dataset: Dataset, lines: Sequence[tuple[Series, CoverageRange]]
) -> None:  # fmt: skip
    ranges = [known for _, known in lines]
    numbers = ", ".join(["%s::bigint[]"] * 7)
    times = {name: _AT.format(f"w.{name}") for name in ("low", "high", "checked", "again")}
    store._change(
        f'INSERT INTO {table} (dataset, market, symbol, "interval", range_start, range_end, state, row_count, '
        "first_id, last_id, confirmed_by, evidence, checked_at, next_check_at) "
        f'SELECT %s, w.market, w.symbol, w."interval", {times["low"]}, {times["high"]}, w.state, w.rows, w.first_id, '
        f"w.last_id, w.confirmed_by, w.evidence, {times['checked']}, {times['again']} "
        f"FROM unnest({_NAMES}, {numbers}, %s::text[], %s::text[], %s::text[]) "
        'w(market, symbol, "interval", low, high, rows, first_id, last_id, checked, again, state, confirmed_by, '
        "evidence)",
        [
            dataset.name,
            *_names(series for series, _ in lines),
            bigints(known.start_us for known in ranges),
            bigints(known.end_us for known in ranges),
            bigints(known.row_count for known in ranges),
            bigints(known.first_id for known in ranges),
            bigints(known.last_id for known in ranges),
            bigints(known.checked_at_us for known in ranges),
            bigints(known.next_check_at_us for known in ranges),
            [str(known.state) for known in ranges],
            [known.confirmed_by for known in ranges],
            [known.evidence for known in ranges],
        ],
    )


def _read(store: PostgresStore, batches: Sequence[Batch]) -> list[list[CoverageRange]]:
    """What the ledger has where each is told something, ascending, with the neighbours that only touch."""
    found: list[list[CoverageRange]] = [[] for _ in batches]
    lines = store._query(
        f"SELECT w.place, {store._coverage_columns()} FROM {store._table('coverage')} c "
        f"JOIN unnest({_NAMES}, %s::bigint[], %s::bigint[]) WITH ORDINALITY "
        f'w(market, symbol, "interval", low, high, place) ON {_OF_WANTED} '
        f"AND c.range_start < {_AT.format('w.high')} AND c.range_end > {_AT.format('w.low')} ORDER BY c.range_start",
        [
            *_names(batch.series for batch in batches),
            bigints(min(known.start_us for known in batch.coverage) - 1 for batch in batches),
            bigints(max(known.end_us for known in batch.coverage) + 1 for batch in batches),
            batches[0].dataset.name,
        ],
    )
    for place, start_us, end_us, state, *rest in lines:
        found[place - 1].append(CoverageRange(start_us, end_us, State(state), *rest))
    return found


def _names(series: Iterable[Series]) -> list[list[str]]:
    named = [(one.market, one.symbol, one.interval) for one in series]
    return [list(column) for column in zip(*named, strict=True)]
