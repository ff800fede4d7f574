"""`Lines`: the text of many kline lines, and where in it each one's fields stand.

The text stays one piece of memory from the archive's file to COPY. numpy finds the commas and reads the times, so that
what must be asked of every line is answered for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_provider_binance.market import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Places = NDArray[np.int32]

FIELDS = 12
_OPEN, _CLOSE, _COUNT = 0, 6, 8
_DECIMALS = (1, 2, 3, 4, 5, 7, 9, 10)
_TIME_DIGITS = (13, 16)
#: A trade count of more digits is none, and no database takes it.
_MOST_COUNT_DIGITS = 18
_ZERO, _MINUS, _POINT = b"0-."
_EIGHT_ZEROS = int.from_bytes(b"0" * 8)
#: Bytes searched for commas at a time: what that takes besides stays small.
_BLOCK = 1024 * 1024


class Lines:
    """Lines of `text`. `places` has for each the ends of its fields; `regular` tells of each whether its close time is
    the one that its interval makes regular, and nothing else in it is unusual."""

    __slots__ = ("_digits", "places", "regular", "text")

    def __init__(self, text: bytes, places: Places, regular: NDArray[np.bool_], digits: int) -> None:
        self.text = text
        self.places = places
        self.regular = regular
        self._digits = digits  # of a time, in every line

    @classmethod
    def read(cls, text: bytes, interval: Interval) -> tuple[Lines, Sequence[int]]:
        """The lines of `text`, and their open times in µs (a range where they follow one another, as nearly all do).

        Each has eleven commas, and nothing but digits, points and signs between them. Raises ValueError for a field
        without a digit, and for times that are neither milliseconds nor microseconds, or now the one, now the other.
        """
        import numpy as np

        buffer, places = ends_of_fields(text, FIELDS)
        starts = np.append(np.int32(0), places[:-1, -1] + np.int32(1))
        widths = np.diff(places, axis=1) - 1  # of the fields behind the first
        if widths.min() < 1 or (buffer[places[:, :-1][widths == 1] + 1] < _ZERO).any():
            raise ValueError("a field has no digit")
        digits = int(places[0, _OPEN])
        if digits not in _TIME_DIGITS:
            raise ValueError(f"open time {text[:digits].decode()!r} is neither milliseconds nor microseconds")
        if (places[:, _OPEN] - starts != digits).any():
            raise ValueError("milliseconds and microseconds are mixed")
        opens_ms, size_ms = numbers_at(buffer, starts, _TIME_DIGITS[0]), interval.size_us // 1000
        regular = np.zeros(len(places), np.bool_)
        if not interval.is_calendar:
            # Two slices of such a line are all that is ever needed of it, so that its other widths must be sound too.
            regular = (
                (widths[:, _CLOSE - 1] == digits) & (widths[:, _COUNT - 1] <= _MOST_COUNT_DIGITS) & (widths[:, -1] == 1)
            )
            closes = np.minimum(places[:, _CLOSE - 1] + 1, len(text) - _TIME_DIGITS[0])
            regular &= numbers_at(buffer, closes, _TIME_DIGITS[0]) - opens_ms == size_ms - 1
        lines = cls(text, places, regular, digits)
        if not interval.is_calendar and (np.diff(opens_ms) == size_ms).all():
            first = int(opens_ms[0]) * 1000
            return lines, range(first, first + len(opens_ms) * interval.size_us, interval.size_us)
        return lines, (opens_ms * 1000).tolist()

    @classmethod
    def united(cls, parts: Sequence[Lines]) -> Lines:
        """The lines of all `parts`. Raises ValueError if their times are in two units."""
        import numpy as np

        parts = [part for part in parts if len(part)]
        if len({part._digits for part in parts}) > 1:
            raise ValueError("milliseconds and microseconds are mixed")
        if not parts:
            return no_lines()
        texts, places, total = [], [], 0
        for part in parts:
            first, last = int(part.places[0, _OPEN]) - part._digits, int(part.places[-1, -1])
            places.append(part.places + np.int32(total - first))
            texts.append(part.text[first:last])
            total += last - first + 1
        regular = np.concatenate([part.regular for part in parts])
        return cls(b"\n".join(texts), np.concatenate(places), regular, parts[0]._digits)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: slice) -> Lines:
        return Lines(self.text, self.places[chosen], self.regular[chosen], self._digits)

    def __iter__(self) -> Iterator[bytes]:
        text, starts = self.text, (self.places[:, _OPEN] - self._digits).tolist()
        return (text[start:end] for start, end in zip(starts, self.places[:, -1].tolist(), strict=True))

    @property
    def are_regular(self) -> bool:
        """Whether all lines are."""
        return bool(self.regular.all())

    def befores(self) -> list[bytes]:
        """Of regular lines: `,open,high,low,close,volume`."""
        return self._slices(self.places[:, _OPEN], self.places[:, _CLOSE - 1])

    def afters(self) -> list[bytes]:
        """Of regular lines: what follows their close time but for the unused last field, beginning with a comma."""
        return self._slices(self.places[:, _CLOSE], self.places[:, -2])

    def _slices(self, starts: Places, ends: Places) -> list[bytes]:
        text = self.text
        return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def canonical(self) -> list[list[str]] | None:
        """Of regular lines: their fields slot by slot, from `open` to the last but the unused one, with decimals as
        canonical text; None where `canonical_ends` is."""
        if (ends := self.canonical_ends()) is None:
            return None
        base = int(self.places[0, _OPEN]) - self._digits
        text = self.text[base : int(self.places[-1, -1])].decode("ascii")
        bounds = zip((self.places[:, :-2].T + (1 - base)).tolist(), (ends.T - base).tolist(), strict=True)
        return [[text[start:end] for start, end in zip(*slot, strict=True)] for slot in bounds]

    def canonical_ends(self) -> Places | None:
        """Of regular lines: where their fields end, slot by slot as in `canonical`, decimals where their canonical text
        does; None if a sign, a leading zero or many decimals ask for more than to cut the zeros behind a point."""
        import numpy as np

        base, end = int(self.places[0, _OPEN]) - self._digits, int(self.places[-1, -1])
        text = self.text[base:end]
        buffer = np.frombuffer(text, np.uint8)
        places = self.places - np.int32(base)
        starts = (places[:, [slot - 1 for slot in _DECIMALS]] + 1).ravel()
        last = (places[:, _DECIMALS] - 1).ravel()
        first = buffer[starts]
        if (first < _ZERO).any() or ((first == _ZERO) & (buffer[starts + 1] >= _ZERO)).any():
            return None
        # The last eight bytes up to each end as one number, whose size tells how many of them are zeros.
        eight = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))[last - 7] ^ np.uint64(_EIGHT_ZEROS)
        zeros = np.zeros(len(last), np.uint8)
        for bits in range(0, 64, 8):
            zeros += eight < np.uint64(1 << bits)
        if text.count(b".") < len(last):
            zeros[~np.logical_or.reduceat(buffer == _POINT, starts)] = 0
        last -= zeros
        if (buffer[last[zeros == 8]] == _ZERO).any():
            return None
        ends = self.places[:, 1:-1].copy()
        ends[:, [slot - 1 for slot in _DECIMALS]] = (last + (buffer[last] != _POINT) + base).reshape(-1, len(_DECIMALS))
        return ends


def check_widths(close_time: bytes | str, trade_count: bytes | str) -> None:
    """What the shape of a line does not tell of its whole numbers; raises ValueError."""
    if len(close_time) not in _TIME_DIGITS:
        raise ValueError(f"close time {close_time!r} is neither milliseconds nor microseconds")
    if len(trade_count) > _MOST_COUNT_DIGITS:
        raise ValueError(f"trade count {trade_count!r} is too large")


def no_lines() -> Lines:
    """Lines of which there is none."""
    import numpy as np

    return Lines(b"", np.empty((0, FIELDS), np.int32), np.empty(0, np.bool_), _TIME_DIGITS[0])


def ends_of_fields(text: bytes, fields: int) -> tuple[NDArray[np.uint8], Places]:
    """The bytes of plain lines, and for each line where its fields end. Raises ValueError if they do not come out."""
    import numpy as np

    buffer = np.frombuffer(text, np.uint8)
    blocks = [
        (np.flatnonzero(buffer[at : at + _BLOCK] < _MINUS) + at).astype(np.int32) for at in range(0, len(text), _BLOCK)
    ]
    return buffer, np.concatenate([*blocks, np.array([len(text)], np.int32)]).reshape(-1, fields)


def numbers_at(buffer: NDArray[np.uint8], places: Places, digits: int) -> NDArray[np.int64]:
    """The numbers of so many digits that begin at `places`."""
    import numpy as np

    numbers = np.zeros(len(places), np.int64)
    for digit in range(digits):
        numbers *= 10
        numbers += buffer[places + digit]
    return numbers - int("1" * digits) * _ZERO
