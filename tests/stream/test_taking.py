"""What is taken goes on in order, what is lacking is told with its times and asked for, or told to be gone for good."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from airflow_provider_binance.market import HOUR_US, MINUTE_US, SECOND_US
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.mending import Urgency
from airflow_provider_binance.stream.taking import MISSED, WAS_AWAY, Taking

TRADES = Series("spot", "trades", "BTCUSDT")
MARKS = Series("um", "mark_prices", "BTCUSDT")
KLINES = Series("spot", "klines", "BTCUSDT", "1m")
NOW = 1_700_000_040_000_000


class Room:
    """A Taking, what it put, and what it asked for."""

    def __init__(self, *begun: Series, known: Sequence[CoverageRange] = ()) -> None:
        self.items: list[Item] = []
        self.asked: list[tuple[Urgency, Series, int, int]] = []
        self.taking = Taking(self.items.extend, lambda *order: self.asked.append(order))
        for series in begun:
            self.taking.begin(series, known, NOW)

    def trade(self, *ids: int, at: float = 0.0) -> None:
        self.taking.take([trade(number) for number in ids], at)

    @property
    def told(self) -> list[int | tuple[int, int]]:
        """The ids that were put, and the times of what was lost."""
        return [
            (i.start_us - NOW, i.end_us - NOW) if isinstance(i, Lost) else int(i.values[0] or 0) for i in self.items
        ]


def trade(number: int) -> Record:
    """Ids follow one another every 10 µs, three of them in the same instant."""
    at_us = NOW + number // 3 * 10
    return Record(TRADES, at_us, at_us, (number, "1", "1", at_us, 0))


def mark(second: int) -> Record:
    at_us = NOW + second * SECOND_US
    return Record(MARKS, at_us, at_us, (at_us, "1", None, None, None, None))


def test_what_follows_goes_on_at_once() -> None:
    room = Room(TRADES)
    room.trade(7, 8)
    room.trade(9)
    assert (room.told, room.asked, room.taking.gaps) == ([7, 8, 9], [], 0)


def test_what_comes_twice_and_what_nobody_wants_is_stale() -> None:
    room = Room(TRADES)
    room.trade(7, 8, 7)
    room.taking.take([mark(1)], 0.0)
    assert (room.told, room.taking.stale) == ([7, 8], 2)


def test_late_records_are_put_in_order() -> None:
    room = Room(TRADES)
    room.trade(1, 4, 5, 3)
    assert room.told == [1]
    room.trade(2, 6)
    room.taking.settle(before=99.0)
    assert (room.told, room.asked) == ([1, 2, 3, 4, 5, 6], [])


def test_what_stays_lacking_stands_where_it_is_with_both_neighbours_instants() -> None:
    room = Room(TRADES)
    room.trade(1, 5, 9, at=10.0)
    room.trade(8, at=11.0)
    room.taking.settle(before=9.0)
    assert room.told == [1]
    room.taking.settle(before=10.0)
    assert room.told == [1, (0, 11), 5, (10, 21), 8, 9]
    assert room.asked == [(Urgency.REPAIR, TRADES, NOW, NOW + 11), (Urgency.REPAIR, TRADES, NOW + 10, NOW + 21)]
    assert (room.taking.gaps, room.taking.unavailable) == (2, 0)
    room.trade(2, 10)
    assert room.told[-1] == 10
    assert room.taking.stale == 1


def test_what_was_missed_while_nobody_listened_is_asked_for_up_to_the_first_record() -> None:
    room = Room(TRADES, known=[CoverageRange(NOW - HOUR_US, NOW - MINUTE_US, State.COMPLETE, 9, 1, 9)])
    room.trade(31)
    room.trade(32)
    assert room.items[0] == Lost(TRADES, NOW - MINUTE_US, NOW + 101, WAS_AWAY)
    assert room.told[1:] == [31, 32]
    assert room.asked == [(Urgency.REPAIR, TRADES, NOW - MINUTE_US, NOW + 101)]


def test_a_series_that_stays_silent_is_asked_for_without_a_record() -> None:
    room = Room(TRADES, MARKS, known=[CoverageRange(NOW - HOUR_US, NOW - MINUTE_US, State.COMPLETE, 9, 1, 9)])
    room.taking.ask_late(NOW + 29 * SECOND_US)
    assert room.asked == []
    for seconds in (30, 31):
        room.taking.ask_late(NOW + seconds * SECOND_US)
    assert room.asked == [(Urgency.REPAIR, TRADES, NOW - MINUTE_US, NOW)]


def test_the_first_start_just_begins() -> None:
    room = Room(TRADES, MARKS, KLINES)
    room.trade(31)
    room.taking.take([mark(1)], 0.0)
    # Of marks a spool may have more than the ledger knows.
    begins = NOW + SECOND_US
    assert room.items[1] == Lost(MARKS, begins, begins, f"{WAS_AWAY}; no other source has it", is_for_good=True)
    assert (len(room.items), room.asked, room.taking.gaps) == (3, [], 0)


def test_what_no_other_source_has_is_gone_at_once() -> None:
    room = Room(MARKS, known=[CoverageRange(NOW - HOUR_US, NOW - MINUTE_US, State.COMPLETE, 9)])
    room.taking.take([mark(0), mark(1)], 0.0)
    room.taking.cut([MARKS])
    room.taking.take([mark(2)], 0.0)
    room.taking.take([mark(30)], 0.0)  # a silence that marks do not have
    lost = [item for item in room.items if isinstance(item, Lost)]
    assert [(one.start_us - NOW, one.end_us - NOW) for one in lost] == [
        (-MINUTE_US, 0), (SECOND_US + 1, 2 * SECOND_US), (2 * SECOND_US + 1, 30 * SECOND_US),
    ]  # fmt: skip
    assert all(one.is_for_good and "no other source has it" in one.why for one in lost)
    assert room.asked == []
    assert (room.taking.gaps, room.taking.unavailable) == (3, 3)


def test_klines_are_behind_up_to_the_one_that_is_open() -> None:
    room = Room(KLINES, known=[CoverageRange(NOW - HOUR_US, NOW - 2 * MINUTE_US, State.COMPLETE, 58)])
    assert room.asked == [(Urgency.REPAIR, KLINES, NOW - 2 * MINUTE_US, NOW)]
    assert room.items == [Lost(KLINES, NOW - 2 * MINUTE_US, NOW, WAS_AWAY)]


def test_a_close_that_is_late_is_asked_for_at_once() -> None:
    room = Room(KLINES)
    room.taking.ask_late(NOW + MINUTE_US + 4 * SECOND_US)
    assert room.asked == []
    room.taking.ask_late(NOW + MINUTE_US + 5 * SECOND_US)
    assert room.asked == [(Urgency.LIVE, KLINES, NOW, NOW + MINUTE_US)]


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_open_is_written_down_when_a_series_is_dropped_or_all_ends(ends: bool) -> None:
    room = Room(TRADES)
    room.trade(1, 5)
    if ends:
        room.taking.settle(before=float("inf"))
    else:
        room.taking.drop([TRADES])
    assert room.told == [1, (0, 11), 5]
    assert room.items[1] == Lost(TRADES, NOW, NOW + 11, MISSED)
    assert len(room.asked) == 1


def test_seconds_without_a_trade_are_no_gaps_and_are_asked_for_a_minute_at_a_time() -> None:
    series = Series("spot", "klines", "BTCUSDT", "1s")
    room = Room(series)
    for second in range(0, 130, 3):  # of three one has a trade
        at_us = NOW + second * SECOND_US
        room.taking.take([Record(series, at_us, at_us, (at_us, *["1"] * 10))], float(second))
        room.taking.settle(before=second - 5.0)
        room.taking.ask_late(at_us + SECOND_US)
    assert (room.taking.gaps, [item for item in room.items if isinstance(item, Lost)]) == (0, [])
    assert {urgency for urgency, *_ in room.asked} == {Urgency.LIVE}
    assert [(start - NOW, end - NOW) for _, _, start, end in room.asked] == [
        (SECOND_US, 62 * SECOND_US), (64 * SECOND_US, 125 * SECOND_US),
    ]  # fmt: skip


def test_seconds_that_a_cut_took_are_a_gap() -> None:
    series = Series("spot", "klines", "BTCUSDT", "1s")
    room = Room(series)
    for second in (0, 200):
        at_us = NOW + second * SECOND_US
        room.taking.take([Record(series, at_us, at_us, (at_us, *["1"] * 10))], float(second))
    room.taking.settle(before=999.0)
    assert room.asked == [(Urgency.REPAIR, series, NOW + SECOND_US, NOW + 200 * SECOND_US)]
