"""Whatever order records come in, they go on by their keys: each once, none lacking without a gap in its place."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.market import MINUTE_US, SECOND_US
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.ordering import (
    OVERLAP_HOLD_SECONDS,
    Held,
    KeyLine,
    Piece,
    RecentLine,
    Work,
)

TRADES = Series("spot", "trades", "BTCUSDT")
KLINES = Series("spot", "klines", "BTCUSDT", "1m")
BOOK_TICKERS = Series("um", "book_tickers", "BTCUSDT")
OPEN = 1_700_000_040 * SECOND_US


def record(key: int, at_us: int = 0, series: Series = TRADES) -> Record:
    return Record(series, at_us, at_us, (key,))


def told(pieces: list[Piece]) -> list[Any]:
    """Keys of records, and `(start, end, cause)` of gaps."""
    return [
        (piece.start, piece.end, piece.content.value) if isinstance(piece.content, Cause) else piece.content.values[0]
        for piece in pieces
        if isinstance(piece.content, (Cause, Record))
    ]


def take(line: KeyLine, *keys: int) -> list[Any]:
    return [each for key in keys for each in told(line.take(key, record(key), 0.0))]


def keys(work: Work, *lacking: int) -> list[tuple[int, Record]]:
    return [(key, record(key)) for key in range(work.start, work.end) if key not in lacking]


def test_what_is_early_waits_for_what_is_late() -> None:
    line = KeyLine(TRADES, held := Held())

    assert take(line, 5, 6, 9, 10, 8) == [5, 6]
    assert held.count == len(line) == 3
    assert take(line, 7, 7, 11) == [7, 8, 9, 10, 11]
    assert held.count == len(line) == 0
    assert line.open_since is None


def test_what_stays_lacking_is_fetched_in_pages() -> None:
    line = KeyLine(TRADES, Held())
    take(line, 1, 6, 9)
    assert line.open_since == 0.0
    line.settle()
    assert line.work == [Work(2, 6), Work(7, 9)]
    assert take(line, 3, 7) == []  # it is the repair's to bring

    assert told(line.filled(Work(2, 6), 4, keys(Work(2, 6)))) == [2, 3]
    assert told(line.filled(Work(4, 6), 6, keys(Work(4, 6)))) == [4, 5, 6]
    assert told(line.filled(Work(7, 9), 9, keys(Work(7, 9), 8))) == [7, (8, 9, "not_served"), 9]
    assert line.work == []


def test_what_cannot_be_fetched_is_a_gap_in_its_place() -> None:
    line = KeyLine(TRADES, Held())
    take(line, 1, 6, 9)
    line.settle()
    take(line, 12)

    assert told(line.give_up(Cause.UNREACHABLE, line.work[0])) == [(2, 6, "unreachable"), 6]
    assert told(line.give_up(Cause.BUFFER_FULL)) == [(7, 9, "buffer_full"), 9, (10, 12, "buffer_full"), 12]
    assert line.filled(Work(7, 9), 9, keys(Work(7, 9))) == []  # it came too late
    assert take(line, 13) == [13]


def test_a_late_close_holds_up_the_next_one() -> None:
    line = KeyLine(KLINES, Held())
    line.begin(OPEN)
    line.expect(OPEN)
    assert line.work == []
    line.expect(OPEN + 2 * MINUTE_US)
    [work] = line.work
    assert work == Work(OPEN, OPEN + 2 * MINUTE_US, is_late=True)

    assert take(line, OPEN, OPEN + 2 * MINUTE_US) == []
    found = [(OPEN + MINUTE_US, record(OPEN + MINUTE_US))]
    assert told(line.filled(work, work.end, found)) == [
        (OPEN, OPEN + MINUTE_US, "not_served"), OPEN + MINUTE_US, OPEN + 2 * MINUTE_US,
    ]  # fmt: skip


@given(
    order=st.permutations(range(1, 25)),
    lost=st.sets(st.integers(2, 24), max_size=12),
    served=st.sets(st.integers(2, 24)),
    settling=st.sets(st.integers(0, 24)),
)
def test_order_is_kept_whatever_happens(order: list[int], lost: set[int], served: set[int], settling: set[int]) -> None:
    """Every key from the first to the last goes on once, or lies in a gap, and all of it ascends."""
    line, held = KeyLine(TRADES, both := Held()), []
    out: list[Piece] = []

    def mend() -> None:
        line.settle()
        while line.work:
            work = line.work[0]
            upto = min(work.start + 3, work.end)
            out.extend(
                line.filled(work, upto, [(key, record(key)) for key in range(work.start, upto) if key in served])
            )

    out += line.take(0, record(0), 0.0)
    for number, key in enumerate(order):
        if key not in lost:
            out += line.take(key, record(key), 0.0)
        held.append(both.count == len(line))
        if number in settling:
            mend()
    mend()

    assert all(held)
    assert len(line) == 0
    assert all(before.end == after.start for before, after in pairwise(out))
    last = max(set(order) - lost, default=0)
    assert out[-1].end == last + 1
    gone = {key for piece in out if isinstance(piece.content, Cause) for key in range(piece.start, piece.end)}
    assert not gone & served
    assert gone <= lost | set(range(1, 25))


def take_ticker(line: RecentLine, key: int, at: float, *, overlaps: bool = False) -> list[Any]:
    return told(line.take(record(key, round(at * 1e6), BOOK_TICKERS), at, overlaps=overlaps))


def test_keys_with_holes_go_on_at_once_and_a_cut_is_a_gap() -> None:
    line = RecentLine(BOOK_TICKERS, Held())

    assert take_ticker(line, 3, 1.0) + take_ticker(line, 9, 1.5) + take_ticker(line, 9, 1.6) == [3, 9]
    line.cut()
    assert take_ticker(line, 70, 8.0) == [(1_500_001, 8_000_000, "no_source"), 70]


def test_connections_that_overlap_are_put_in_order() -> None:
    line = RecentLine(BOOK_TICKERS, held := Held())
    assert take_ticker(line, 3, 1.0) == [3]

    assert take_ticker(line, 9, 1.5, overlaps=True) == []
    assert take_ticker(line, 7, 1.6, overlaps=True) == []
    assert held.count == 2
    assert told(line.release(1.6)) == [7, 9]
    assert take_ticker(line, 12, 1.7, overlaps=True) == []
    assert take_ticker(line, 13, 1.8 + OVERLAP_HOLD_SECONDS, overlaps=True) == [12]
    assert take_ticker(line, 14, 2.5) == [13, 14]
    assert held.count == 0


def test_what_comes_too_late_is_told() -> None:
    line = RecentLine(BOOK_TICKERS, Held())
    take_ticker(line, 9, 1.0)

    assert take_ticker(line, 8, 1.1) == [(1_100_000, 1_100_001, "out_of_order")]
    assert take_ticker(line, 10, 1.2) == [10]


@pytest.mark.parametrize("series", [TRADES, KLINES])
def test_the_first_record_is_whatever_comes_first(series: Series) -> None:
    line = KeyLine(series, Held())
    assert line.next_key is None
    line.expect(OPEN)
    assert line.work == []
    assert take(line, OPEN) == [OPEN]
