"""Late closes are not held up by repairs, what fails is tried again behind the rest, and holes are found again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_binance.errors import InputError, UnreachableError
from airflow_provider_binance.market import DAY_US, HOUR_US, to_us
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.reports import LoadReport, RangeReport, SeriesLoad
from airflow_provider_binance.stream import mending
from airflow_provider_binance.stream.mending import LOOK_BACK_US, Mender, Urgency, holes

NOW = 1_700_000_040_000_000
BTC, ETH = (Series("spot", "klines", symbol, "1m") for symbol in ("BTCUSDT", "ETHUSDT"))
TRADES = Series("spot", "trades", "BTCUSDT")


@contextmanager
def mender(load: Callable[..., LoadReport]) -> Iterator[Mender]:
    made = Mender(load)
    try:
        yield made
    finally:
        made.stop()
        assert made.join(20)


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_repair_that_takes_long_holds_up_no_late_close() -> None:
    loaded: list[dict[str, Any]] = []
    let = threading.Event()

    def load(**order: Any) -> LoadReport:
        if order["priority"] == "repair":
            assert let.wait(20)
        loaded.append(order)
        return LoadReport(())

    with mender(load) as made:
        made.ask(Urgency.REPAIR, TRADES, NOW - HOUR_US, NOW)
        made.start()
        made.ask(Urgency.LIVE, BTC, NOW, NOW + 60_000_000)
        until(lambda: loaded)
        assert (loaded[0]["priority"], loaded[0]["intervals"]) == ("live", ["1m"])
        let.set()
        until(lambda: made.is_idle)
    repair = loaded[1]
    assert (repair["dataset"], repair["symbols"], repair["intervals"]) == ("trades", ["BTCUSDT"], None)
    assert (to_us(repair["start"]), to_us(repair["end"])) == (NOW - HOUR_US, NOW)


def test_the_newest_first_those_of_one_window_together_and_failures_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "_PAUSE_SECONDS", 0.05)
    asked: list[tuple[int, str]] = []

    def load(**order: Any) -> LoadReport:
        asked.append(((to_us(order["start"]) - NOW) // HOUR_US, ",".join(order["symbols"])))
        if len(asked) == 1:
            raise UnreachableError("away")
        if len(asked) == 3:
            raise InputError("never")
        return LoadReport(())

    with mender(load) as made:
        for series, hour in ((BTC, -3), (ETH, -1), (BTC, -1), (BTC, -2)):
            made.ask(Urgency.REPAIR, series, NOW + hour * HOUR_US, NOW + (hour + 1) * HOUR_US)
        made.start()
        until(lambda: made.is_idle)
    assert asked == [(-1, "BTCUSDT,ETHUSDT"), (-2, "BTCUSDT"), (-3, "BTCUSDT"), (-1, "BTCUSDT,ETHUSDT")]
    assert made.requests == 2


def test_holes_of_the_last_days_are_those_between_what_is_there() -> None:
    def known(start: int, end: int, state: State = State.COMPLETE, again: int | None = None) -> CoverageRange:
        return CoverageRange(NOW + start * HOUR_US, NOW + end * HOUR_US, state, next_check_at_us=again)

    assert holes([], NOW) == []
    assert holes([known(-9, -5, State.UNPUBLISHED)], NOW) == []
    ranges = [
        known(-90, -80), known(-70, -60), known(-58, -50), known(-50, -40, State.UNPUBLISHED), known(-40, -30),
        known(-30, -20, State.UNAVAILABLE), known(-20, -10), known(-10, -9, State.FAILED, NOW + 1), known(-9, -8),
        known(-8, -7, State.UNPUBLISHED),
    ]  # fmt: skip
    found = [((start - NOW) / HOUR_US, (end - NOW) / HOUR_US) for start, end in holes(ranges, NOW)]
    assert LOOK_BACK_US == 3 * DAY_US
    assert found == [(-72, -70), (-60, -58), (-50, -40)]


def test_what_became_of_gaps_is_counted() -> None:
    states = iter([None, State.EXCHANGE_GAP, State.UNAVAILABLE, State.UNPUBLISHED])

    def load(**order: Any) -> LoadReport:
        state = next(states)
        gaps = () if state is None else (RangeReport(NOW - 9, NOW, state),)
        return LoadReport((SeriesLoad(TRADES, NOW - 9, NOW, gaps=gaps),))

    with mender(load) as made:
        for number in range(4):
            made.ask(Urgency.REPAIR, TRADES, NOW - HOUR_US - number, NOW)
        made.start()
        until(lambda: made.is_idle)
        assert (made.repaired, made.unavailable) == (2, 1)
