"""One way to read lists, for everybody who takes one."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.task_arguments import texts
from airflow_provider_binance.tasks import names_of
from airflow_provider_binance.texts import listed
from airflow_provider_binance.universe import entries_of_form, universe_of_settings

BOTH = ["BTCUSDT", "币安人生USDT"]
SPELLINGS = [
    "BTCUSDT,币安人生USDT",
    " BTCUSDT , 币安人生USDT, ",
    "BTCUSDT 币安人生USDT",
    "BTCUSDT\n币安人生USDT",
    '["BTCUSDT", "币安人生USDT"]',
    "['BTCUSDT', '币安人生USDT']",
    ["BTCUSDT", "币安人生USDT"],
    ("BTCUSDT,币安人生USDT",),
    ["BTCUSDT", None, "", " 币安人生USDT "],
]


@pytest.mark.parametrize(
    "given", ["all trading perpetuals", "BTCUSDT, All trading perpetuals", ["BTCUSDT", "all trading perpetuals"]]
)
def test_the_name_with_blanks_is_one(given: Any):
    """Whatever stands before it, and when the list is read again."""
    assert listed(given)[-1] == "all trading perpetuals"
    assert listed(listed(given)) == listed(given)
    assert len(listed(given)) == 1 + ("BTCUSDT" in str(given))


@pytest.mark.parametrize("given", SPELLINGS)
def test_every_spelling_is_read_alike_everywhere(given: Any):
    """Settings, a connection's extras, the form, a task's argument, Python and the command line."""
    assert listed(given) == BOTH
    assert BinanceConfig(symbols=given).symbols == BOTH
    assert texts("symbols", given) == BOTH
    assert names_of(given) == BOTH
    universe = universe_of_settings({"symbols": given, "timeframes": "1h"})
    assert universe == {"spot": [{"symbols": BOTH, "intervals": ["1h"]}]}
    assert list(entries_of_form({"market": "spot", "symbols": given, "intervals": "1h"})[0].symbols) == BOTH
    words = [given] if isinstance(given, str) else [str(name or " ") for name in given]
    arguments = parser_for(()).parse_args(["load", "--symbol", *words])
    assert arguments.symbol == BOTH


@pytest.mark.parametrize("given", [None, "", " ", ",", "[]", [], ()])
def test_nothing_lists_nothing(given: Any):
    """Which is for whoever needs a name to refuse."""
    assert listed(given) == []


def test_any_iterable_will_do():
    """A set, a generator, the keys of a mapping."""
    assert listed(name for name in BOTH) == listed(dict.fromkeys(BOTH).keys()) == BOTH
    assert listed({"BTCUSDT"}) == ["BTCUSDT"]


def test_numbers_are_names():
    """YAML makes numbers of symbols that consist of digits."""
    assert listed([4, "BTCUSDT"]) == ["4", "BTCUSDT"]


@pytest.mark.parametrize("given", ["[1", '["a"', {"a": 1}, 5, True, [["a"]], [{"a": 1}], [True], b"a"])
def test_what_is_no_list_is_refused_with_the_way_out(given: Any):
    """By everybody, as the user's mistake."""
    with pytest.raises(ValueError, match="names"):
        listed(given)
    for read in (names_of, lambda value: texts("symbols", value), lambda value: BinanceConfig(symbols=value)):
        with pytest.raises(InputError, match="names"):
            read(given)
