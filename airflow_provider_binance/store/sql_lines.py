"""`SqlLines`: the lines that streams leave in `ingest_log`, some a second, become one an hour."""

from __future__ import annotations

from typing import Any

from airflow_provider_binance.market import HOUR_US
from airflow_provider_binance.records import LedgerLine, Series, Source, WriteResult
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.sql_read import OF_FLUSHES
from airflow_provider_binance.store.sql_retire import SqlRetirer

#: Whoever rolls up holds the lock of this one.
_ALL = Series("", "ingest_log", "")


class SqlLines(SqlRetirer):
    """Rolls lines up."""

    def roll_up(self) -> int:
        with self._session():
            if not self._readable():
                return 0
            hour = f"{self._us('finished_at')} / {HOUR_US}"
            before_us = self.clock() // HOUR_US * HOUR_US
            groups = self._query(
                f"SELECT dataset, {hour}, source_ref, run_ref FROM {self._table('ingest_log')} WHERE {OF_FLUSHES} "
                f"AND finished_at < %s GROUP BY dataset, {hour}, source_ref, run_ref HAVING count(*) > 1 ORDER BY 1, 2",
                [self._time(before_us)],
            )
            return sum(self._roll_up(*group) for group in groups)

    def _roll_up(self, name: str, hour: int, source_ref: str, run_ref: str | None) -> int:
        """Make one line of those of an hour, in one transaction; returns how many went."""
        table, count = self._table("ingest_log"), 0
        try:
            self._lock_all([_ALL])
            # What is committed meanwhile is the next one's: only lines that were read go.
            lines = self._query(
                f"SELECT id, {self._us('range_start')}, {self._us('range_end')}, {self._us('started_at')}, "
                f"{self._us('finished_at')}, rows_read, rows_inserted, rows_updated, rows_unchanged FROM {table} "
                f"WHERE {OF_FLUSHES} AND dataset = %s AND source_ref = %s AND COALESCE(run_ref, '') = %s "
                "AND finished_at >= %s AND finished_at < %s",
                [name, source_ref, run_ref or "", self._time(hour * HOUR_US), self._time((hour + 1) * HOUR_US)],
            )
            if len(lines) > 1:
                self._write_sum(registered(name), lines, source_ref, run_ref or "")
                most = self._most_values()
                for at in range(0, len(lines), most):
                    ids = [line[0] for line in lines[at : at + most]]
                    self._change(f"DELETE FROM {table} WHERE id IN ({', '.join(['%s'] * len(ids))})", ids)
                count = len(lines) - 1
            self._commit()
        except BaseException:
            self._rollback()
            raise
        return count

    def _write_sum(self, entry: Dataset, lines: list[tuple[Any, ...]], source_ref: str, run_ref: str) -> None:
        _, starts, ends, begun, finished, *rows = zip(*lines, strict=True)
        line = LedgerLine(Source.STREAM, source_ref, min(begun), run_ref)
        result = WriteResult(*(sum(counts) for counts in rows))
        self._write_line(entry, None, min(starts), max(ends), line, result, finished_us=max(finished))
