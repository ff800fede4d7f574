"""`SqlSidecars`: beats, progress and leases of sidecars, in both databases. The database's clock decides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from airflow_provider_binance.errors import StoreVersionError
from airflow_provider_binance.records import Series
from airflow_provider_binance.store.schema import SIDECARS, migrations
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Progress, Sidecar
from airflow_provider_binance.store.sql_lines import SqlLines

_KEY = ("market", "dataset", "symbol", '"interval"')


class SqlSidecars(SqlLines):
    """Statements are few, and each is for all series at once."""

    #: The database's time now.
    _now: str

    @abstractmethod
    def _seconds_ago(self, time: str) -> str:
        """How long ago a time was, in seconds."""

    def beat(self, sidecar: Sidecar, progress: Sequence[Progress] = (), *, ttl_seconds: float) -> bool:
        with self._session():
            self._have_sidecars()
            try:
                self._begin_sidecars()
                table = self._table("stream_sidecars")
                fresh = self._change(
                    f"UPDATE {table} SET beat_at = {self._now} WHERE instance = %s "
                    f"AND {self._seconds_ago('beat_at')} < %s",
                    [sidecar.instance, ttl_seconds],
                )
                if not fresh:
                    self._change(
                        f"INSERT INTO {table} (instance, shard, version, started_at, beat_at) "
                        f"VALUES (%s, %s, %s, {self._now}, {self._now}) "
                        f"ON CONFLICT (instance) DO UPDATE SET beat_at = {self._now}",
                        [sidecar.instance, sidecar.shard, sidecar.version],
                    )
                self._write_progress(progress)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return bool(fresh)

    def sidecars(self) -> list[Sidecar]:
        with self._session():
            return self._read_sidecars() if self._has_sidecars() else []

    def progress(self) -> list[Progress]:
        with self._session():
            if not self._has_sidecars():
                return []
            return [
                Progress(*line)
                for line in self._query(
                    f"SELECT instance, market, dataset, {self._us('event_at')}, {self._us('commit_at')}, lag_seconds "
                    f"FROM {self._table('stream_progress')} ORDER BY instance, market, dataset"
                )
            ]

    def leases(self) -> list[Lease]:
        with self._session():
            return self._read_leases() if self._has_sidecars() else []

    def change_leases(self, instance: str, choose: Callable[[list[Lease], list[Sidecar]], LeaseChange]) -> LeaseChange:
        with self._session():
            self._have_sidecars()
            # Mostly there is nothing to do, and that needs no lock.
            if not choose(self._read_leases(), self._read_sidecars()):
                return LeaseChange()
            try:
                self._lock_sidecars()
                change = choose(self._read_leases(), self._read_sidecars())
                self._write_leases(instance, change)
                self._commit()
            except BaseException:
                self._rollback()
                raise
        return change

    def forget_sidecars(self, instances: Sequence[str]) -> None:
        with self._session():
            if not instances or not self._has_sidecars():
                return
            try:
                self._lock_sidecars()
                marks = ", ".join(["%s"] * len(instances))
                for table in ("stream_leases", "stream_progress", "stream_sidecars"):
                    self._change(f"DELETE FROM {self._table(table)} WHERE instance IN ({marks})", list(instances))
                self._commit()
            except BaseException:
                self._rollback()
                raise

    # --- statements ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def _begin_sidecars(self) -> None:
        """Open a transaction."""

    @abstractmethod
    def _lock_sidecars(self) -> None:
        """Open a transaction in which no other sidecar changes leases."""

    def _has_sidecars(self) -> bool:
        return self._readable() and (SIDECARS in self._applied or SIDECARS in self._read_applied())

    def _have_sidecars(self) -> None:
        """Have the tables, made now if this store may."""
        if self._has_sidecars():
            return
        if not self._readable():
            self._make_tables("this database has no tables of this package yet")
            return
        if not self._create:
            raise StoreVersionError(f"{self.url} has no tables for sidecars yet: run `binance-ingest migrate`")
        for migration in migrations(self.dialect, self._schema):
            if migration.name == SIDECARS:
                self._apply(migration)
        self._applied = self._read_applied()

    def _read_sidecars(self) -> list[Sidecar]:
        found = self._query(
            f"SELECT instance, shard, version, {self._us('started_at')}, {self._us('beat_at')}, "
            f"{self._seconds_ago('beat_at')}, {self._seconds_ago('started_at')} "
            f"FROM {self._table('stream_sidecars')} ORDER BY beat_at DESC, instance"
        )
        return [Sidecar(*line) for line in found]

    def _read_leases(self) -> list[Lease]:
        found = self._query(
            f"SELECT {', '.join(_KEY)}, instance, is_home, claimant FROM {self._table('stream_leases')}"
        )
        return [
            Lease(Series(market, dataset, symbol, interval), instance, bool(is_home), claimant)
            for market, dataset, symbol, interval, instance, is_home, claimant in found
        ]

    def _write_progress(self, progress: Sequence[Progress]) -> None:
        if not progress:
            return
        values: list[Any] = []
        for one in progress:
            times = [None if at_us is None else self._time(at_us) for at_us in (one.event_us, one.commit_us)]
            values += [one.instance, one.market, one.dataset, *times, one.lag_seconds]
        names = ("event_at", "commit_at", "lag_seconds")
        self._change(
            f"INSERT INTO {self._table('stream_progress')} (instance, market, dataset, {', '.join(names)}) "
            f"VALUES {', '.join(['(%s, %s, %s, %s, %s, %s)'] * len(progress))} "
            f"ON CONFLICT (instance, market, dataset) DO UPDATE SET "
            f"{', '.join(f'{name} = excluded.{name}' for name in names)}",
            values,
        )

    def _write_leases(self, instance: str, change: LeaseChange) -> None:
        table = self._table("stream_leases")
        for part in self._portions(change.free):
            where, values = _named(part)
            self._change(f"DELETE FROM {table} WHERE instance = %s AND {where}", [instance, *values])
        for part in self._portions(change.claim):
            where, values = _named(part)
            self._change(f"UPDATE {table} SET claimant = %s WHERE {where}", [instance, *values])
        taken = [(series, instance, is_home) for series, is_home in change.take]
        taken += [(series, claimant, True) for series, claimant in change.give]
        for part in self._portions(taken):
            values = [value for series, whose, is_home in part for value in (*_key(series), whose, is_home)]
            self._change(
                f"INSERT INTO {table} ({', '.join(_KEY)}, instance, is_home, taken_at) "
                f"VALUES {', '.join([f'(%s, %s, %s, %s, %s, %s, {self._now})'] * len(part))} "
                f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET instance = excluded.instance, "
                f"is_home = excluded.is_home, claimant = NULL, taken_at = excluded.taken_at",
                values,
            )

    def _portions(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """As many at once as a statement may have values for."""
        size = max(1, (self._most_values() - 1) // 6)
        for at in range(0, len(items), size):
            yield items[at : at + size]


def _named(series: Sequence[Series]) -> tuple[str, list[str]]:
    """The condition that a line is one of these's, and its values."""
    lines = ", ".join(["(%s, %s, %s, %s)"] * len(series))
    return f"({', '.join(_KEY)}) IN (VALUES {lines})", [value for one in series for value in _key(one)]


def _key(series: Series) -> tuple[str, str, str, str]:
    return series.market, series.dataset, series.symbol, series.interval
