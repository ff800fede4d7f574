"""Any interleaving of any number of connections, with cuts, repetitions and disorder: nothing lost unsaid, nothing
taken twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.market import INTERVALS, SECOND_US
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.sequences import KeySequence, RecentSequence, Verdict, sequence_of

AGG_TRADES = Series("um", "agg_trades", "BTCUSDT")
BOOK_TICKERS = Series("spot", "book_tickers", "BTCUSDT")
FIRST = 1_000


def record(series: Series, *values: Any, at_us: int = 0) -> Record:
    return Record(series, at_us, at_us, values)


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Ids as two or three connections bring them: each a subset in order, interleaved, then shaken a little."""
    total = draw(st.integers(1, 40))
    connections = [
        [key for key in range(FIRST, FIRST + total) if draw(st.booleans())] for _ in range(draw(st.integers(1, 3)))
    ]
    order = [(draw(st.integers(0, 60)) + key, key) for keys in connections for key in keys]
    return [key for _, key in sorted(order)]


@given(arrivals(), st.booleans(), st.sets(st.integers(0, 120)))
def test_every_key_is_taken_once_or_lies_in_a_hole(keys: list[int], resumed: bool, settling: set[int]) -> None:
    sequence = KeySequence(lambda key: key + 1, FIRST - 1 if resumed else None)
    taken, settled, gaps = [], [], 0
    for number, key in enumerate(keys):
        before = len(sequence.holes)
        verdict = sequence.take_key(key)
        gaps += verdict is Verdict.GAP
        assert (verdict is Verdict.GAP) == (len(sequence.holes) > before and key == max([*taken, key]))
        if verdict is not Verdict.STALE:
            taken.append(key)
        if number in settling:
            settled += sequence.settle()
            assert sequence.holes == []
    settled += sequence.settle()

    assert len(taken) == len(set(taken))
    lacking = [key for first, end in settled for key in range(first, end)]
    assert not set(lacking) & set(taken)
    start = FIRST if resumed else (keys or [FIRST])[0]
    assert sorted([*taken, *lacking]) == list(range(start, max([*keys, start - 1]) + 1))
    assert bool(lacking) <= bool(gaps)


@pytest.mark.parametrize("interval", ["1s", "1m", "3d", "1w", "1M"])
@given(data=st.data())
def test_klines_of_every_grid_are_told_apart(interval: str, data: st.DataObject) -> None:
    grid = INTERVALS[interval]
    opens = list(grid.opens(1_700_000_000 * SECOND_US, grid.advance(grid.ceil(1_700_000_000 * SECOND_US), 30)))
    series = Series("spot", "klines", "BTCUSDT", interval)
    sequence = sequence_of(series, last=opens[0])
    order = data.draw(st.permutations(opens[1:])) if data.draw(st.booleans()) else opens[1:]
    kept = [at for at in order if data.draw(st.booleans())]
    taken = [at for at in [*kept, *kept] if sequence.take(record(series, at)) is not Verdict.STALE]

    lacking = {at for first, end in sequence.settle() for at in grid.opens(first, end)}
    assert sorted(taken) == sorted(kept)
    assert lacking == {at for at in opens[1:] if at < max([*kept, 0])} - set(kept)


def test_late_record_of_an_overlap_is_no_repetition() -> None:
    sequence = sequence_of(AGG_TRADES)

    verdicts = [sequence.take(record(AGG_TRADES, key)).value for key in (10, 11, 14, 12, 12, 13, 15)]

    assert verdicts == ["accept", "accept", "gap", "accept", "stale", "accept", "accept"]
    assert sequence.settle() == []


def test_what_comes_after_the_hole_was_handed_over_is_stale() -> None:
    sequence = sequence_of(AGG_TRADES, last=9)

    assert sequence.take(record(AGG_TRADES, 14)) is Verdict.GAP
    assert sequence.settle() == [(10, 14)]
    assert sequence.take(record(AGG_TRADES, 12)) is Verdict.STALE


def test_what_comes_before_the_first_is_not_the_streams() -> None:
    sequence = sequence_of(AGG_TRADES)

    assert [sequence.take(record(AGG_TRADES, key)) for key in (10, 9)] == [Verdict.ACCEPT, Verdict.STALE]


@given(arrivals())
def test_growing_keys_are_taken_once_each(keys: list[int]) -> None:
    sequence = sequence_of(BOOK_TICKERS)
    taken = [key for key in keys if sequence.take(record(BOOK_TICKERS, 5 * key, at_us=key)) is not Verdict.STALE]

    assert sorted(taken) == sorted(set(keys))


def test_a_cut_is_a_gap_between_two_times() -> None:
    sequence = sequence_of(BOOK_TICKERS)
    sequence.cut()  # nothing was there that could be lost
    verdicts = [sequence.take(record(BOOK_TICKERS, 7, at_us=100))]
    sequence.cut()
    verdicts += [sequence.take(record(BOOK_TICKERS, key, at_us=at)) for key, at in ((7, 100), (9, 250), (12, 260))]

    assert verdicts == [Verdict.ACCEPT, Verdict.STALE, Verdict.GAP, Verdict.ACCEPT]
    assert sequence.holes == sequence.settle() == [(101, 250)]
    assert sequence.holes == []


def test_restart_beside_stored_rows_is_a_gap() -> None:
    assert sequence_of(BOOK_TICKERS, last=100).take(record(BOOK_TICKERS, 7, at_us=200)) is Verdict.GAP


def test_only_the_last_keys_are_remembered() -> None:
    sequence = RecentSequence(lambda r: (int(str(r.values[0])),), keep=3)
    for key in (1, 2, 3, 4, 5):
        sequence.take(record(BOOK_TICKERS, key, at_us=key))

    assert [sequence.take(record(BOOK_TICKERS, key, at_us=5)) for key in (1, 2, 4)] == [Verdict.STALE] * 3


def test_a_mark_price_that_stays_out_is_a_gap() -> None:
    series = Series("um", "mark_prices", "BTCUSDT")
    sequence = sequence_of(series)
    times = [tenths * SECOND_US // 10 for tenths in (10, 20, 34, 54, 54)]

    assert [sequence.take(record(series, at, at_us=at)).value for at in times] == [
        "accept", "accept", "accept", "gap", "stale",
    ]  # fmt: skip
    assert sequence.settle() == [(34 * SECOND_US // 10 + 1, 54 * SECOND_US // 10)]


def test_liquidations_of_one_instant_are_told_apart() -> None:
    series = Series("um", "liquidations", "BTCUSDT")
    sequence = sequence_of(series)

    def take(side: str, quantity: str) -> Verdict:
        return sequence.take(record(series, 5, side, "LIMIT", "IOC", quantity, "100", at_us=5))

    assert [take("BUY", "1"), take("BUY", "2"), take("SELL", "1"), take("BUY", "1")] == [
        Verdict.ACCEPT, Verdict.ACCEPT, Verdict.ACCEPT, Verdict.STALE,
    ]  # fmt: skip
