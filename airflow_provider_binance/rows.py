"""`TupleRows`: normalised rows of any dataset, held as tuples."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, SECOND_US, from_us
from airflow_provider_binance.records import Row
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
        needed = {*dataset.key, dataset.time_column}
        if unknown := set(self.columns) - set(dataset.column_names):
            raise InputError(f"dataset {dataset.name} has no column {', '.join(sorted(unknown))}")
        if lacking := needed - set(self.columns):
            raise InputError(f"rows of {dataset.name} must carry {', '.join(sorted(lacking))}")
        self._time = self.columns.index(dataset.time_column)
        key = [self.columns.index(name) for name in dataset.key]
        self._rows: list[tuple[Value, ...]] = sorted(
            (tuple(row) for row in rows), key=lambda row: (row[self._time], *(row[i] for i in key))
        )
        if len({tuple(row[i] for i in key) for row in self._rows}) != len(self._rows):
            raise InputError(f"rows of {dataset.name} repeat a key ({', '.join(dataset.key)})")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def first_us(self) -> int:
        """Time of the first row (there is at least one)."""
        return self.times_us()[0]

    @property
    def last_us(self) -> int:
        """Time of the last row."""
        return self.times_us()[-1]

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """All columns, and the day if the dataset has one."""
        day = self.dataset.day_column
        return (*self.columns, day) if day else self.columns

    def key_bounds(self) -> tuple[int, int]:
        """Least and greatest value of the first column of the key."""
        first = self.columns.index(self.dataset.key[0])
        values = [value for row in self._rows if isinstance(value := row[first], int)]
        return min(values), max(values)

    def times_us(self) -> list[int]:
        """The time of every row, ascending."""
        return [at for row in self._rows if isinstance(at := row[self._time], int)]

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text (delimiter `,`): `series_id`, then `columns`; times as ISO text in UTC, None as COPY's NULL."""
        writers = [_WRITERS.get(self.dataset.column(name).kind, _plain) for name in self.columns]
        places = [*range(len(self.columns))]
        if self.dataset.day_column:
            writers, places = [*writers, _day], [*places, self._time]
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            lines = (
                f"{series_id},{','.join([write(row[at]) for write, at in zip(writers, places, strict=True)])}\n"
                for row in self._rows[start : start + _CHUNK_ROWS]
            )
            yield "".join(lines).encode()

    def sqlite_chunks(self, *, images: int) -> Generator[list[Row]]:
        """Every tuple as it is."""
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            yield self._rows[start : start + _CHUNK_ROWS]

    def tuples(self) -> list[tuple[Value, ...]]:
        """A tuple per row in `columns` order."""
        return self._rows


_ESCAPES = str.maketrans({"\\": "\\\\", ",": "\\,", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _plain(value: Value) -> str:
    return "\\N" if value is None else str(value)


def _text(value: Value) -> str:
    return "\\N" if value is None else str(value).translate(_ESCAPES)


def _time_writer() -> Callable[[Value], str]:
    days: dict[int, str] = {}  # a date is rendered once, not once per row

    def write(value: Value) -> str:
        if not isinstance(value, int):
            return "\\N"
        day, rest = divmod(value, DAY_US)
        date = days.get(day)
        if date is None:
            if len(days) > 10_000:
                days.clear()
            date = days[day] = from_us(day * DAY_US).strftime("%Y-%m-%d")
        seconds, fraction = divmod(rest, SECOND_US)
        minutes, seconds = divmod(seconds, 60)
        return f"{date}T{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{fraction:06d}Z"

    return write


def _day(value: Value) -> str:
    return f"{from_us(value):%Y-%m-%d}" if isinstance(value, int) else "\\N"


_WRITERS: dict[Kind, Callable[[Value], str]] = {Kind.TEXT: _text, Kind.TIME: _time_writer()}
