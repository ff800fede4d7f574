"""Binance's kline shapes → rows. Sole owner of ms-or-µs and of cm's shifted columns.

Archive lines and REST pages are brought to one form, twelve comma-separated fields a line, and stay bytes from there to
the database (`KlineRows`): a page of the bulk path is never a Python object per value. Anything that the bulk path does
not know to the letter (quotes, exponents, blanks, a header in an odd place) goes through the slow reader, which ends in
the same lines or in CorruptArchiveError / MalformedResponseError. `klines()` is the record path beside it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.market import DAY_US, Interval, Market, from_us
from airflow_provider_binance.records import Kline, Series

_FIELDS = 12
_DIGITS = b"0123456789"
_PLAIN = _DIGITS + b".,\n"
#: What is left of a line without its digits: slots 0, 6 and 8 are whole numbers, the others have at most one point.
_SHAPE = re.compile(rb",(?:-?\.?,){5},-?\.?,,-?\.?,-?\.?,-?\.?")
_LEADING_ZERO = re.compile(r",0\d|,\.")
_TIME_DIGITS = (13, 16)
#: A trade count of more digits is none, and no database takes it.
_MOST_COUNT_DIGITS = 18
#: An exponent beyond this is damage, and its plain notation would fill the memory.
_MOST_EXPONENT = 400
_CHUNK_ROWS = 8192
_DAY_MS = DAY_US // 1000

#: Columns that a kline line carries, in the order in which both forms of `KlineRows` give them.
_QUOTED = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trade_count",
    "taker_buy_base_volume", "taker_buy_quote_volume",
)  # fmt: skip
_COIN = (
    "open_time", "open", "high", "low", "close", "contracts", "close_time", "volume", "trade_count",
    "taker_buy_contracts", "taker_buy_base_volume",
)  # fmt: skip


def carried_columns(market: Market) -> tuple[str, ...]:
    """The columns that klines of `market` carry, slot by slot (the twelfth slot is unused)."""
    return _COIN if market is Market.CM else _QUOTED


class KlineRows:
    """Klines of one series as raw lines, ascending by open time; implements `records.Rows`.

    `lines` are twelve fields each, times in milliseconds or microseconds (told by the digits of the first field).
    """

    def __init__(self, lines: list[bytes], times_us: list[int], market: Market, interval: Interval) -> None:
        self._lines = lines
        self._times = times_us
        self._market = market
        self._interval = interval
        self.columns = carried_columns(market)

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def first_us(self) -> int:
        """Open time of the first row."""
        return self._times[0]

    @property
    def last_us(self) -> int:
        """Open time of the last row."""
        return self._times[-1]

    def times_us(self) -> Sequence[int]:
        """Open time of every row."""
        return self._times

    def between(self, start_us: int, end_us: int) -> KlineRows:
        """The rows that open in `[start_us, end_us)`."""
        low, high = bisect_left(self._times, start_us), bisect_left(self._times, end_us)
        if low == 0 and high == len(self._times):
            return self
        return KlineRows(self._lines[low:high], self._times[low:high], self._market, self._interval)

    def within(self, stretches: Sequence[tuple[int, int]]) -> KlineRows:
        """The rows that open in any of `stretches` (ascending, disjoint)."""
        parts = [self.between(start_us, end_us) for start_us, end_us in stretches]
        lines = [line for part in parts for line in part._lines]
        return KlineRows(lines, [at for part in parts for at in part._times], self._market, self._interval)

    @classmethod
    def joined(cls, parts: Sequence[KlineRows], market: Market, interval: Interval) -> KlineRows:
        """The rows of `parts`, put in order; two different klines of one open time are a MalformedResponseError."""
        if len(parts) == 1:
            return parts[0]
        lines = [line for part in parts for line in part._lines]
        times = [at for part in parts for at in part._times]
        if any(map(int.__ge__, times, times[1:])):
            try:
                lines, times = _ordered(lines, times)
            except ValueError as error:
                raise MalformedResponseError(str(error)) from error
        return cls(lines, times, market, interval)

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text: `series_id`, then `columns`, a chunk per 8,192 rows. Raises CorruptArchiveError on an odd line."""
        clocks = None if self._interval.is_calendar or DAY_US % self._interval.size_us else _clocks(self._interval)
        line_of = partial(_copy_line, b"%d," % series_id)
        for at in range(0, len(self._lines), _CHUNK_ROWS):
            lines, times = self._lines[at : at + _CHUNK_ROWS], self._times[at : at + _CHUNK_ROWS]
            try:
                chunk = clocks and _even_chunk(series_id, self._interval, clocks, lines, times)
                yield chunk or b"\n".join(map(line_of, lines)) + b"\n"
            except (ValueError, OverflowError) as error:
                raise CorruptArchiveError(f"a kline line has not {_FIELDS} well-formed fields: {error}") from error

    def tuples(self) -> Iterator[tuple[int | str | None, ...]]:
        """A tuple per row in `columns` order: times in µs, decimals as canonical text. Raises as `copy_chunks` does."""
        for at in range(0, len(self._lines), _CHUNK_ROWS):
            lines, times = self._lines[at : at + _CHUNK_ROWS], self._times[at : at + _CHUNK_ROWS]
            try:
                rows = _chunk_tuples(lines, times)
            except (ValueError, OverflowError) as error:
                raise CorruptArchiveError(f"a kline line has not {_FIELDS} well-formed fields: {error}") from error
            yield from rows

    def klines(self, series: Series) -> Iterator[Kline]:
        """The record path: a `Kline` per row, with Decimals and aware times. Raises as `copy_chunks` does."""
        for line in self._lines:
            try:
                kline = _record(line.decode("ascii").split(","), series, self._market)
            except (InvalidOperation, ValueError, OverflowError) as error:
                raise CorruptArchiveError(f"not a kline of {series}: {line!r}") from error
            yield kline


def archive_rows(data: bytes, market: Market, interval: Interval, *, ref: str) -> KlineRows:
    """Rows of an archive file's CSV, or of a part of it that ends at a line's end.

    A header line, which begins with a letter, is passed over; milliseconds or microseconds are told by the digits.
    Raises CorruptArchiveError, naming `ref`, for anything that is not twelve well-formed fields a line.
    """
    if data[:64].lstrip(b'\xef\xbb\xbf \t\r\n"')[:1].isalpha():  # perhaps behind a byte order mark
        data = data.partition(b"\n")[2]
    try:
        return _rows(data.rstrip(b"\n"), market, interval)
    except ValueError as error:
        raise CorruptArchiveError(f"archive file {ref}: {error}", ref=ref) from error


def page_rows(body: bytes, market: Market, interval: Interval) -> KlineRows:
    """Rows of one REST page, a JSON array of twelve-slot arrays. Raises MalformedResponseError for anything else."""
    text = body.strip()
    if text == b"[]":
        return KlineRows([], [], market, interval)
    data = b""
    if text[:2] == b"[[" and text[-2:] == b"]]":
        data = text[2:-2].replace(b"],[", b"\n").replace(b'"', b"")
    try:
        if not data or data.translate(None, _PLAIN):
            data = _page_lines(text)
        rows = _rows(data, market, interval)
        for line in rows._lines:
            fields = line.split(b",", 9)
            _check_widths(fields[6], fields[8])
        return rows
    except (ValueError, RecursionError) as error:
        raise MalformedResponseError(f"a page of klines is not what Binance documents: {error}") from error


def canonical(text: str) -> str:
    """A decimal in plain notation without exponent and without trailing zeros; raises ValueError if it is none."""
    head, dot, tail = text.partition(".")
    if head.isdecimal() and (not dot or tail.isdecimal()) and text.isascii() and (head[0] != "0" or len(head) == 1):
        tail = tail.rstrip("0")
        return f"{head}.{tail}" if tail else head
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no decimal") from None
    if not value.is_finite() or abs(value.adjusted()) > _MOST_EXPONENT:
        raise ValueError(f"{text[:80]!r} is no finite decimal of a sensible size")
    plain = format(value, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in ("-0", "") else plain


def _rows(data: bytes, market: Market, interval: Interval) -> KlineRows:
    """Checked rows of plain lines; raises ValueError."""
    shapes = data.translate(None, _DIGITS)
    if shapes.translate(None, _PLAIN):
        data = _csv_lines(data)
        shapes = data.translate(None, _DIGITS)
    if not data:
        return KlineRows([], [], market, interval)
    lines = data.split(b"\n")
    # Few shapes stand for all lines: a look at each of them costs next to nothing.
    odd = not all(map(_SHAPE.fullmatch, set(shapes.split(b"\n"))))
    if odd or b",," in data or b",\n" in data or b",.," in data or data[-1:] == b",":
        _refuse_odd(lines)
    digits = lines[0].index(b",")
    if digits not in _TIME_DIGITS:
        raise ValueError(f"open time {lines[0][:digits].decode()!r} is neither milliseconds nor microseconds")
    if any(line[digits : digits + 1] != b"," for line in lines):
        raise ValueError("milliseconds and microseconds are mixed")
    times = [int(line[:13]) * 1000 for line in lines]
    if any(map(int.__ge__, times, times[1:])):
        lines, times = _ordered(lines, times)
    return KlineRows(lines, times, market, interval)


def _ordered(lines: list[bytes], times: list[int]) -> tuple[list[bytes], list[int]]:
    """Sorted, with exact repetitions dropped; two different klines of one open time are refused."""
    rows = dict(zip(times, lines, strict=True))
    for at, line in zip(times, lines, strict=True):
        if rows[at] != line:
            raise ValueError(f"two different klines open at {from_us(at).isoformat()}")
    times = sorted(rows)
    return [rows[at] for at in times], times


def _refuse_odd(lines: list[bytes]) -> None:
    for number, line in enumerate(lines, 1):
        fields = line.split(b",")
        shape = line.translate(None, _DIGITS)
        if len(fields) != _FIELDS or not all(fields) or b"." in fields or not _SHAPE.fullmatch(shape):
            raise ValueError(f"line {number} has not {_FIELDS} numbers: {line[:80]!r}")
    raise ValueError("not twelve numbers a line")


def _check_widths(close_time: bytes | str, trade_count: bytes | str) -> None:
    """What the shape of a line does not tell of its whole numbers."""
    if len(close_time) not in _TIME_DIGITS:
        raise ValueError(f"close time {close_time!r} is neither milliseconds nor microseconds")
    if len(trade_count) > _MOST_COUNT_DIGITS:
        raise ValueError(f"trade count {trade_count!r} is too large")


def _csv_lines(data: bytes) -> bytes:
    """The slow reader of archive text: quotes, carriage returns, blanks and exponents end in plain lines."""
    text = data.decode("utf-8")
    try:
        return "\n".join(_plain_line(row) for row in csv.reader(io.StringIO(text, newline="")) if row).encode("ascii")
    except csv.Error as error:  # not a ValueError: a quote without its end, for one
        raise ValueError(str(error)) from error


def _page_lines(body: bytes) -> bytes:
    """The slow reader of a REST page: any JSON spelling of the documented arrays."""
    page = json.loads(body, parse_float=str)
    if not isinstance(page, list) or not all(isinstance(row, list) for row in page):
        raise ValueError(f"expected an array of arrays, got {body[:80]!r}")
    return "\n".join(_plain_line([str(slot) for slot in row]) for row in page).encode("ascii")


def _plain_line(fields: Sequence[str]) -> str:
    if len(fields) != _FIELDS:
        raise ValueError(f"expected {_FIELDS} fields, got {len(fields)}: {list(fields)[:12]!r}")
    stripped = [field.strip() for field in fields]
    plain = [field if slot in (0, 6, 8) else canonical(field) for slot, field in enumerate(stripped)]
    for slot in (0, 6, 8):
        if not (plain[slot].isascii() and plain[slot].isdecimal()):
            raise ValueError(f"slot {slot} {plain[slot]!r} is no whole number")
    return ",".join(plain)


def _clock(rest_ms: int) -> bytes:
    seconds, ms = divmod(rest_ms, 1000)
    hour, minute = divmod(seconds // 60, 60)
    fraction = b".%03d" % ms if ms else b""
    return b"%02d:%02d:%02d%b+00" % (hour, minute, seconds % 60, fraction)


@lru_cache(maxsize=4)
def _clocks(interval: Interval) -> tuple[list[bytes], list[bytes]]:
    """The times of day at which the klines of an interval that divides the day open, and those at which they close."""
    size_ms = interval.size_us // 1000
    opens = range(0, _DAY_MS, size_ms)
    return [_clock(at) for at in opens], [_clock(at + size_ms - 1) for at in opens]


def _even_chunk(
    series_id: int, interval: Interval, clocks: tuple[list[bytes], list[bytes]], lines: list[bytes], times: list[int]
) -> bytes | None:
    """COPY text of klines that follow one another on the grid and close on time; None if these do not.

    Nearly all do. Then a date and a table of the day's times make both times, and the other fields pass through as they
    are: twice as fast as line by line (measured).
    """
    size_us, count = interval.size_us, len(times)
    slot, off_grid = divmod(times[0] % DAY_US, size_us)
    if off_grid or times != list(range(times[0], times[0] + count * size_us, size_us)):
        return None
    fields = b",".join(lines).split(b",")
    # In the unit of the line: a close time in microseconds ends in 999999, or the line is rendered by itself.
    unit_us = 1000 if len(fields[0]) == 13 else 1
    closes = range((times[0] + size_us) // unit_us - 1, (times[-1] + size_us) // unit_us, size_us // unit_us)
    if list(map(int, fields[6::_FIELDS])) != list(closes) or len(max(fields[8::_FIELDS], key=len)) > _MOST_COUNT_DIGITS:
        return None
    opened: list[bytes] = []
    closed: list[bytes] = []
    for day_us in range(times[0] - times[0] % DAY_US, times[-1] + 1, DAY_US):
        until = slot + count - len(opened)
        date = _date(day_us)
        head = b"%d,%b" % (series_id, date)
        opened += [head + clock for clock in clocks[0][slot:until]]
        closed += [date + clock for clock in clocks[1][slot:until]]
        slot = 0
    columns = [opened, *(fields[number::_FIELDS] for number in range(1, _FIELDS - 1))]
    columns[6] = closed
    return b"\n".join(map(b",".join, zip(*columns, strict=True))) + b"\n"


def _chunk_tuples(lines: list[bytes], times: list[int]) -> Iterator[tuple[int | str | None, ...]]:
    """A tuple per line, column by column: three times as fast as line by line (measured)."""
    text = b",".join(lines).decode("ascii")
    fields = text.split(",")
    columns: list[list[str]] = [fields[number::_FIELDS] for number in range(_FIELDS - 1)]
    if len(fields) != len(lines) * _FIELDS:
        raise ValueError("a field too many or too few")
    for close_time in {len(close): close for close in columns[6]}.values():  # one of each width
        _check_widths(close_time, max(columns[8], key=len))
    # What `canonical` does, where no sign and no leading zero asks for more than to cut the zeros behind the point.
    is_plain = "-" not in text and _LEADING_ZERO.search(text) is None
    decimals = [
        [value.rstrip("0").rstrip(".") if "." in value else value for value in columns[number]]
        if is_plain
        else list(map(canonical, columns[number]))
        for number in (1, 2, 3, 4, 5, 7, 9, 10)
    ]
    closes = [int(close[:13]) * 1000 for close in columns[6]]
    counts = list(map(int, columns[8]))
    return zip(times, *decimals[:5], closes, decimals[5], counts, *decimals[6:], strict=True)


def _copy_line(head: bytes, line: bytes) -> bytes:
    """One COPY line of any kline."""
    opened, o, h, l, c, v, closed, w, n, x, y, _ = line.split(b",")  # noqa: E741  # Binance's own letters
    _check_widths(closed, n)
    return b",".join((head + _instant(int(opened[:13])), o, h, l, c, v, _instant(int(closed[:13])), w, n, x, y))


def _instant(at_ms: int) -> bytes:
    day, rest = divmod(at_ms, _DAY_MS)
    return _date(day * DAY_US) + _clock(rest)


def _date(at_us: int) -> bytes:
    return b"%04d-%02d-%02d " % from_us(at_us).timetuple()[:3]


def _record(fields: list[str], series: Series, market: Market) -> Kline:
    values = dict(zip(carried_columns(market), fields, strict=False))

    def decimal(name: str) -> Decimal | None:
        return Decimal(values[name]) if name in values else None

    def time(name: str) -> int:
        return int(values[name][:13]) * 1000

    _check_widths(fields[6], fields[8])
    return Kline(
        series.market,
        series.symbol,
        series.interval,
        from_us(time("open_time")),
        Decimal(values["open"]),
        Decimal(values["high"]),
        Decimal(values["low"]),
        Decimal(values["close"]),
        Decimal(values["volume"]),
        from_us(time("close_time")),
        decimal("quote_volume"),
        int(values["trade_count"]),
        Decimal(values["taker_buy_base_volume"]),
        decimal("taker_buy_quote_volume"),
        decimal("contracts"),
        decimal("taker_buy_contracts"),
    )
