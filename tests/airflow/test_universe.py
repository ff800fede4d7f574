from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.airflow_universe import read_universe
from airflow_provider_binance.errors import ConfigError, InputError
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.universe import (
    EXAMPLE,
    PlannedSeries,
    UniverseEntry,
    cut,
    entries_of_form,
    parse_universe,
    universe_of_settings,
)
from airflow_provider_binance.windows import LISTING

DAY_US = 86_400_000_000


def test_the_example_is_valid() -> None:
    [entry] = parse_universe(EXAMPLE, source="the test")
    assert entry == UniverseEntry("spot", ("BTCUSDT", "*USDT"), ("1m",), "2024-01-01")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{", "is not JSON"),
        ([], "must map markets"),
        ({}, "is empty"),
        ({"spot": []}, "is empty"),
        ({"margin": []}, "unknown market"),
        ({"spot": {"symbols": ["A"]}}, "list of entries"),
        ({"spot": ["BTCUSDT"]}, "not an object"),
        ({"spot": [{"intervals": ["1m"]}]}, "names no symbols"),
        ({"spot": [{"symbols": ["BTCUSDT"]}]}, "names no intervals"),
        ({"spot": [{"symbols": ["BTCUSDT"], "intervals": ["1x"]}]}, "unknown interval"),
        ({"um": [{"symbols": ["BTCUSDT"], "intervals": ["1s"]}]}, "does not exist in market um"),
        ({"spot": [{"symbols": ["A"], "intervals": ["1m"], "since": "yesterday"}]}, "no instant"),
        ({"spot": [{"symbols": ["A"], "intervals": ["1m"], "since": "2024-01-01T00:00"}]}, "no UTC offset"),
        ({"spot": [{"symbols": ["A"], "intervals": ["1m"], "until": "2024"}]}, "unknown keys: until"),
        ({"spot": [{"symbols": ["A"], "datasets": ["depth"]}]}, "unknown dataset 'depth'; accepted: klines agg_trades"),
        ({"um": [{"symbols": ["A"], "datasets": ["mark_prices"]}]}, "comes from streams only"),
        ({"spot": [{"symbols": ["A"], "datasets": []}]}, "names no datasets; accepted: klines agg_trades trades"),
        ({"spot": [{"symbols": ["A"], "datasets": {"trades": 1}}]}, "names no datasets; accepted: klines agg_trades"),
        ({"spot": [{"symbols": ["A"], "datasets": ["klines", "trades"]}]}, "names no intervals"),
        ({"spot": [{"symbols": ["A"], "datasets": ["trades"], "intervals": ["1m"]}]}, "trades has none: leave 1m out"),
    ],
)
def test_errors_say_where_and_show_an_example(value: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_universe(value, source="the variable")
    assert "the variable" in str(caught.value)
    assert told in str(caught.value)
    assert EXAMPLE in str(caught.value)


def test_an_entry_for_each_dataset() -> None:
    """Intervals go to those that have some; without `datasets` there are klines alone."""
    given = {"um": [{"symbols": "BTCUSDT", "datasets": "klines, agg_trades", "intervals": "1h", "since": "2024"}]}
    assert parse_universe(given, source="x") == (
        UniverseEntry("um", ("BTCUSDT",), ("1h",), "2024"),
        UniverseEntry("um", ("BTCUSDT",), (), "2024", "agg_trades"),
    )
    [ticks] = parse_universe({"cm": [{"symbols": ["BTCUSD_PERP"], "datasets": ["trades"]}]}, source="x")
    assert ticks == UniverseEntry("cm", ("BTCUSD_PERP",), (), dataset="trades")


def test_universe_of_a_connection() -> None:
    settings = {"symbols": "BTCUSDT, ETHUSDT", "timeframes": ["1h"], "markets": '["spot", "um"]'}
    entries = parse_universe(universe_of_settings(settings), source="x")
    assert [entry.market for entry in entries] == ["spot", "um"]
    assert entries[0].symbols == ("BTCUSDT", "ETHUSDT")
    assert universe_of_settings({"timeframes": ["1h"]}) is None


def test_params_win_over_variable_over_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def universe(symbol: str) -> dict[str, Any]:
        return {"spot": [{"symbols": [symbol], "intervals": ["1h"]}]}

    extra = {"symbols": ["CONN"], "timeframes": ["1h"]}
    monkeypatch.setenv("AIRFLOW_CONN_BINANCE_DEFAULT", json.dumps({"conn_type": "binance", "extra": extra}))
    assert read_universe({"universe": None})[0].symbols == ("CONN",)
    monkeypatch.setenv("AIRFLOW_VAR_BINANCE_UNIVERSE", json.dumps(universe("VARIABLE")))
    assert read_universe({})[0].symbols == ("VARIABLE",)
    assert read_universe({"universe": universe("PARAMS")})[0].symbols == ("PARAMS",)


def test_no_universe_is_an_error_that_shows_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BINANCE_DEFAULT", '{"conn_type": "binance"}')
    with pytest.raises(ConfigError, match="no universe is set") as caught:
        read_universe({})
    assert EXAMPLE in str(caught.value)


def test_entry_of_the_form() -> None:
    params = {
        "market": "spot",
        "symbols": ["BTCUSDT"],
        "more_symbols": "ethusdt,*BTC BTCUSDT",
        "intervals": ["1h", "1h"],
    }
    [entry] = entries_of_form(params)
    assert entry == UniverseEntry("spot", ("BTCUSDT", "ethusdt", "*BTC"), ("1h",))
    assert entries_of_form({**params, "datasets": ["trades", "klines"]}) == (
        UniverseEntry("spot", entry.symbols, (), dataset="trades"), entry
    )  # fmt: skip
    [ticks] = entries_of_form({**params, "datasets": ["agg_trades"]})
    assert ticks.intervals == ()  # those of the form are there from the start
    with pytest.raises(InputError, match="no symbol"):
        entries_of_form({"market": "spot", "symbols": None, "more_symbols": None, "intervals": ["1h"]})
    with pytest.raises(InputError, match="no interval"):
        entries_of_form({"market": "spot", "symbols": ["BTCUSDT"], "intervals": []})
    with pytest.raises(InputError, match="unknown dataset 'candles'; accepted: klines agg_trades trades"):
        entries_of_form({**params, "datasets": ["candles"]})


PLANNED = st.builds(
    lambda market, symbol, what, day, days, seconds: PlannedSeries(
        Series(market, what[0], symbol, what[1]), day * DAY_US, (day + days) * DAY_US, seconds
    ),
    st.sampled_from(["spot", "um"]),
    st.sampled_from([f"S{n}USDT" for n in range(60)]),
    st.sampled_from([("klines", "1m"), ("klines", "1h"), ("trades", "")]),
    st.integers(0, 1),
    st.integers(1, 2),
    st.floats(0, 1e4),
)


@given(st.lists(PLANNED, max_size=120), st.integers(8, 16))
def test_chunks_hold_every_series_whole_and_are_few(planned: list[PlannedSeries], most: int) -> None:
    """Whatever was planned is loaded by some chunk over its whole window, once."""
    chunks = cut(planned, most=most)
    groups = {(c["market"], c["dataset"], tuple(c["intervals"]), c["start"], c["end"]) for c in chunks}
    assert len(chunks) <= max(most, len(groups))
    loaded = [
        Series(c["market"], c["dataset"], symbol, interval)
        for c in chunks for symbol in c["symbols"] for interval in c["intervals"] or ("",)
    ]  # fmt: skip
    assert len(loaded) == len(set(loaded))
    assert set(loaded) == {p.series for p in planned}
    assert json.loads(json.dumps(chunks)) == chunks


def known(first: int, last: int, state: State = State.COMPLETE, sha: str | None = None) -> CoverageRange:
    return CoverageRange(first * DAY_US, last * DAY_US, state, confirmed_by=sha)


def test_chunks_are_balanced_by_cost() -> None:
    planned = [PlannedSeries(Series("spot", "klines", f"S{n}", "1m"), 0, DAY_US, 100.0 + n) for n in range(64)]
    chunks = cut(planned)
    assert len(chunks) == 16
    assert {len(chunk["symbols"]) for chunk in chunks} == {4}


def test_little_work_is_one_chunk() -> None:
    planned = [PlannedSeries(Series("spot", "klines", f"S{n}", "1m"), 0, DAY_US, 0.0) for n in range(64)]
    assert len(cut(planned)) == 1


def test_series_that_go_on_from_where_they_end_share_chunks() -> None:
    """None and `listing` mean another instant for each series, and are one window all the same."""
    for start, told in ((None, None), (LISTING, "listing"), (DAY_US, "1970-01-02T00:00:00Z")):
        planned = [PlannedSeries(Series("spot", "klines", f"S{n}", "1m"), start, 9 * DAY_US, 60.0) for n in range(500)]
        chunks = cut(planned)
        assert len(chunks) == 16
        assert {chunk["start"] for chunk in chunks} == {told}


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ((DAY_US, 0), "1970-01-01T00:00:00Z"),
        ((None, DAY_US), "1970-01-02T00:00:00Z"),
        ((DAY_US, None), "1970-01-02T00:00:00Z"),
        ((LISTING, DAY_US), "listing"),
        ((None, None), None),
    ],
)
def test_a_series_named_twice_is_loaded_from_the_earlier_start(starts: tuple[Any, Any], told: str | None) -> None:
    series = Series("spot", "klines", "BTCUSDT", "1m")
    [chunk] = cut([PlannedSeries(series, start, 9 * DAY_US, 1.0) for start in starts])
    assert chunk["start"] == told
