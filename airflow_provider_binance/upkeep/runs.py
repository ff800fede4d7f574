"""Stored rows that differ in one way from what a source told, and how that is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from airflow_provider_binance.market import DAY_US, grid_of, iso_or_number
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.registry import Dataset, Kind, dataset
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.inspection import Held
from airflow_provider_binance.upkeep.spans import Span

#: Rows of a run that are shown with their values.
_SHOWN_ROWS = 3
_MODULUS = 1 << 256

Row = Sequence[int | str | None]
#: Where a row stands among others: by its time; by its day and its id, where ids tell rows apart.
Place = tuple[int, int]


class Way(StrEnum):
    """How a run of rows differs."""

    DIFFERS = "differs"
    LACKING = "lacking"  # the source has them, the store has not
    EXTRA = "extra"  # the store has them, the source has not


@dataclass(frozen=True, slots=True)
class Told:
    """Who said it: a source, what of it, and the hash of a file."""

    source: Source
    ref: str
    sha256: str | None = None


@dataclass(slots=True)
class Run:
    """Neighbouring rows that differ in the same way from what one source told.

    `carried`: the columns that the source has, by their place. `is_rest`: everything behind the last run that is told
    by itself. `is_stray`: rows that by themselves do not belong where they are. Ids, where there are any, are those of
    the first and the last row (None: no end).
    """

    series: Series
    start_us: int
    end_us: int
    way: Way
    told: Told
    rows: int = 0
    columns: set[str] = field(default_factory=set)
    shown: list[dict[str, Any]] = field(default_factory=list)
    carried: tuple[int, ...] = ()
    is_rest: bool = False
    is_stray: bool = False
    first_id: int | None = None
    last_id: int | None = None
    digest: int = 0

    @property
    def span(self) -> Span:
        """Its stretch."""
        return self.start_us, self.end_us

    @property
    def held(self) -> list[Held]:
        """The rows that the source has not."""
        if self.way is not Way.EXTRA:
            return []
        if self.first_id is not None:
            return [Held(*self.span, self.rows, self.first_id, self.last_id)]
        grid = grid_of(self.series.interval)
        times = [self.start_us] if self.is_stray else grid.opens(self.start_us, self.end_us)
        return [Held(at, at + 1, 1) for at in times]

    def is_mended(self, store: Store) -> bool:
        """Whether the store says now what the source said."""
        now, entry = 0, dataset(self.series.dataset)
        key = entry.column_names.index(entry.key[0])
        for row in store.rows(self.series.dataset, self.series, self.start_us, self.end_us):
            if self.first_id is None or _is_between(row[key], self.first_id, self.last_id):
                now = (now + weighed(entry, row, self.carried)) % _MODULUS
        return now == self.digest

    def heard(self, entry: Dataset, row: Row) -> None:
        """The source said so."""
        self.digest = (self.digest + weighed(entry, row, self.carried)) % _MODULUS

    def take(self, entry: Dataset, at: int, columns: set[str], mine: Row | None, its: Row | None) -> None:
        """One more row."""
        self.rows += 1
        if its is not None and not self.is_rest:
            self.heard(entry, its)
        if len(self.shown) < _SHOWN_ROWS:
            self.shown.append(_shown(entry, at, columns, mine, its))


def place_in(entry: Dataset) -> Callable[[Row], Place]:
    """What tells where a row stands among those of its series."""
    time, key = entry.column_names.index(entry.time_column), entry.column_names.index(entry.key[0])
    if time == key:
        return lambda row: (row[time], 0)  # type: ignore[return-value]  # rows whose time is none are left out
    return lambda row: (row[time] // DAY_US, row[key])  # type: ignore[operator,return-value]


def differing(entry: Dataset, carried: Sequence[int], mine: Row, its: Row) -> set[str]:
    """The columns, of those that a source has, in which two rows are not the same."""
    return {entry.columns[i].name for i in carried if mine is not its and _differs(entry, i, mine[i], its[i])}


def _differs(entry: Dataset, i: int, mine: int | str | None, its: int | str | None) -> bool:
    """Whether two values of a column are not the same: numbers by what they are, and of two times of one row either may
    be the other's millisecond."""
    if mine == its:
        return False
    column = entry.columns[i]
    if mine is None or its is None:
        # What not every source carries may be lacking in a sound row.
        return mine is not None or not column.nullable or column.is_needed
    if column.kind is Kind.DECIMAL:
        try:
            return Decimal(mine) != Decimal(its)
        except (InvalidOperation, TypeError):  # InvalidOperation: no number; TypeError: bytes
            return True
    if column.name == entry.time_column and isinstance(mine, int) and isinstance(its, int):
        return not (mine // 1000 == its // 1000 and (mine % 1000 == 0 or its % 1000 == 0))
    return True


def weighed(entry: Dataset, row: Row, carried: Sequence[int]) -> int:
    """A number for what a source carries of a row; the sum of many does not depend on their order."""
    time = entry.column_names.index(entry.time_column)
    by_id = entry.time_column not in entry.key
    said = [row[i] // 1000 if by_id and i == time and isinstance(row[i], int) else row[i] for i in carried]  # type: ignore[operator]
    text = "\x1f".join(map(str, said))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def _is_between(value: int | str | None, first: int, last: int | None) -> bool:
    return isinstance(value, int) and first <= value and (last is None or value <= last)


def _shown(entry: Dataset, at: int, columns: set[str], mine: Row | None, its: Row | None) -> dict[str, Any]:
    """A row for people: its time, and by column what is stored and what the source says."""
    names = entry.column_names

    def text(row: Row | None, name: str) -> str | None:
        value = None if row is None else row[names.index(name)]
        return (
            iso_or_number(value) if isinstance(value, int) and entry.column(name).kind is Kind.TIME else _or_none(value)
        )

    picked = [name for name in names if name in columns] or [name for name in names if name in ("close", "volume")]
    return {"at": iso_or_number(at)} | {
        name: {"stored": text(mine, name), "source": text(its, name)} for name in picked
    }


def _or_none(value: int | str | None) -> str | None:
    return None if value is None else str(value)
