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
_TIME_DIGITS = (13, 16)
#: A trade count of more digits is none, and no database takes it.
_MOST_COUNT_DIGITS = 18
_ZERO, _MINUS = b"0-"


class Lines:
    """Lines of `text`, each from its place in `starts` to that in `ends`. `cuts` has the place of the comma before the
    close time of each line whose close time is the regular one of its interval, and −1 for any other."""

    __slots__ = ("_digits", "cuts", "ends", "starts", "text")

    def __init__(self, text: bytes, starts: Places, cuts: Places, ends: Places, digits: int) -> None:
        self.text = text
        self.starts = starts
        self.cuts = cuts
        self.ends = ends
        self._digits = digits  # of a time, in every line

    @classmethod
    def read(cls, text: bytes, interval: Interval) -> tuple[Lines, Sequence[int]]:
        """The lines of `text`, and their open times in µs (a range where they follow one another, as nearly all do).

        Each has eleven commas, and nothing but digits, points and signs between them. Raises ValueError for a field
        without a digit, and for times that are neither milliseconds nor microseconds, or now the one, now the other.
        """
        import numpy as np

        buffer = np.frombuffer(text, np.uint8)
        places = np.append(np.flatnonzero(buffer < _MINUS), len(text)).astype(np.int32).reshape(-1, FIELDS)
        starts = np.append(np.int32(0), places[:-1, -1] + np.int32(1))
        widths = np.diff(places, axis=1) - 1  # of the fields behind the first
        if widths.min() < 1 or (buffer[places[:, :-1][widths == 1] + 1] < _ZERO).any():
            raise ValueError("a field has no digit")
        digits = int(places[0, _OPEN])
        if digits not in _TIME_DIGITS:
            raise ValueError(f"open time {text[:digits].decode()!r} is neither milliseconds nor microseconds")
        if (places[:, _OPEN] - starts != digits).any():
            raise ValueError("milliseconds and microseconds are mixed")
        opens_ms, size_ms = _milliseconds(buffer, starts), interval.size_us // 1000
        cuts = np.full(len(places), -1, np.int32)
        if not interval.is_calendar:
            # Two slices of such a line are all that is ever needed of it, so that its other widths must be sound too.
            widths_are_right = (
                (widths[:, _CLOSE - 1] == digits) & (widths[:, _COUNT - 1] <= _MOST_COUNT_DIGITS) & (widths[:, -1] == 1)
            )
            before = places[:, _CLOSE - 1]
            closes_ms = _milliseconds(buffer, np.minimum(before + 1, len(text) - _TIME_DIGITS[0]))
            cuts = np.where(widths_are_right & (closes_ms - opens_ms == size_ms - 1), before, cuts)
        lines = cls(text, starts, cuts, places[:, -1], digits)
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
        texts, shifted, total = [], [], 0
        for part in parts:
            first, last = int(part.starts[0]), int(part.ends[-1])
            shift = np.int32(total - first)
            cuts = np.where(part.cuts < 0, part.cuts, part.cuts + shift)
            shifted.append((part.starts + shift, cuts, part.ends + shift))
            texts.append(part.text[first:last])
            total += last - first + 1
        if not shifted:
            return no_lines()
        starts, cuts, ends = (np.concatenate(places) for places in zip(*shifted, strict=True))
        return cls(b"\n".join(texts), starts, cuts, ends, parts[0]._digits)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: slice) -> Lines:
        return Lines(self.text, self.starts[chosen], self.cuts[chosen], self.ends[chosen], self._digits)

    def __iter__(self) -> Iterator[bytes]:
        text = self.text
        return (text[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    @property
    def are_regular(self) -> bool:
        """Whether all lines have the close time of their interval."""
        return not len(self.cuts) or int(self.cuts.min()) >= 0

    def befores(self) -> list[bytes]:
        """Of regular lines: `,open,high,low,close,volume`."""
        text, begins = self.text, (self.starts + self._digits).tolist()
        return [text[begin:cut] for begin, cut in zip(begins, self.cuts.tolist(), strict=True)]

    def afters(self) -> list[bytes]:
        """Of regular lines: what follows their close time but for the unused last field, beginning with a comma."""
        text, begins = self.text, (self.cuts + self._digits + 1).tolist()
        return [text[begin:end] for begin, end in zip(begins, (self.ends - 2).tolist(), strict=True)]


def check_widths(close_time: bytes | str, trade_count: bytes | str) -> None:
    """What the shape of a line does not tell of its whole numbers; raises ValueError."""
    if len(close_time) not in _TIME_DIGITS:
        raise ValueError(f"close time {close_time!r} is neither milliseconds nor microseconds")
    if len(trade_count) > _MOST_COUNT_DIGITS:
        raise ValueError(f"trade count {trade_count!r} is too large")


def no_lines() -> Lines:
    """Lines of which there is none."""
    import numpy as np

    none = np.empty(0, np.int32)
    return Lines(b"", none, none, none, _TIME_DIGITS[0])


def _milliseconds(buffer: NDArray[np.uint8], places: Places) -> NDArray[np.int64]:
    """The numbers whose thirteen digits begin at `places`: milliseconds, or the greater part of microseconds."""
    import numpy as np

    numbers = np.zeros(len(places), np.int64)
    for digit in range(_TIME_DIGITS[0]):
        numbers *= 10
        numbers += buffer[places + digit]
    return numbers - int("1" * _TIME_DIGITS[0]) * _ZERO
