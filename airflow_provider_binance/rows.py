"""Normalised rows of any dataset, held as tuples: `TupleRows` of one series, `ManyRows` of many."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from operator import itemgetter, le, lt
from typing import Any

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, SECOND_US, from_us
from airflow_provider_binance.records import Row, Series
from airflow_provider_binance.registry import Dataset, Kind

Value = int | str | None

#: Rows per chunk of COPY text: some 300 kB, enough to make the call per chunk vanish.
_CHUNK_ROWS = 2_000


class TupleRows:
    """Rows of one series given as tuples, in the two forms that stores take (the protocol `records.Rows`).

    Each tuple has a value per name of `columns`: times as integer µs, decimals as canonical text, integers and booleans
    as int. Rows are brought into the order of the time column; a key that appears twice is refused.
    """

    def __init__(self, dataset: Dataset, rows: Iterable[Sequence[Value]], columns: Sequence[str] | None = None) -> None:
        self.dataset = dataset
        self.columns: tuple[str, ...] = tuple(columns if columns is not None else dataset.column_names)
        self._time, key = _places(dataset, self.columns)
        self._first_key = itemgetter(key[0])
        self._rows: list[tuple[Value, ...]] = [*map(tuple, rows)]
        if len(self._rows) > 1 and not _ascends(self._rows, key[0], self._time):
            self._rows.sort(key=lambda row: (row[self._time], *(row[i] for i in key)))
            if len({tuple(row[i] for i in key) for row in self._rows}) != len(self._rows):
                raise InputError(f"rows of {dataset.name} repeat a key ({', '.join(dataset.key)})")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def first_us(self) -> int:
        """Time of the first row (there is at least one)."""
        at_us: Any = self._rows[0][self._time]
        return int(at_us)

    @property
    def last_us(self) -> int:
        """Time of the last row."""
        at_us: Any = self._rows[-1][self._time]
        return int(at_us)

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """All columns, and the day if the dataset has one."""
        return _copy_columns(self.dataset, self.columns)

    def key_bounds(self) -> tuple[int, int]:
        """Least and greatest value of the first column of the key."""
        values: list[Any] = [*map(self._first_key, self._rows)]
        return min(values), max(values)

    def times_us(self) -> list[int]:
        """The time of every row, ascending."""
        times: list[Any] = [row[self._time] for row in self._rows]
        return times

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text (delimiter `,`): `series_id`, then `columns`; times as ISO text in UTC, None as COPY's NULL."""
        return _copy_chunks(self.dataset, self.columns, [str(series_id)] * len(self), self._rows)

    def sqlite_chunks(self, *, images: int) -> Generator[list[Row]]:
        """Every tuple as it is."""
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            yield self._rows[start : start + _CHUNK_ROWS]

    def tuples(self) -> list[tuple[Value, ...]]:
        """A tuple per row in `columns` order."""
        return self._rows


class ManyRows:
    """Rows of many series of one dataset (of each at least one), as they came: in any order, and of two with one key
    the first one counts. Whoever writes them all at once makes nothing for each series."""

    def __init__(
        self, dataset: Dataset, columns: tuple[str, ...], rows: Mapping[Series, Sequence[tuple[Value, ...]]]
    ) -> None:
        self.dataset = dataset
        self.columns = columns
        self.rows = rows
        time, key = _places(dataset, columns)
        self._first_key = itemgetter(key[0])
        times: list[Any] = [row[time] for each in rows.values() for row in each]
        self.first_us: int = min(times)
        self.last_us: int = max(times)

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """All columns, and the day if the dataset has one."""
        return _copy_columns(self.dataset, self.columns)

    def of(self, series: Series) -> TupleRows:
        """The rows of one series."""
        return first_rows(self.dataset, self.rows[series], self.columns)

    def key_bounds(self) -> list[tuple[int, int]]:
        """Least and greatest value of the first column of the key, of each series."""
        bounds: list[Any] = []
        for rows in self.rows.values():
            keys: list[Any] = [*map(self._first_key, rows)]
            bounds.append((min(keys), max(keys)))
        return bounds

    def copy_chunks(self, numbers: Mapping[Series, int], without: Container[Series] = ()) -> Iterator[bytes]:
        """COPY text as `TupleRows` gives it, of all series but those `without`."""
        heads: list[str] = []
        rows: list[tuple[Value, ...]] = []
        for series, each in self.rows.items():
            if series not in without:
                heads += [str(numbers[series])] * len(each)
                rows += each
        return _copy_chunks(self.dataset, self.columns, heads, rows)


def first_rows(dataset: Dataset, rows: Sequence[tuple[Value, ...]], columns: tuple[str, ...]) -> TupleRows:
    """Rows of one series put in order; of two with one key the first one."""
    try:
        return TupleRows(dataset, rows, columns)
    except InputError:
        key = _places(dataset, columns)[1]
        first = {tuple(row[place] for place in key): row for row in reversed(rows)}
        return TupleRows(dataset, first.values(), columns)


@cache
def _copy_columns(dataset: Dataset, columns: tuple[str, ...]) -> tuple[str, ...]:
    return (*columns, dataset.day_column) if dataset.day_column else columns


@cache
def _places(dataset: Dataset, columns: tuple[str, ...]) -> tuple[int, tuple[int, ...]]:
    """Where time and key are among the columns; raises InputError for columns that cannot be."""
    if unknown := set(columns) - set(dataset.column_names):
        raise InputError(f"dataset {dataset.name} has no column {', '.join(sorted(unknown))}")
    if lacking := {*dataset.key, dataset.time_column} - set(columns):
        raise InputError(f"rows of {dataset.name} must carry {', '.join(sorted(lacking))}")
    return columns.index(dataset.time_column), tuple(columns.index(name) for name in dataset.key)


def copy_chunks(parts: Sequence[tuple[int, TupleRows]]) -> Iterator[bytes]:
    """COPY text of some series' rows, each with the number of its series; all have the same columns."""
    first = parts[0][1]
    numbers = [str(number) for number, part in parts for _ in range(len(part))]
    return _copy_chunks(first.dataset, first.columns, numbers, [row for _, part in parts for row in part.tuples()])


def _copy_chunks(
    dataset: Dataset, columns: Sequence[str], numbers: Sequence[str], rows: Sequence[tuple[Value, ...]]
) -> Iterator[bytes]:
    writers = [_WRITERS[dataset.column(name).kind] for name in columns]
    time = columns.index(dataset.time_column)
    for start in range(0, len(rows), _CHUNK_ROWS):
        # Column by column: most of the work is then done below Python.
        values = list(zip(*rows[start : start + _CHUNK_ROWS], strict=True))
        texts = [numbers[start : start + _CHUNK_ROWS]]
        texts += [write(column) for write, column in zip(writers, values, strict=True)]
        if dataset.day_column:
            texts.append(_days(values[time]))
        lines = [*map(",".join, zip(*texts, strict=True)), ""]
        yield "\n".join(lines).encode()


def _ascends(rows: Sequence[tuple[Value, ...]], key: int, time: int) -> bool:
    """Whether rows are in order, and no key can be there twice: each has a greater first column than the one before."""
    keys: list[Any] = [row[key] for row in rows]
    if not all(map(lt, keys, keys[1:])):
        return False
    if key == time:
        return True
    times: list[Any] = [row[time] for row in rows]
    return all(map(le, times, times[1:]))


_ESCAPES = str.maketrans({"\\": "\\\\", ",": "\\,", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_NULL = "\\N"


def _plain(values: Sequence[Value]) -> list[str]:
    return [*map(str, values)] if None not in values else [_NULL if v is None else str(v) for v in values]


def _texts(values: Sequence[Value]) -> list[str]:
    return [_NULL if v is None else str(v).translate(_ESCAPES) for v in values]


@lru_cache(4096)
def _second(at: int) -> str:
    return f"{from_us(at * SECOND_US):%Y-%m-%dT%H:%M:%S}"


def _times(values: Sequence[Value]) -> list[str]:
    if None not in values:
        return [*map(_time, values)]
    return [_NULL if value is None else _time(value) for value in values]


def _time(value: Any) -> str:
    return f"{_second(value // SECOND_US)}.{value % SECOND_US:06d}Z"


def _days(values: Sequence[Any]) -> list[str]:
    first, last = _day(min(values)), _day(max(values))
    return [first] * len(values) if first == last else [*map(_day, values)]


def _day(value: Value) -> str:
    return _second(value // DAY_US * _DAY_SECONDS)[:10] if isinstance(value, int) else _NULL


_DAY_SECONDS = DAY_US // SECOND_US
_WRITERS: dict[Kind, Callable[[Sequence[Value]], list[str]]] = {
    Kind.DECIMAL: _plain, Kind.TIME: _times, Kind.INTEGER: _plain, Kind.SMALL_INTEGER: _plain,
    Kind.BOOLEAN: _plain, Kind.TEXT: _texts,
}  # fmt: skip
