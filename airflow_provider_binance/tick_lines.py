"""`TickLines`: the text of many lines of ticks, and where in it each one's fields stand.

As with klines the text stays one piece of memory from the archive's file to COPY, and numpy answers for all lines at
once what must be asked of every one: its id, its time, and whether its fields are what they should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.kline_lines import ends_of_fields, numbers_at
from airflow_provider_binance.market import DAY_US, from_us
from airflow_provider_binance.registry import Dataset, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Places = NDArray[np.int32]
    Times = NDArray[np.int64]

_DIGITS = b"0123456789"
_ZERO = ord("0")
_TIME_DIGITS = (13, 16)
#: An id of more digits is none, and no database takes it.
_MOST_DIGITS = 18
#: What is left of a field without its digits.
_LEFT = {Kind.INTEGER: rb"-?", Kind.DECIMAL: rb"-?\.?", Kind.TIME: rb"", Kind.BOOLEAN: rb"(?:True|False|true|false)"}


@dataclass(frozen=True)
class TickShape:
    """What the fields of a line are: the columns of `dataset`, in the order of the line; None for one not kept."""

    dataset: Dataset
    fields: tuple[str | None, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that a line fills."""
        return tuple(name for name in self.fields if name is not None)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """What each field is; one that is not kept is a flag."""
        return tuple(Kind.BOOLEAN if name is None else self.dataset.column(name).kind for name in self.fields)

    @cached_property
    def id_slot(self) -> int:
        """Which field is the id."""
        return self.fields.index(self.dataset.key[0])

    @cached_property
    def time_slot(self) -> int:
        """Which field is the time."""
        return self.fields.index(self.dataset.time_column)

    @cached_property
    def last_slot(self) -> int:
        """The last field that is kept."""
        return max(slot for slot, name in enumerate(self.fields) if name is not None)

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """What is left of a sound line without its digits."""
        return re.compile(b",".join(_LEFT[kind] for kind in self.kinds))


class TickLines:
    """Lines of `text`, ascending by id. `starts` and `ends` tell where each line's fields begin and end."""

    __slots__ = ("ends", "ids", "is_fine", "shape", "starts", "text", "times_us")

    def __init__(
        self, shape: TickShape, text: bytes, starts: Places, ends: Places, ids: Times, times_us: Times, is_fine: bool
    ) -> None:
        self.shape, self.text, self.starts, self.ends = shape, text, starts, ends
        self.ids, self.times_us, self.is_fine = ids, times_us, is_fine

    @classmethod
    def none(cls, shape: TickShape) -> TickLines:
        """Lines of which there is none."""
        import numpy as np

        empty, nothing = np.empty(0, np.int32), np.empty(0, np.int64)
        return cls(shape, b"", empty, np.empty((0, len(shape.fields)), np.int32), nothing, nothing, False)

    @classmethod
    def read(cls, shape: TickShape, text: bytes) -> TickLines:
        """The lines of `text`, put in order, exact repetitions dropped.

        Raises ValueError for lines that are not of the shape, for times that are neither milliseconds nor microseconds
        or now the one, now the other, and for two different lines of one id.
        """
        import numpy as np

        if not text:
            return cls.none(shape)
        left = text.translate(None, _DIGITS)
        if odd := [each for each in set(left.split(b"\n")) if not shape.pattern.fullmatch(each)]:
            raise ValueError(_first_odd(shape, text, odd[0]))
        buffer, ends = ends_of_fields(text, len(shape.fields))
        starts = np.append(np.int32(0), ends[:-1, -1] + np.int32(1)).astype(np.int32)
        begins = np.column_stack([starts, ends[:, :-1] + 1])
        widths = ends - begins
        numeric = [slot for slot, kind in enumerate(shape.kinds) if kind is not Kind.BOOLEAN]
        if widths.min() < 1 or (buffer[ends[:, numeric] - 1] < _ZERO).any():
            raise ValueError("a number does not end with a digit")
        whole = [slot for slot, kind in enumerate(shape.kinds) if kind is Kind.INTEGER]
        if widths[:, whole].max() > _MOST_DIGITS:
            raise ValueError("an id is too large")
        digits = int(widths[0, shape.time_slot])
        if digits not in _TIME_DIGITS:
            raise ValueError(f"a time of {digits} digits is neither milliseconds nor microseconds")
        if (widths[:, shape.time_slot] != digits).any():
            raise ValueError("milliseconds and microseconds are mixed")
        is_fine = digits == _TIME_DIGITS[1]
        times = numbers_at(buffer, begins[:, shape.time_slot], digits) * (1 if is_fine else 1000)
        ids = _integers(buffer, ends[:, shape.id_slot], widths[:, shape.id_slot])
        return cls(shape, text, starts, ends, ids, times, is_fine)._in_order()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: Any) -> TickLines:
        """The lines of a slice, or of an array of places or flags."""
        return TickLines(
            self.shape, self.text, self.starts[chosen], self.ends[chosen], self.ids[chosen], self.times_us[chosen],
            self.is_fine,
        )  # fmt: skip

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._slices(self.starts, self.ends[:, self.shape.last_slot]))

    def befores(self) -> list[bytes]:
        """What each line has before its time, without the comma."""
        return self._slices(self.starts, self.ends[:, self.shape.time_slot - 1])

    def afters(self) -> list[bytes]:
        """What each line has behind its time, beginning with the comma."""
        return self._slices(self.ends[:, self.shape.time_slot], self.ends[:, self.shape.last_slot])

    def instants(self) -> list[bytes]:
        """Each line's time as COPY takes it, with as many digits as the source gave."""
        return _instants(self.times_us, 6 if self.is_fine else 3)

    def days(self) -> tuple[list[bytes], list[int]]:
        """The UTC days of the lines, as COPY takes them, and which of them is each line's."""
        import numpy as np

        days, which = np.unique(self.times_us // DAY_US, return_inverse=True)
        return [b"%04d-%02d-%02d" % from_us(day * DAY_US).timetuple()[:3] for day in days.tolist()], which.tolist()

    def between(self, start_us: int, end_us: int) -> TickLines:
        """The lines of `[start_us, end_us)`."""
        if self.is_timely:
            low, high = self.times_us.searchsorted([start_us, end_us]).tolist()
            return self if (low, high) == (0, len(self)) else self[low:high]
        return self[(self.times_us >= start_us) & (self.times_us < end_us)]

    @property
    def is_timely(self) -> bool:
        """Whether the times ascend as the ids do."""
        return bool((self.times_us[1:] >= self.times_us[:-1]).all())

    def _in_order(self) -> TickLines:
        import numpy as np

        steps = np.diff(self.ids)
        if (steps > 0).all():
            return self
        order = np.argsort(self.ids, kind="stable")
        found = self[order]
        again = np.flatnonzero(np.diff(found.ids) == 0)
        if not len(again):
            return found
        lines = list(found)
        for at in again.tolist():
            if lines[at] != lines[at + 1]:
                raise ValueError(f"two different rows have the id {found.ids[at]}")
        return found[np.append(True, np.diff(found.ids) > 0)]

    def _slices(self, starts: Places, ends: Places) -> list[bytes]:
        text = self.text
        return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _first_odd(shape: TickShape, text: bytes, left: bytes) -> str:
    number, line = next(
        (number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.translate(None, _DIGITS) == left
    )
    return f"line {number} has not the {len(shape.fields)} fields of {shape.dataset.name}: {line[:120]!r}"


def _integers(buffer: NDArray[np.uint8], ends: Places, widths: Places) -> Times:
    """The whole numbers that end at `ends`; raises ValueError for a negative one."""
    import numpy as np

    numbers, power = np.zeros(len(ends), np.int64), 1
    for digit in range(int(widths.max())):
        is_there = widths > digit
        value = buffer[np.where(is_there, ends - 1 - digit, 0)].astype(np.int64) - _ZERO
        if (value[is_there] < 0).any():
            raise ValueError("an id is negative")
        numbers += np.where(is_there, value, 0) * power
        power *= 10
    return numbers


def _instants(times_us: Times, digits: int) -> list[bytes]:
    """UTC times as text with so many digits of the second: made a column of characters at a time."""
    import numpy as np

    width = 24 + digits - 1
    text = np.empty((len(times_us), width), np.uint8)
    text[:] = np.frombuffer(b"0000-00-00 00:00:00." + b"0" * digits + b"+00", np.uint8)
    days, rest = np.divmod(times_us, DAY_US)
    for day in np.unique(days).tolist():
        date = b"%04d-%02d-%02d" % from_us(day * DAY_US).timetuple()[:3]
        text[days == day, :10] = np.frombuffer(date, np.uint8)
    seconds, fraction = np.divmod(rest, 1_000_000)
    minutes, seconds = np.divmod(seconds.astype(np.int32), 60)
    hours, minutes = np.divmod(minutes, 60)
    for at, number in ((11, hours), (14, minutes), (17, seconds)):
        text[:, at] += (number // 10).astype(np.uint8)
        text[:, at + 1] += (number % 10).astype(np.uint8)
    fraction = fraction.astype(np.int32) // 10 ** (6 - digits)
    for at in range(19 + digits, 19, -1):
        text[:, at] += (fraction % 10).astype(np.uint8)
        fraction //= 10
    packed = text.tobytes()
    return [packed[at : at + width] for at in range(0, len(packed), width)]
