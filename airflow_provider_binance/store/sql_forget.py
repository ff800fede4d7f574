"""`SqlForgetter`: forgets rows and ledger together, in one transaction under the lock of the series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from math import inf
from typing import Any

from airflow_provider_binance.coverage import erased
from airflow_provider_binance.market import to_us
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.corrections import key_head
from airflow_provider_binance.store.inspection import Emptied
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_read import OF_SERIES, of
from airflow_provider_binance.store.sql_withdraw import SqlWithdrawer
from airflow_provider_binance.windows import LATEST_US

#: A line of the log that overlaps a window.
_TOUCHED = f"{OF_SERIES} AND range_start < %s AND range_end > %s"


class SqlForgetter(SqlWithdrawer):
    """Takes out what shall not be there any more."""

    def forget(self, series: Series, start_us: int, end_us: int, *, dry_run: bool = False) -> Emptied:
        entry = registered(series.dataset)
        with self._session():
            if not self._readable(entry):
                return Emptied(0, 0, 0, 0)
            if dry_run:
                try:
                    self._snapshot()
                    return self._count_all(entry, series, start_us, end_us)
                finally:
                    self._rollback()
            try:
                self._lock(entry, series)
                emptied = self._empty(entry, series, start_us, end_us)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return emptied

    # --- what there is ------------------------------------------------------------------------------------------------

    def _count_all(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> Emptied:
        rows = 0
        if (series_id := self._find_series(series)) is not None:
            where, values = self._within(entry, series_id, start_us, end_us)
            [(rows,)] = self._query(f"SELECT count(*) FROM {self._data(entry)} WHERE {where}", values)
        [(lines,)] = self._query(
            f"SELECT count(*) FROM {self._table('ingest_log')} WHERE {_TOUCHED}",
            [*of(entry.name, series), self._time(end_us), self._time(start_us)],
        )
        ranges = len(self._read_coverage(entry, series, start_us, end_us))
        return Emptied(rows, ranges, lines, sum(self._corrected(entry, series, start_us, end_us).values()))

    def _within(self, entry: Dataset, series_id: int, start_us: int, end_us: int) -> tuple[str, list[Any]]:
        """The condition, with its values, of the rows (`d`) of a window; without ends it has what lies beyond, too."""
        beyond, values = self._beyond(entry, series_id, start_us, end_us)
        inside, bounds = self._between(entry, start_us, end_us)
        return f"((d.series_id = {series_id} AND {inside}) OR ({beyond}))", [*bounds, *values]

    def _corrected(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> dict[str, int]:
        """How many lines of `corrections` there are for each row of a window, by the row's key."""
        head = key_head(entry, series)
        keys = self._query(
            f"SELECT key, count(*) FROM {self._table('corrections')} WHERE dataset = %s AND substr(key, 1, %s) = %s "
            "GROUP BY key",
            [entry.name, len(head) + 1, head + ","],
        )
        if entry.time_column not in entry.key:
            low, high = self._ids_between(entry, series, start_us, end_us)
            return {key: count for key, count in keys if (row := _id_of(entry, key)) is None or low <= row <= high}
        return {
            key: count for key, count in keys if (at := _time_of(entry, key)) is None or start_us <= at < end_us
        }  # fmt: skip

    def _ids_between(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> tuple[float, float]:
        """The first and the last id of a window, by its rows and its ledger; of all time, every id."""
        if start_us <= 0 and end_us >= LATEST_US:
            return -inf, inf
        ids: list[int] = []
        if (series_id := self._find_series(series)) is not None:
            within, bounds = self._between(entry, start_us, end_us)
            name = f"d.{quoted(entry.key[0])}"
            [ends] = self._query(
                f"SELECT min({name}), max({name}) FROM {self._data(entry)} WHERE d.series_id = {series_id} "
                f"AND {within}",
                bounds,
            )
            ids += [end for end in ends if end is not None]
        for known in self._read_coverage(entry, series, start_us, end_us):
            if known.first_id is not None and start_us <= known.start_us:
                ids.append(known.first_id)
            if known.last_id is not None and known.end_us <= end_us:
                ids.append(known.last_id)
        return (min(ids), max(ids)) if ids else (inf, -inf)

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def _empty(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> Emptied:
        series_id = self._find_series(series)
        rows = 0
        corrected = list(self._corrected(entry, series, start_us, end_us))
        if series_id is not None:
            where, values = self._within(entry, series_id, start_us, end_us)
            rows = self._change(f"DELETE FROM {self._table(data_table(entry))} AS d WHERE {where}", values)
        before = self._read_coverage(entry, series, start_us, end_us)
        after = erased(before, start_us, end_us, count=self._counter(entry, series))
        self._replace_coverage(entry, series, before, self._told_ids(entry, series, before, after))
        lines = self._cut_log(entry, series, start_us, end_us)
        return Emptied(rows, len(before), lines, self._forget_corrections(entry, corrected))

    def _cut_log(self, entry: Dataset, series: Series, start_us: int, end_us: int) -> int:
        """Take the window out of every line of `ingest_log`; one that reaches beyond on both sides becomes two.

        A line that kept saying that a file was read for the window would keep that file from being read again.
        """
        log = self._table("ingest_log")
        start, end, named = self._time(start_us), self._time(end_us), of(entry.name, series)
        [(count,)] = self._query(f"SELECT count(*) FROM {log} WHERE {_TOUCHED}", [*named, end, start])
        cut = [
            line
            for (line,) in self._query(
                f"SELECT id FROM {log} WHERE {OF_SERIES} AND range_start < %s AND range_end > %s ORDER BY id",
                [*named, start, end],
            )
        ]
        kept = (
            'dataset, market, symbol, "interval", source, source_ref, sha256, part, parts, rows_read, rows_inserted, '
            "rows_updated, rows_unchanged, started_at, finished_at, run_ref"
        ) + (", published_at, etag" if self._has_published else "")
        counts = ("rows_read", "rows_inserted", "rows_updated", "rows_unchanged")
        copied = ", ".join("0" if name in counts else name for name in kept.split(", "))
        for line in cut:
            self._change(
                f"INSERT INTO {log} ({kept}, range_start, range_end) SELECT {copied}, %s, range_end FROM {log} "
                "WHERE id = %s",
                [end, line],
            )
        if cut:
            self._put_behind(cut, named)
        self._change(
            f"DELETE FROM {log} WHERE {OF_SERIES} AND range_start >= %s AND range_end <= %s", [*named, start, end]
        )
        self._change(
            f"UPDATE {log} SET range_end = %s WHERE {_TOUCHED} AND range_start < %s", [start, *named, end, start, start]
        )
        self._change(f"UPDATE {log} SET range_start = %s WHERE {_TOUCHED}", [end, *named, end, start])
        return int(count)

    def _put_behind(self, cut: Sequence[int], named: Sequence[str]) -> None:
        """Give the newest lines, one for each of `cut`, their place right behind the line that each was cut from.

        Lines are read in the order of their numbers: the last has the last word. So those behind move up.
        """
        log = self._table("ingest_log")
        lines = self._query(f"SELECT id FROM {log} WHERE {OF_SERIES} AND id >= %s ORDER BY id", [*named, cut[0]])
        numbers = [line for (line,) in lines]
        old, pieces = numbers[: -len(cut)], numbers[-len(cut) :]
        piece_of = dict(zip(cut, pieces, strict=True))
        ordered = [each for line in old for each in (line, piece_of.get(line)) if each is not None]
        place = dict(zip(ordered, numbers, strict=True))
        moves = [(piece, -piece) for piece in pieces]
        moves += [(line, place[line]) for line in reversed(old) if place[line] != line]
        moves += [(-piece, place[piece]) for piece in pieces]
        for before, after in moves:
            self._change(f"UPDATE {log} SET id = %s WHERE id = %s", [after, before])

    def _forget_corrections(self, entry: Dataset, wanted: Sequence[str]) -> int:
        table = self._table("corrections")
        gone, most = 0, self._most_values() - 1
        for first in range(0, len(wanted), most):
            # Many at once: the table has no index, so that each statement reads all of it.
            some = wanted[first : first + most]
            gone += self._change(
                f"DELETE FROM {table} WHERE dataset = %s AND key IN (VALUES {', '.join(['(%s)'] * len(some))})",
                [entry.name, *some],
            )
        return gone


def _id_of(entry: Dataset, key: str) -> int | None:
    """The id of the row that a correction names, None if its key has none."""
    try:
        return int(json.loads(key)[entry.key[0]])
    except (KeyError, ValueError, TypeError):
        return None


def _time_of(entry: Dataset, key: str) -> int | None:
    """The time of the row that a correction names, None if its key has none that a calendar knows."""
    try:
        return to_us(datetime.fromisoformat(json.loads(key)[entry.time_column]))
    except (KeyError, ValueError, TypeError):
        return None
