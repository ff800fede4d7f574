"""Kline lines made by hypothesis, in the spellings that Binance uses and in odd ones. Knows nothing of the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from tests.realdata.reader import Row, Rows

MINUTE = 60_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
SIZES = {
    "1s": 1000, "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE,
    "1h": HOUR, "2h": 2 * HOUR, "4h": 4 * HOUR, "6h": 6 * HOUR, "8h": 8 * HOUR, "12h": 12 * HOUR,
    "1d": DAY, "3d": 3 * DAY, "1w": 7 * DAY, "1M": 0,
}  # fmt: skip
_ANCHORS = {"3d": DAY, "1w": 4 * DAY}
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


@dataclass(frozen=True)
class File:
    """Klines of one series as the twelve texts of each line."""

    market: str
    interval: str
    lines: tuple[tuple[str, ...], ...]
    has_header: bool

    def csv(self, newline: str = "\n", end: str = "\n", quote: str = "", blank: str = "") -> bytes:
        """The file's text."""
        texts = [HEADER] if self.has_header else []
        texts += [f"{blank},{blank}".join(f"{quote}{field}{quote}" for field in line) for line in self.lines]
        return (newline.join(texts) + end).encode()

    def page(self, glue: str = ",") -> bytes:
        """The JSON of a REST page, where µs lose their fraction and the prices are texts."""
        rows = []
        for line in self.lines:
            slots = [f'"{field}"' for field in line]
            slots[0], slots[6], slots[8] = line[0][:13], line[6][:13], line[8]
            rows.append(f"[{glue.join(slots)}]")
        return f"[{glue.join(rows)}]".encode()

    def rows(self) -> Rows:
        """What must come out."""
        coin = self.market == "cm"
        found: Rows = {}
        for line in self.lines:
            at = int(line[0][:13]) * 1000
            five, seven, nine, ten = (Decimal(line[slot]) for slot in (5, 7, 9, 10))
            row: Row = {"open_time": at, "close_time": int(line[6][:13]) * 1000, "trade_count": int(line[8])}
            row |= {name: Decimal(line[slot]) for slot, name in enumerate(("open", "high", "low", "close"), 1)}
            row |= {
                "volume": seven if coin else five,
                "quote_volume": None if coin else seven,
                "taker_buy_base_volume": ten if coin else nine,
                "taker_buy_quote_volume": None if coin else ten,
                "contracts": five if coin else None,
                "taker_buy_contracts": nine if coin else None,
            }
            found[at] = row
        return found


_digits = st.text("0123456789", min_size=1, max_size=14)
_numbers = st.one_of(
    st.sampled_from(["0", "0.00000000", "0.00000001", "123456789012.12345678", "1", "28080.00000000", "0.0"]),
    st.builds(
        lambda whole, part: whole + part,
        st.integers(0, 10**15).map(str),
        st.one_of(st.just(""), _digits.map(lambda text: f".{text}")),
    ),
)


@st.composite
def files(draw: st.DrawFn, most: int = 12) -> File:
    """Well-formed klines of any market and interval: ms or µs, header or not, many digits, odd close times, holes."""
    market = draw(st.sampled_from(["spot", "um", "cm"]))
    interval = draw(st.sampled_from([name for name in SIZES if name != "1s" or market == "spot"]))
    in_us = market == "spot" and draw(st.booleans())
    first = (
        draw(st.integers(0, 120_000_000_000 // max(SIZES[interval], 1)))
        if interval != "1M"
        else draw(st.integers(0, 90))
    )
    # Most files have every candle, and each closes on time; those take a faster way than the others.
    is_even = draw(st.booleans())
    steps = [1] * draw(st.integers(0, 5 * most)) if is_even else draw(st.lists(st.integers(1, 3), max_size=most))
    lines: list[tuple[str, ...]] = []
    numbers: list[str] = []
    at = first
    for step in steps:
        open_ms, next_ms = _open(interval, at), _open(interval, at + 1)
        odd_close = st.one_of(st.just(next_ms - 1), st.integers(open_ms, next_ms - 1))
        close_ms = next_ms - 1 if is_even else draw(odd_close)
        times = (f"{open_ms}000", f"{close_ms}999") if in_us else (str(open_ms), str(close_ms))
        if not is_even or not lines:
            numbers = [draw(_numbers) for _ in range(8)]
        o, h, l, c, five, seven, nine, ten = numbers  # noqa: E741
        count = str(draw(st.integers(0, 10**9)))
        lines.append((times[0], o, h, l, c, five, times[1], seven, count, nine, ten, "0"))
        at += step
    return File(market, interval, tuple(lines), draw(st.booleans()))


def _open(interval: str, number: int) -> int:
    """The open time, in ms, of the candle of that number, counted from late 2017 on."""
    if interval == "1M":
        moment = datetime(2017 + (7 + number) // 12, (7 + number) % 12 + 1, 1, tzinfo=UTC)
        return int(moment.timestamp()) * 1000
    size, anchor = SIZES[interval], _ANCHORS.get(interval, 0)
    begin = (1_502_928_000_000 - anchor) // size
    return anchor + (begin + number) * size
