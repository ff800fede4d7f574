"""When links are dead, replaced and tried again, over times that are given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.market import HOUR_US
from airflow_provider_binance.stream.pacing import Beat, Heartbeat, Talk, life_us, reconnect_pause


def test_a_silent_link_is_asked_once_and_then_dead() -> None:
    heart = Heartbeat(100.0, silence_seconds=4.0)

    assert [heart.look(at) for at in (100.0, 103.9, 104.0, 104.5, 107.9, 108.0)] == [
        Beat.NOTHING, Beat.NOTHING, Beat.PING, Beat.NOTHING, Beat.NOTHING, Beat.DEAD,
    ]  # fmt: skip


def test_any_frame_is_a_sign_of_life() -> None:
    heart = Heartbeat(0.0, silence_seconds=4.0)
    heart.look(4.0)
    heart.heard(7.9)

    assert [heart.look(at) for at in (8.0, 11.8, 11.9)] == [Beat.NOTHING, Beat.NOTHING, Beat.PING]


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_pauses_grow_to_a_minute_and_differ(failures: int, chance: float) -> None:
    pause = reconnect_pause(failures, lambda: chance)

    assert 0.25 <= pause <= 60
    assert pause <= 2 * reconnect_pause(failures + 1, lambda: chance)
    assert pause >= reconnect_pause(failures, lambda: 1.0) / 2


@given(st.floats(0, 1))
def test_connections_are_replaced_well_before_a_day(chance: float) -> None:
    assert 23 * HOUR_US <= life_us(lambda: chance) <= 23.5 * HOUR_US


@given(st.integers(1, 10), st.lists(st.floats(0, 0.5), max_size=60))
def test_no_second_has_more_messages_than_allowed(allowed: int, pauses: list[float]) -> None:
    talk, at, sent = Talk(allowed), 0.0, []
    for pause in pauses:
        at += pause
        sent.append(at + talk.wait(at))

    for first, later in zip(sent, sent[allowed:], strict=False):
        assert later - first >= 1.0 - 1e-9
