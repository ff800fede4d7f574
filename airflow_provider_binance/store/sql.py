"""`SqlStore`: the writing half of a store, one transaction per batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from airflow_provider_binance.coverage import overlay
from airflow_provider_binance.errors import StoreError
from airflow_provider_binance.market import iso
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State, WriteResult
from airflow_provider_binance.registry import Continuity, Dataset
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.store.holding import Holding
from airflow_provider_binance.store.precedence import Standing, file_standings, standing
from airflow_provider_binance.store.schema import data_table, quoted
from airflow_provider_binance.store.sql_read import OF_SERIES, of
from airflow_provider_binance.store.sql_rollup import SqlRollup


class SqlStore(SqlRollup):
    """Writes rows, line and coverage under the lock of their series: `_lock`, `_write_rows`, `_write_line`,
    `_write_coverage`, `_commit`, in this order."""

    def write(self, batch: Batch) -> WriteResult:
        _refuse_stray(batch)
        with self._session():
            self._writable(batch.dataset)
            try:
                if self._holding is not None and self._holding.takes(batch):
                    self._begin_held(self._holding)
                else:
                    self._lock(batch.dataset, batch.series)
                    self._holding = Holding(batch.dataset, batch.series)
                self._make_room(batch)
                result = self._write_rows(batch)
                self._write_line(batch.dataset, batch.series, batch.start_us, batch.end_us, batch.line, result)
                self._write_coverage(batch.dataset, batch.series, batch.coverage)
                self._holding.add(result.rows_read)
                if not self._may_hold(batch.dataset) or self._holding.is_full:
                    self._commit_held()
            except Exception:
                self._take_back()
                raise
            except BaseException:
                self._holding = None
                self._rollback()
                raise
        return result

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        def commit() -> None:
            with self._session():
                self._commit_held()

        self._holds = True
        try:
            yield commit
        finally:
            self._holds = False
            commit()

    def write_flush(self, batches: Sequence[Batch], line: LedgerLine, many: Sequence[ManyRows] = ()) -> WriteResult:
        if not batches and not many:
            return WriteResult()
        parts: dict[Dataset, tuple[list[ManyRows], list[Batch]]] = {}
        for rows in many:
            parts.setdefault(rows.dataset, ([], []))[0].append(rows)
        for batch in batches:
            _refuse_stray(batch)
            parts.setdefault(batch.dataset, ([], []))[1].append(batch)
        with self._session():
            for dataset in parts:
                self._writable(dataset)
            try:
                self._lock_all([*(batch.series for batch in batches), *(one for rows in many for one in rows.rows)])
                total = WriteResult()
                for dataset, (alone, part) in parts.items():
                    result = WriteResult()
                    for rows in alone:
                        result += self._write_rows_of_many(rows, line)
                    result += self._write_many(part, line)
                    start_us = min([*(batch.start_us for batch in part), *(rows.first_us for rows in alone)])
                    end_us = max([*(batch.end_us for batch in part), *(rows.last_us + 1 for rows in alone)])
                    self._write_line(dataset, None, start_us, end_us, line, result)
                    total += result
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return total

    def _write_many(self, batches: Sequence[Batch], line: LedgerLine) -> WriteResult:
        """Write rows and coverage of many series of one dataset, under their locks; `line` tells their source."""
        result = WriteResult()
        for batch in batches:
            result += self._write_rows(replace(batch, line=line))
            self._write_coverage(batch.dataset, batch.series, batch.coverage)
        return result

    def _write_rows_of_many(self, many: ManyRows, line: LedgerLine) -> WriteResult:
        """Write rows of many series of one dataset, under their locks; `line` tells their source."""
        result = WriteResult()
        for series in many.rows:
            rows = many.of(series)
            result += self._write_rows(Batch(many.dataset, series, rows.first_us, rows.last_us + 1, rows, line))
        return result

    def record_coverage(self, dataset: Dataset | str, series: Series, ranges: Iterable[CoverageRange]) -> None:
        entry = registered(dataset) if isinstance(dataset, str) else dataset
        laid = list(ranges)
        if not laid:
            return
        with self._session():
            self._writable(entry)
            try:
                self._lock(entry, series)
                self._write_coverage(entry, series, laid)
                self._commit()
            except BaseException:
                self._rollback()
                raise

    def _may_hold(self, dataset: Dataset) -> bool:
        """Whether a transaction of this dataset may now wait for its next batch, in nobody's way."""
        return False

    def _begin_held(self, holding: Holding) -> None:
        """Make ready for the next batch behind those that are held back."""

    def _rollback_batch(self) -> None:
        """Undo what was done since `_begin_held`."""

    def _take_back(self) -> None:
        """Undo the batch that failed; those that were held back before it stay so: who wrote them may go on."""
        if self._holding is not None and self._holding.batches:
            self._rollback_batch()
        else:
            self._holding = None
            self._rollback()

    def _commit_held(self) -> None:
        """Commit what is held back, if anything is."""
        if self._holding is None:
            return
        try:
            self._commit()
        except BaseException:
            self._rollback()
            raise
        finally:
            self._holding = None

    def _make_room(self, batch: Batch) -> None:
        """Have what the rows of `batch` need of the table, under the lock."""

    def _write_line(
        self,
        dataset: Dataset,
        series: Series | None,
        start_us: int,
        end_us: int,
        line: LedgerLine,
        result: WriteResult,
        *,
        finished_us: int | None = None,
    ) -> None:
        """Insert the line of `ingest_log`, finished now unless said otherwise; without `series` it is one for many."""
        published: list[Any] = []
        if self._has_published:
            published = [None if line.published_us is None else self._time(line.published_us), line.etag]
        self._change(
            f'INSERT INTO {self._table("ingest_log")} (dataset, market, symbol, "interval", range_start, range_end, '
            f"source, source_ref, sha256, part, parts, rows_read, rows_inserted, rows_updated, rows_unchanged, "
            f"started_at, finished_at, run_ref{', published_at, etag' if published else ''}) "
            f"VALUES ({', '.join(['%s'] * (18 + len(published)))})",
            [
                *(of(dataset.name, series) if series is not None else (dataset.name, None, None, None)),
                self._time(start_us),
                self._time(end_us),
                str(line.source),
                line.source_ref,
                line.sha256,
                line.part,
                line.parts,
                result.rows_read,
                result.rows_inserted,
                result.rows_updated,
                result.rows_unchanged,
                self._time(line.started_at_us),
                self._time(self.clock() if finished_us is None else finished_us),
                line.run_ref,
                *published,
            ],
        )

    def _write_coverage(self, dataset: Dataset, series: Series, ranges: Sequence[CoverageRange]) -> None:
        """Lay `ranges` over what the ledger has, and write only what thereby differs."""
        if not ranges:
            return
        start, end = min(r.start_us for r in ranges), max(r.end_us for r in ranges)
        # Neighbours that only touch are read too: they may merge.
        before = self._read_coverage(dataset, series, start - 1, end + 1)
        after = self._laid(dataset, series, before, ranges)
        self._replace_coverage(dataset, series, before, after)

    def _laid(
        self, dataset: Dataset, series: Series, before: Sequence[CoverageRange], ranges: Sequence[CoverageRange]
    ) -> list[CoverageRange]:
        """What is known once `ranges` lie over `before`."""
        start, end = min(r.start_us for r in ranges), max(r.end_us for r in ranges)
        # One that is not counted yet is counted before it merges with others.
        ranges = [self._with_ids(dataset, series, known) if known.row_count < 0 else known for known in ranges]
        after = overlay(
            before, ranges, count=self._counter(dataset, series), outranks=self._file_order(dataset, series, start, end)
        )
        return self._told_ids(dataset, series, before, after)

    def _told_ids(
        self, dataset: Dataset, series: Series, before: Sequence[CoverageRange], after: Sequence[CoverageRange]
    ) -> list[CoverageRange]:
        """`after`, with the ids of what is new in it."""
        if dataset.continuity is not Continuity.ID:
            return list(after)
        return [known if known in before else self._with_ids(dataset, series, known) for known in after]

    def _replace_coverage(
        self, dataset: Dataset, series: Series, before: Sequence[CoverageRange], after: Sequence[CoverageRange]
    ) -> None:
        table, old, new = self._table("coverage"), set(before), set(after)
        for known in before:
            if known not in new:
                self._change(
                    f"DELETE FROM {table} WHERE {OF_SERIES} AND range_start = %s",
                    [*of(dataset.name, series), self._time(known.start_us)],
                )
        for known in after:
            if known not in old:
                self._change(
                    f'INSERT INTO {table} (dataset, market, symbol, "interval", range_start, range_end, state, '
                    f"row_count, first_id, last_id, confirmed_by, evidence, checked_at, next_check_at) "
                    f"VALUES ({', '.join(['%s'] * 14)})",
                    [*of(dataset.name, series), *self._coverage_values(known)],
                )

    def _file_order(self, dataset: Dataset, series: Series, start_us: int, end_us: int) -> Callable[[str, str], bool]:
        """Whether one archive file outranks another, by their SHA-256; the ledger is read when it is first asked."""

        @cache
        def standings() -> dict[str, Standing]:
            return file_standings(self._read_lines(dataset, series, start_us, end_us))

        def outranks(old: str, new: str) -> bool:
            unknown = standing(Source.ARCHIVE)
            return old != new and standings().get(old, unknown) > standings().get(new, unknown)

        return outranks

    def _coverage_values(self, known: CoverageRange) -> list[Any]:
        next_check = known.next_check_at_us
        return [
            self._time(known.start_us),
            self._time(known.end_us),
            str(known.state),
            known.row_count,
            known.first_id,
            known.last_id,
            known.confirmed_by,
            known.evidence,
            self._time(known.checked_at_us),
            None if next_check is None else self._time(next_check),
        ]

    def _with_ids(self, dataset: Dataset, series: Series, known: CoverageRange) -> CoverageRange:
        """`known` with its rows counted and their first and last id looked up, where a split left these unknown, or
        whoever wrote it did (a count below 0), or where it is a gap."""
        series_id = self._find_series(series)
        if known.state in (State.NOT_LISTED, State.RETIRED):
            return known
        # A gap reaches from the row before the missing ids to the row behind them, and so has rows of its own.
        is_gap = known.state is not State.COMPLETE
        is_told = known.row_count > 0 and None not in (known.first_id, known.last_id)
        if not is_gap and (not known.row_count or is_told):
            return known
        if series_id is None:
            return replace(known, row_count=0, first_id=None, last_id=None)
        name = f"d.{quoted(dataset.key[0])}"
        within, bounds = self._between(dataset, known.start_us, known.end_us)
        count, first, last = self._query(
            f"SELECT count(*), min({name}), max({name}) FROM {self._table(data_table(dataset))} d "
            f"WHERE d.series_id = %s AND {within}",
            [series_id, *bounds],
        )[0]
        return replace(known, row_count=count, first_id=first, last_id=last)

    def _make_series(self, series: Series) -> int:
        """The series' number, given to it now if it has none."""
        if (found := self._find_series(series)) is not None:
            return found
        self._change(
            f'INSERT INTO {self._table("series")} (market, symbol, "interval") VALUES (%s, %s, %s) '
            "ON CONFLICT DO NOTHING",
            [series.market, series.symbol, series.interval],
        )
        made = self._find_series(series)
        if made is None:
            raise StoreError(f"the series {series} could not be given a number in {self.url}")
        return made


def _refuse_stray(batch: Batch) -> None:
    """Raise StoreError for rows that leave the batch's window."""
    rows = batch.rows
    if rows is not None and len(rows) and not batch.start_us <= rows.first_us <= rows.last_us < batch.end_us:
        raise StoreError(
            f"rows of {batch.series} from {iso(rows.first_us)} to {iso(rows.last_us)} leave the batch's window "
            f"{iso(batch.start_us)} – {iso(batch.end_us)}; nothing was written"
        )
