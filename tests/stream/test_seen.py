"""What is claimed of records without ids: whatever is done to the processes, a time that is complete has all that was
sent in it, counted, and any other time says that it lacks something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.coverage import overlay
from airflow_provider_binance.market import SECOND_US
from airflow_provider_binance.records import CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.stream.batches import packed, unpacked
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.claiming import Claiming
from airflow_provider_binance.stream.flushing import writing_of
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.seen import MOST_LOSSES, Seen
from airflow_provider_binance.stream.taking import Taking

T0 = 1_700_000_000_000_000
MARKS = Series("um", "mark_prices", "BTCUSDT")
LIQUIDATIONS = Series("um", "liquidations", "BTCUSDT")
LINE = LedgerLine(Source.STREAM, "stream", T0)


class World:
    """What was sent, the processes that received some of it, one after the other, and the store."""

    def __init__(self, series: Series, claim_us: int) -> None:
        self.series, self.claim_us = series, claim_us
        self.sent: list[Record] = []
        self.stored: dict[Any, Record] = {}
        self.known: list[CoverageRange] = []
        self.spool: list[bytes] = []
        self.now_us = T0
        self.start()

    def start(self) -> None:
        """A process begins, beside what the ledger knows by now."""
        self.memory: list[Item] = []
        self.claiming = Claiming(self.claim_us)
        self.taking = Taking(self.memory.extend, lambda *_: None)
        self.taking.begin(self.series, self.known, self.now_us)

    def send(self, number: int, second: int) -> Record:
        at_us = T0 + second * SECOND_US
        self.now_us = max(self.now_us, at_us)
        values: tuple[Any, ...] = (at_us, "1", None, None, None, None)
        if self.series is LIQUIDATIONS:
            values = (at_us, "BUY", "LIMIT", "IOC", str(number), "1", "1", "FILLED", "1", "1", at_us)
        self.sent.append(Record(self.series, at_us, at_us, values))
        return self.sent[-1]

    def flush(self, most: int) -> None:
        """The oldest batch of the spool, or the oldest that waits in memory."""
        items = unpacked(self.spool.pop(0)) if self.spool else [self.memory.pop(0) for _ in self.memory[:most]]
        if items:
            for item in items:
                if isinstance(item, Record):
                    self.stored[item.values] = item
            for batch in writing_of(items, LINE, self.now_us, self.claiming).batches:
                self.lay(batch.coverage)

    def lay(self, ranges: Sequence[CoverageRange]) -> None:
        ranges = [one if one.row_count >= 0 else counted(one, self.count(one.start_us, one.end_us)) for one in ranges]
        self.known = overlay(self.known, ranges, count=self.count)

    def count(self, start_us: int, end_us: int) -> int:
        return sum(start_us <= one.values[0] < end_us for one in self.stored.values())

    def act(self, what: str, number: int, second: int, most: int) -> None:
        match what:
            case "event":
                self.take(self.send(number, second))
            case "overtaken":
                late = self.send(number, second)
                self.taking.take([self.send(-number, second + 1)], 0.0)
                self.taking.take([late], 0.0)
            case "cut":
                self.taking.cut([self.series])
                self.send(number, second)
            case "flush":
                self.flush(most)
            case "spool":
                if self.memory:
                    self.spool.append(packed(self.memory[:most]))
                    del self.memory[:most]
            case "kill":
                self.send(number, second)
                self.start()
            case "kill in drain":
                self.start()
                self.flush(most)
        self.check()

    def take(self, record: Record) -> None:
        self.taking.take([record], 0.0)

    def check(self) -> None:
        for one in self.known:
            if one.state is State.COMPLETE:
                sent = {r.values for r in self.sent if one.start_us <= r.values[0] < one.end_us}
                assert sent <= self.stored.keys(), "what is complete lacks something"
                assert one.row_count == len(sent)


def counted(one: CoverageRange, count: int) -> CoverageRange:
    return CoverageRange(one.start_us, one.end_us, one.state, count, checked_at_us=one.checked_at_us)


ACTS = st.sampled_from(["event"] * 6 + ["flush"] * 4 + ["overtaken", "cut", "spool", "kill", "kill in drain"])


@settings(max_examples=200)
@given(
    st.lists(st.tuples(ACTS, st.integers(0, 2), st.integers(1, 6)), max_size=60),
    st.sampled_from([MARKS, LIQUIDATIONS]),
    st.sampled_from([0, 7 * SECOND_US]),
)
def test_what_is_complete_has_all_that_was_sent(
    acts: list[tuple[str, int, int]], series: Series, claim_us: int
) -> None:
    world, second = World(series, claim_us), 0
    for number, (what, step, most) in enumerate(acts):
        # Mark prices come every second; orders may share an instant.
        second += 1 if series is MARKS else step
        world.act(what, number, second, most)
        second += what in ("cut", "overtaken") or "kill" in what
    world.take(world.send(len(acts), second + 2))
    while world.memory or world.spool:
        world.flush(6)
    for ranges in world.claiming.rest(world.now_us).values():
        world.lay(ranges)
    world.check()

    world.start()
    world.take(world.send(len(acts) + 1, second + 3))
    while world.memory:
        world.flush(6)
    assert all(a.end_us == b.start_us for a, b in pairwise(world.known)), "something is not told"


def lost(start: int, end: int) -> Lost:
    return Lost(MARKS, at(start), at(end))


def at(second: int) -> int:
    return T0 + second * SECOND_US


def told(seen: Seen, seconds: Sequence[int], *losses: Lost) -> list[tuple[float, ...]]:
    """In seconds: what is claimed, with the number of records, and what is lost."""
    claims, lost = seen.take([at(second) for second in seconds], losses)
    bounds = [(one.start_us, one.end_us, one.row_count) for one in claims] + [
        (one.start_us, one.end_us) for one in lost
    ]
    return [((one[0] - T0) / SECOND_US, (one[1] - T0) / SECOND_US, *one[2:]) for one in bounds]


BEHIND = 1e-6


def test_the_last_seconds_are_claimed_with_what_follows() -> None:
    seen = Seen(is_alone=True)
    assert told(seen, [0, 10, 10]) == [(0, 5, 1)]
    assert told(seen, [8, 10]) == []
    assert told(seen, [20]) == [(5, 15, 4)]


def test_a_late_record_does_not_fill_what_was_lost_before_it() -> None:
    seen = Seen(is_alone=True)
    assert told(seen, [0, 10, 300], lost(11, 300)) == [(0, 10 + BEHIND, 2), (10 + BEHIND, 300)]
    # The connection before had these in its buffers, and was closed.
    assert told(seen, [20, 30, 310]) == [(300, 305, 1)]
    # This is told of to the store, which counts what it has of that instant.
    assert told(seen, [304]) == [(304, 304 + BEHIND, -1)]


def test_a_loss_begins_where_the_claim_before_it_ends() -> None:
    """An earlier process left records in the spool, of which the ledger did not know when this one began."""
    seen = Seen(is_alone=True)
    assert told(seen, [0, 10]) == [(0, 5, 1)]
    assert told(seen, [300], lost(300, 300)) == [(5, 300)]
    assert told(seen, [310]) == [(300, 305, 1)]


def test_where_records_share_instants_the_one_before_a_loss_is_lost_too() -> None:
    seen = Seen(is_alone=False)
    assert told(seen, [0, 10, 300], lost(11, 300)) == [(0, 10, -1), (10, 300)]


def test_a_loss_may_come_before_its_record_and_before_any() -> None:
    seen = Seen(is_alone=True)
    assert told(seen, [], lost(0, 30)) == [(0, 30)]
    assert told(seen, [], lost(30, 50)) == [(30, 50)]
    assert told(seen, [40, 50, 60]) == [(50, 55, 1)]


def test_what_was_lost_long_ago_is_still_not_filled() -> None:
    seen = Seen(is_alone=True)
    for second in range(0, 20 * MOST_LOSSES, 10):
        seen.take([at(second + 5)], [lost(second, second + 5)])
    assert told(seen, [3]) == []
