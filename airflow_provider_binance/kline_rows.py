"""`KlineRows`: checked klines of one series as raw lines, and the forms that stores and users take of them.

A kline is never a Python object per value on the way to COPY: nearly every line passes through as two slices of itself,
with its times told by the grid. What does not fit that (a kline cut short, a month) is rendered by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.kline_image import image
from airflow_provider_binance.kline_lines import FIELDS, Lines, check_widths, no_lines
from airflow_provider_binance.market import DAY_US, Interval, Market, from_us
from airflow_provider_binance.records import Image, Kline, Row, Series

#: An exponent beyond this is damage, and its plain notation would fill the memory.
_MOST_EXPONENT = 400
_CHUNK_ROWS = 4096
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
    """Klines of one series as raw lines, ascending by open time; implements `records.Rows`."""

    def __init__(self, lines: Lines, times_us: Sequence[int], market: Market, interval: Interval) -> None:
        self._lines = lines
        self._times = times_us
        self._market = market
        self._interval = interval
        self.columns = carried_columns(market)

    @classmethod
    def read(cls, text: bytes, market: Market, interval: Interval) -> KlineRows:
        """The rows of checked lines, sorted, exact repetitions dropped; raises ValueError as `Lines.read` does, and for
        two different klines of one open time."""
        if not text:
            return cls(no_lines(), [], market, interval)
        return cls(*Lines.read(text, interval), market, interval)._in_order()

    @classmethod
    def joined(cls, parts: Sequence[KlineRows], market: Market, interval: Interval) -> KlineRows:
        """The rows of `parts`, put in order; two different klines of one open time are a MalformedResponseError."""
        try:
            return parts[0]._united(parts)._in_order() if parts else cls.read(b"", market, interval)
        except ValueError as error:
            raise MalformedResponseError(str(error)) from error

    def __len__(self) -> int:
        return len(self._times)

    @property
    def first_us(self) -> int:
        """Open time of the first row."""
        return self._times[0]

    @property
    def last_us(self) -> int:
        """Open time of the last row."""
        return self._times[-1]

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """The columns of `copy_chunks`: without the close time, if all of them are the regular ones."""
        if not self._lines.are_regular:
            return self.columns
        return tuple(name for name in self.columns if name != "close_time")

    def times_us(self) -> Sequence[int]:
        """Open time of every row."""
        return self._times

    def key_bounds(self) -> tuple[int, int]:
        """First and last open time."""
        return self._times[0], self._times[-1]

    def between(self, start_us: int, end_us: int) -> KlineRows:
        """The rows that open in `[start_us, end_us)`."""
        low, high = bisect_left(self._times, start_us), bisect_left(self._times, end_us)
        if low == 0 and high == len(self._times):
            return self
        return KlineRows(self._lines[low:high], self._times[low:high], self._market, self._interval)

    def within(self, stretches: Sequence[tuple[int, int]]) -> KlineRows:
        """The rows that open in any of `stretches` (ascending, disjoint)."""
        return self._united([self.between(start_us, end_us) for start_us, end_us in stretches])

    def check(self) -> None:
        """Look at the widths of the whole numbers, as both forms below do; raises ValueError."""
        if self._lines.are_regular:
            return
        for line, is_regular in zip(self._lines, self._lines.regular.tolist(), strict=True):
            if not is_regular:
                fields = line.split(b",", 9)
                check_widths(fields[6], fields[8])

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text: `series_id`, then `copy_columns`, a chunk per 4,096 rows; a regular close time is NULL or left
        out. Raises CorruptArchiveError on an odd line."""
        is_regular = self._lines.are_regular
        for lines, times in self._chunks():
            heads = _heads(series_id, self._interval, times)
            try:
                if is_regular:
                    halves = zip(heads, lines.befores(), lines.afters(), strict=True)
                    rows = [b"%b%b%b" % half for half in halves]
                else:
                    rows = [self._copy_line(head, line) for head, line in zip(heads, lines, strict=True)]
            except (ValueError, OverflowError) as error:
                raise CorruptArchiveError(f"a kline line has not {FIELDS} well-formed fields: {error}") from error
            rows.append(b"")
            yield b"\n".join(rows)

    def sqlite_chunks(self, *, images: int) -> Generator[Image | list[Row]]:
        """The rows, 4,096 at a time, or up to four times as many if `images` are too few for that: regular lines as an
        image, else as `tuples` gives them. Raises as `copy_chunks` does."""
        wanted = -(-len(self) // images) if images else 0
        for number, (lines, times) in enumerate(self._chunks(min(wanted, 4 * _CHUNK_ROWS))):
            made = image(lines, times, self._interval) if number < images and lines.are_regular else None
            yield list(self._tuples(lines, times)) if made is None else made

    def tuples(self) -> Iterator[Row]:
        """A tuple per row in `columns` order: times in µs, decimals as canonical text. Raises as `copy_chunks` does."""
        for lines, times in self._chunks():
            yield from self._tuples(lines, times)

    def klines(self, series: Series) -> Iterator[Kline]:
        """The record path: a `Kline` per row, with Decimals and aware times. Raises as `copy_chunks` does."""
        for line in self._lines:
            try:
                kline = _record(line.decode("ascii").split(","), series, self._market)
            except (InvalidOperation, ValueError, OverflowError) as error:
                raise CorruptArchiveError(f"not a kline of {series}: {line!r}") from error
            yield kline

    def _in_order(self) -> KlineRows:
        times = self._times
        if isinstance(times, range) or not any(map(int.__ge__, times, times[1:])):
            return self
        rows = dict(zip(times, self._lines, strict=True))
        for at, line in zip(times, self._lines, strict=True):
            if rows[at] != line:
                raise ValueError(f"two different klines open at {from_us(at).isoformat()}")
        text = b"\n".join([rows[at] for at in sorted(rows)])
        return KlineRows(*Lines.read(text, self._interval), self._market, self._interval)

    def _united(self, parts: Sequence[KlineRows]) -> KlineRows:
        if len(parts) == 1:
            return parts[0]
        times: Sequence[int] = [at for part in parts for at in part._times]
        if times and not self._interval.is_calendar:
            even = range(times[0], times[0] + len(times) * self._interval.size_us, self._interval.size_us)
            times = even if times == list(even) else times
        return KlineRows(Lines.united([part._lines for part in parts]), times, self._market, self._interval)

    def _chunks(self, least_rows: int = 0) -> Iterator[tuple[Lines, Sequence[int]]]:
        rows = max(least_rows, _CHUNK_ROWS)
        for at in range(0, len(self._times), rows):
            chunk = slice(at, at + rows)
            yield self._lines[chunk], self._times[chunk]

    def _tuples(self, lines: Lines, times: Sequence[int]) -> Iterator[Row]:
        if not lines.are_regular or (slots := lines.canonical()) is None:
            return _tuples(lines, times)
        last_us = self._interval.size_us - 1000
        o, h, l, c, v, _, w, n, x, y = slots  # noqa: E741
        return zip(times, o, h, l, c, v, [at + last_us for at in times], w, map(int, n), x, y, strict=True)

    def _copy_line(self, head: bytes, line: bytes) -> bytes:
        """One COPY line of any kline, with its close time, or NULL for the regular one."""
        opened, o, h, l, c, v, closed, w, n, x, y, _ = line.split(b",")  # noqa: E741  # Binance's own letters
        check_widths(closed, n)
        opened_ms, closed_ms = int(opened[:13]), int(closed[:13])
        is_regular = not self._interval.is_calendar and closed_ms == opened_ms + self._interval.size_us // 1000 - 1
        return b",".join((head, o, h, l, c, v, b"\\N" if is_regular else _instant(closed_ms), w, n, x, y))


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


def _heads(series_id: int, interval: Interval, times: Sequence[int]) -> list[bytes]:
    """What each COPY line begins with: the series and the open time."""
    if not isinstance(times, range) or DAY_US % interval.size_us or times.start % interval.size_us:
        return [b"%d,%b" % (series_id, _instant(at // 1000)) for at in times]
    # A date and a table of the day's times make these.
    clocks = _clocks(interval)
    slot = times.start % DAY_US // interval.size_us
    heads: list[bytes] = []
    for day_us in range(times.start - times.start % DAY_US, times.stop, DAY_US):
        date = b"%d,%b" % (series_id, _date(day_us))
        heads += [date + clock for clock in clocks[slot : slot + len(times) - len(heads)]]
        slot = 0
    return heads


def _clock(rest_ms: int) -> bytes:
    seconds, ms = divmod(rest_ms, 1000)
    hour, minute = divmod(seconds // 60, 60)
    fraction = b".%03d" % ms if ms else b""
    return b"%02d:%02d:%02d%b+00" % (hour, minute, seconds % 60, fraction)


@lru_cache(maxsize=4)
def _clocks(interval: Interval) -> list[bytes]:
    """The times of day at which the klines of an interval that divides the day open."""
    return [_clock(at) for at in range(0, _DAY_MS, interval.size_us // 1000)]


def _instant(at_ms: int) -> bytes:
    day, rest = divmod(at_ms, _DAY_MS)
    return _date(day * DAY_US) + _clock(rest)


def _date(at_us: int) -> bytes:
    return b"%04d-%02d-%02d " % from_us(at_us).timetuple()[:3]


def _tuples(lines: Lines, times: Sequence[int]) -> Iterator[Row]:
    """A tuple per line, whatever its digits are."""
    try:
        fields = b",".join(lines).decode("ascii").split(",")
        if len(fields) != len(lines) * FIELDS:
            raise ValueError("a field too many or too few")
        columns: list[list[str]] = [fields[number::FIELDS] for number in range(FIELDS - 1)]
        for close_time in {len(close): close for close in columns[6]}.values():  # one of each width
            check_widths(close_time, max(columns[8], key=len))
        decimals = [list(map(canonical, columns[number])) for number in (1, 2, 3, 4, 5, 7, 9, 10)]
        closes = [int(close[:13]) * 1000 for close in columns[6]]
        counts = list(map(int, columns[8]))
    except (ValueError, OverflowError) as error:
        raise CorruptArchiveError(f"a kline line has not {FIELDS} well-formed fields: {error}") from error
    return zip(times, *decimals[:5], closes, decimals[5], counts, *decimals[6:], strict=True)


def _record(fields: list[str], series: Series, market: Market) -> Kline:
    values = dict(zip(carried_columns(market), fields, strict=False))

    def decimal(name: str) -> Decimal | None:
        return Decimal(values[name]) if name in values else None

    def time(name: str) -> int:
        return int(values[name][:13]) * 1000

    check_widths(fields[6], fields[8])
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
