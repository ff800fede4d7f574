"""The server's clock from `time` and from Date headers."""

from __future__ import annotations

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.rest.clock import REFRESH_SECONDS, UNKNOWN_GUARD_MS, ServerClock

LOCAL = 1_700_000_000.0


class Local:
    def __init__(self, now=LOCAL):
        self.now = now

    def __call__(self):
        return self.now


def date(server):
    return {"Date": formatdate(int(server), usegmt=True)}


def test_before_the_first_answer_the_local_clock_is_believed_a_little():
    clock = ServerClock(Local())
    assert (clock.now_ms(), clock.guard_ms, clock.is_exact) == (1_700_000_000_000, UNKNOWN_GUARD_MS, False)


def test_time_gives_the_middle_of_the_round_trip():
    local = Local()
    clock = ServerClock(local)
    clock.measure((LOCAL + 100) * 1000, LOCAL - 0.1, LOCAL + 0.1)
    assert abs(clock.offset - 100.0005) < 0.001
    assert clock.guard_ms == 100
    assert clock.is_exact
    local.now += REFRESH_SECONDS + 1
    assert not clock.is_exact
    assert abs(clock.offset - 100) < 0.01, "old knowledge is better than none"


@given(offset=st.floats(-5000, 5000), delays=st.lists(st.floats(0.01, 0.4), min_size=40, max_size=40))
def test_dates_narrow_the_offset_and_never_exclude_the_truth(offset, delays):
    local = Local()
    clock = ServerClock(local)
    for delay in delays:
        local.now += 0.37
        sent = local.now
        server = sent + delay / 2 + offset
        local.now += delay
        clock.observe(date(server), sent, local.now)
        assert abs(clock.offset - offset) * 1000 <= clock.guard_ms + 1
    assert clock.guard_ms < 300


def test_a_clock_that_was_set_is_noticed():
    clock = ServerClock(Local())
    clock.measure(LOCAL * 1000, LOCAL, LOCAL)
    clock.observe(date(LOCAL), LOCAL, LOCAL)
    assert clock.is_exact
    clock.observe(date(LOCAL + 86_400), LOCAL, LOCAL)
    assert not clock.is_exact
    assert abs(clock.offset - 86_400) <= 1


def test_a_date_of_another_clock_does_not_disturb_the_exact_one():
    clock = ServerClock(Local())
    clock.measure((LOCAL - 10**7) * 1000, LOCAL, LOCAL)
    for _ in range(3):
        clock.observe(date(LOCAL), LOCAL, LOCAL + 0.1)
    assert clock.is_exact
    assert abs(clock.offset + 10**7) < 0.01


def test_odd_dates_teach_nothing():
    clock = ServerClock(Local())
    for headers in ({}, {"Date": "yesterday"}, {"Date": ""}):
        clock.observe(headers, LOCAL, LOCAL)
    assert clock.guard_ms == UNKNOWN_GUARD_MS
