"""`SqlRetirer`: drops what is older than a dataset's retention, and says so in the ledger, in one transaction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from airflow_provider_binance.errors import InputError, StoreUnavailableError
from airflow_provider_binance.market import iso
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.inspection import Retired
from airflow_provider_binance.store.sql_forget import SqlForgetter
from airflow_provider_binance.windows import EARLIEST_US

#: How often it is begun anew because a series came meanwhile.
_ATTEMPTS = 5
#: What was known of a time stays known: there was nothing, or it is gone already.
_STAYS = frozenset({State.NOT_LISTED, State.RETIRED})


class SqlRetirer(SqlForgetter):
    """Takes out what is too old."""

    @abstractmethod
    def _retired_end(self, before_us: int) -> int:
        """The last instant not after `before_us` up to which this database drops rows."""

    @abstractmethod
    def _lock_to_drop(self, entry: Dataset, series: Sequence[Series]) -> None:
        """Open a transaction that holds the locks of the series, and beside which nobody writes to the table."""

    @abstractmethod
    def _drop_before(self, entry: Dataset, end_us: int) -> None:
        """Drop the rows of all series before an end that `_retired_end` gave."""

    def retire(self, dataset: str, before_us: int) -> Retired:
        entry = registered(dataset)
        if entry.day_column is None:
            raise InputError(f"dataset {dataset} has no retention: `forget` deletes what is named", argument="dataset")
        end_us = self._retired_end(before_us)
        with self._session():
            if not self._readable(entry):
                return Retired(end_us, 0, 0)
            for _ in range(_ATTEMPTS):
                series = self._old_series(entry, end_us)
                try:
                    self._lock_to_drop(entry, series)
                    if self._old_series(entry, end_us) == series:
                        self._drop_before(entry, end_us)
                        rows = sum(self._mark_retired(entry, one, end_us) for one in series)
                        self._commit()
                        return Retired(end_us, len(series), rows)
                    self._rollback()
                except BaseException:
                    self._rollback()
                    raise
        raise StoreUnavailableError(f"the store {self.url}: ever new series are being loaded before {iso(end_us)}")

    def _old_series(self, entry: Dataset, end_us: int) -> list[Series]:
        """The series of which the ledger knows rows, or gaps, before an end."""
        stays = ", ".join(f"'{state}'" for state in sorted(_STAYS))
        found = self._query(
            f'SELECT DISTINCT market, symbol, "interval" FROM {self._table("coverage")} '
            f"WHERE dataset = %s AND range_start < %s AND state NOT IN ({stays})",
            [entry.name, self._time(end_us)],
        )
        return sorted(Series(market, entry.name, symbol, interval) for market, symbol, interval in found)

    def _mark_retired(self, entry: Dataset, series: Series, end_us: int) -> int:
        """Lay `retired` over what is known before the end; returns how many rows that had."""
        known = [r for r in self._read_coverage(entry, series, EARLIEST_US, end_us) if r.state not in _STAYS]
        now_us = self.clock()
        before = sum(r.row_count for r in known)
        self._write_coverage(
            entry,
            series,
            [
                CoverageRange(r.start_us, min(r.end_us, end_us), State.RETIRED, evidence="", checked_at_us=now_us)
                for r in known
            ],
        )
        left = [r for r in self._read_coverage(entry, series, end_us, known[-1].end_us + 1) if r.start_us == end_us]
        return before - (sum(r.row_count for r in left) if known[-1].end_us > end_us else 0)
