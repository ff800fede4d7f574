"""`TickRows`: checked ticks of one series as raw lines, and the forms that stores and users take of them.

The bulk path keeps a tick as two slices of its line with its time, rendered for all lines at once, between them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.errors import CorruptArchiveError
from airflow_provider_binance.kline_rows import canonical
from airflow_provider_binance.market import from_us
from airflow_provider_binance.records import AggTrade, Row, Series, Trade
from airflow_provider_binance.registry import Kind
from airflow_provider_binance.tick_lines import TickLines

if TYPE_CHECKING:
    from airflow_provider_binance.tick_lines import Times

_CHUNK_ROWS = 4096
_RECORDS: dict[str, type[AggTrade | Trade]] = {"agg_trades": AggTrade, "trades": Trade}


class TickRows:
    """Ticks of one series as raw lines, ascending by id; implements `records.Rows`."""

    def __init__(self, lines: TickLines) -> None:
        self._lines = lines
        self.columns = lines.shape.columns

    @classmethod
    def joined(cls, parts: Sequence[TickRows]) -> TickRows:
        """The rows of some pages (at least one); raises ValueError for two different rows of one id."""
        full = [part for part in parts if len(part)]
        if len(full) < 2:
            return full[0] if full else parts[0]
        text = b"\n".join(chain.from_iterable(part._lines for part in full))
        return cls(TickLines.read(parts[0]._lines.shape, text))

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def first_us(self) -> int:
        """Time of the earliest row."""
        return int(self._lines.times_us.min())

    @property
    def last_us(self) -> int:
        """Time of the latest row."""
        return int(self._lines.times_us.max())

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """The columns of `copy_chunks`: the day first."""
        day = self._lines.shape.dataset.day_column
        return (*((day,) if day else ()), *self.columns)

    @property
    def ids(self) -> Times:
        """The id of every row, ascending."""
        return self._lines.ids

    @property
    def times(self) -> Times:
        """The time of every row in µs, in the order of the ids."""
        return self._lines.times_us

    def times_us(self) -> Sequence[int]:
        """The time of every row, ascending."""
        return sorted(self._lines.times_us.tolist())

    def key_bounds(self) -> tuple[int, int]:
        """First and last id."""
        return int(self._lines.ids[0]), int(self._lines.ids[-1])

    def between(self, start_us: int, end_us: int) -> TickRows:
        """The rows of `[start_us, end_us)`."""
        return TickRows(self._lines.between(start_us, end_us))

    def within(self, stretches: Sequence[tuple[int, int]]) -> TickRows:
        """The rows of any of `stretches` (ascending, disjoint)."""
        import numpy as np

        if len(stretches) == 1:
            return self.between(*stretches[0])
        times = self._lines.times_us
        chosen = np.zeros(len(times), np.bool_)
        for start_us, end_us in stretches:
            chosen |= (times >= start_us) & (times < end_us)
        return TickRows(self._lines[chosen])

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text: `series_id`, the day, then `columns`; a chunk per 4,096 rows."""
        for lines in self._chunks():
            days, which = lines.days()
            heads = [b"%d,%b," % (series_id, day) for day in days]
            parts = zip(lines.befores(), lines.instants(), lines.afters(), strict=True)
            if len(heads) == 1:
                [head] = heads
                rows = [b"%b%b,%b%b" % (head, before, at, after) for before, at, after in parts]
            else:
                rows = [
                    b"%b%b,%b%b" % (heads[day], before, at, after)
                    for day, (before, at, after) in zip(which, parts, strict=True)
                ]
            rows.append(b"")
            yield b"\n".join(rows)

    def sqlite_chunks(self, *, images: int) -> Generator[list[Row]]:
        """The rows of `tuples`, 4,096 at a time."""
        for lines in self._chunks():
            yield list(_tuples(lines))

    def tuples(self) -> Iterator[tuple[int | str | None, ...]]:
        """A tuple per row in `columns` order: times in µs, decimals as canonical text, flags as int."""
        for lines in self._chunks():
            yield from _tuples(lines)

    def records(self, series: Series) -> Iterator[AggTrade | Trade]:
        """The record path: an `AggTrade` or `Trade` per row, with Decimals and aware times.

        Raises CorruptArchiveError for a line that is none.
        """
        shape = self._lines.shape
        kind: Callable[..., Any] = _RECORDS[shape.dataset.name]
        blank = dict.fromkeys(shape.dataset.column_names)
        for line in self._lines:
            try:
                texts = zip(shape.fields, line.decode("ascii").split(","), strict=False)
                values = {name: _VALUES[shape.dataset.column(name).kind](text) for name, text in texts if name}
            except (InvalidOperation, ValueError, OverflowError, KeyError) as error:
                raise CorruptArchiveError(f"not a row of {series}: {line!r}") from error
            yield kind(series.market, series.symbol, **{**blank, **values})

    def _chunks(self) -> Iterator[TickLines]:
        for at in range(0, len(self._lines), _CHUNK_ROWS):
            yield self._lines[at : at + _CHUNK_ROWS]


def _tuples(lines: TickLines) -> Iterator[tuple[int | str | None, ...]]:
    """A tuple per line."""
    shape = lines.shape
    width = shape.last_slot + 1
    texts = b",".join(lines).decode("ascii").split(",")
    columns: list[Sequence[int | str | None]] = []
    for slot, name in enumerate(shape.fields[:width]):
        if name is None:
            continue
        column, kind = texts[slot::width], shape.kinds[slot]
        if slot == shape.id_slot:
            columns.append(lines.ids.tolist())
        elif kind is Kind.TIME:
            columns.append(lines.times_us.tolist())
        elif kind is Kind.DECIMAL:
            columns.append([*map(canonical, column)])
        elif kind is Kind.BOOLEAN:
            columns.append([1 if text in _TRUE else 0 for text in column])
        else:
            columns.append([*map(int, column)])
    return zip(*columns, strict=True)


_TRUE = frozenset({"True", "true"})
_FLAGS = {"True": True, "true": True, "False": False, "false": False}
_VALUES: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: int,
    Kind.DECIMAL: Decimal,
    Kind.TIME: lambda text: from_us(int(text) * (1000 if len(text) <= 13 else 1)),
    Kind.BOOLEAN: _FLAGS.__getitem__,
}
