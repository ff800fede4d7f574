"""What is claimed of a stream's times: never more than is there, and all of it in the end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.continuity import UNCOUNTED
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import CoverageRange, Series
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.stream.buffer import Lost
from airflow_provider_binance.stream.claiming import Claiming
from airflow_provider_binance.stream.payloads import columns
from airflow_provider_binance.stream.rows import rows_of
from airflow_provider_binance.stream.runs import Claim, Run, joined
from airflow_provider_binance.stream.spans import Spans

T0 = 1_700_000_000_000_000
TRADES = Series("spot", "trades", "BTCUSDT")
MARKS = Series("um", "mark_prices", "BTCUSDT")


def runs_of(ticks: list[tuple[int, int]]) -> list[Run]:
    out: list[list[tuple[int, int]]] = []
    for tick in sorted(ticks):
        if out and out[-1][-1][0] == tick[0] - 1:
            out[-1].append(tick)
        else:
            out.append([tick])
    return [Run.of(part) for part in out]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[list[tuple[int, int]]]]:
    """Ticks of which some share an instant, and the flushes that bring them, some of them late."""
    steps = draw(st.lists(st.integers(0, 2), min_size=1, max_size=40))
    times = [T0 + sum(steps[: n + 1]) for n in range(len(steps))]
    ticks = list(enumerate(times, 100))
    # A late tick comes in one of the next flushes.
    flush_of = {tick: number // 4 + draw(st.sampled_from([0, 0, 0, 1, 2])) for number, tick in enumerate(ticks)}
    flushes = [[tick for tick in ticks if flush_of[tick] == number] for number in range(max(flush_of.values()) + 1)]
    return ticks, flushes


@given(deliveries())
def test_a_time_is_claimed_once_and_not_before_all_its_ids_are_there(
    made: tuple[list[tuple[int, int]], list[list[tuple[int, int]]]],
) -> None:
    ticks, flushes = made
    runs: list[Run] = []
    came: set[tuple[int, int]] = set()
    claims: list[Claim] = []
    for flush in flushes:
        came |= set(flush)
        runs, fresh = joined(runs, runs_of(flush))
        claims += fresh
        for claim in fresh:
            there = [tick for tick in ticks if claim.start_us <= tick[1] < claim.end_us]
            assert set(there) <= came
            ids = [one for one, _ in there]
            assert claim[2:] == (len(ids), *((ids[0], ids[-1]) if ids else (None, None)))
    claims.sort()
    assert all(a.end_us <= b.start_us for a, b in pairwise(claims))
    assert sum(claim.end_us - claim.start_us for claim in claims) == max(0, ticks[-1][1] - ticks[0][1] - 1)


def test_times_that_go_back_are_left_to_the_store_to_count() -> None:
    runs, first = joined([], [Run.of([(1, T0), (2, T0 + 10), (3, T0 + 20)])])
    runs, claims = joined(runs, [Run.of([(4, T0 + 15), (5, T0 + 30)])])

    assert first == [(T0 + 1, T0 + 20, 1, 2, 2)]
    assert claims[-1] == (T0 + 16, T0 + 30, 0, None, None)
    assert claims[0] == (T0 + 15, T0 + 30, UNCOUNTED, None, None)
    assert joined(runs, [Run.of([(6, T0 + 40)])])[1] == [(T0 + 30, T0 + 40, 1, 5, 5)]


def trade(number: int, at_us: int) -> tuple[Any, ...]:
    return number, "1", "1", at_us, 0


def mark(at_us: int) -> tuple[Any, ...]:
    return at_us, "1", None, None, None, None


def told(ranges: list[CoverageRange]) -> list[tuple[int, ...]]:
    return [(r.start_us - T0, r.end_us - T0, r.row_count) for r in ranges]


def test_trades_of_one_instant_that_two_flushes_bring() -> None:
    spans = Spans()
    first = [trade(1, T0), trade(2, T0 + 5), trade(3, T0 + 5)]
    second = [trade(4, T0 + 5), trade(5, T0 + 9), trade(7, T0 + 20), trade(8, T0 + 30)]

    assert told(spans.take(TRADES, rows_of(TRADES, first), [], T0)) == [(1, 5, 0)]
    assert told(spans.take(TRADES, rows_of(TRADES, second), [], T0)) == [(5, 9, 3), (21, 30, 0)]
    late = rows_of(TRADES, [trade(6, T0 + 20)])
    assert told(spans.take(TRADES, late, [], T0)) == [(9, 21, 3)]


def test_of_events_it_is_told_what_was_lost_and_then_what_is_complete() -> None:
    """See `test_seen`."""
    lost = [Lost(MARKS, T0 + 31, T0 + 50)]
    assert told(Spans().take(MARKS, rows_of(MARKS, [mark(T0 + 20), mark(T0 + 30), mark(T0 + 50)]), lost, T0)) == [
        (31, 50, 0), (20, 31, 2),
    ]  # fmt: skip


def came(*trades: tuple[Any, ...]) -> list[ManyRows]:
    return [ManyRows(dataset("trades"), columns("trades", Market.SPOT), {TRADES: list(trades)})]


def by_series(found: dict[Series, list[CoverageRange]]) -> dict[Series, list[tuple[int, ...]]]:
    return {series: told(ranges) for series, ranges in found.items()}


def test_the_ledger_is_told_now_and_then_and_of_what_is_left_in_the_end() -> None:
    claiming = Claiming(every_us=1_000)
    assert by_series(claiming.take(came(trade(1, T0), trade(2, T0 + 5)), {}, T0)) == {TRADES: [(1, 5, 0)]}
    for at in (2, 3):
        assert claiming.take(came(trade(at + 1, T0 + at * 10)), {}, T0 + 1) == {}
    assert by_series(claiming.take(came(trade(5, T0 + 40)), {}, T0 + 1_000)) == {TRADES: [(5, 40, 3)]}
    assert claiming.take(came(trade(6, T0 + 50)), {}, T0 + 1_001) == {}
    assert by_series(claiming.rest(T0)) == {TRADES: [(40, 50, 1)]}
    assert claiming.rest(T0) == {}


def test_the_ledger_is_told_at_once_of_what_was_lost_and_where_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    claiming = Claiming(every_us=10**9)
    claiming.take(came(trade(1, T0), trade(2, T0 + 5)), {}, T0)
    assert claiming.take(came(trade(3, T0 + 10)), {}, T0) == {}
    lost = {TRADES: [Lost(TRADES, T0 + 10, T0 + 31)]}
    assert by_series(claiming.take(came(trade(5, T0 + 30), trade(6, T0 + 40)), lost, T0)) == {
        TRADES: [(10, 31, 0), (5, 10, 1), (31, 40, 0)],
    }  # fmt: skip
    monkeypatch.setattr("airflow_provider_binance.stream.claiming.MOST_ROWS", 2)
    assert claiming.take(came(trade(7, T0 + 50), trade(8, T0 + 60)), {}, T0) == {}
    assert by_series(claiming.take(came(trade(9, T0 + 70)), {}, T0)) == {TRADES: [(40, 70, 3)]}
    assert claiming.take(came(trade(10, T0 + 80), trade(11, T0 + 90)), {}, T0) == {}


def test_of_two_rows_with_one_key_the_first_is_kept() -> None:
    series = Series(Market.SPOT, "book_tickers", "BTCUSDT")
    twice = [(7, "1", "1", "2", "2", None, None, T0 + 1), (7, "1", "1", "2", "2", None, None, T0 + 2)]

    assert list(rows_of(series, twice).tuples()) == twice[:1]
