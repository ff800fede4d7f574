"""What may be written after `binance-ingest`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_binance import __version__
from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.errors import InputError

from .conftest import Ran

SELECTION = ("--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m", "--start", "2024-01")


def parsed(*words: str) -> dict[str, object]:
    return vars(parser_for(words).parse_args(words))


def test_symbols_and_intervals_take_values_repetition_and_commas() -> None:
    """All three spellings of a list are one list."""
    found = parsed("load", "--symbol", "A", "B", "--symbol", "C,D", "--symbol=E,", "--interval", "1m,1h", "1d")
    assert found["symbol"] == ["A", "B", "C", "D", "E"]
    assert found["interval"] == ["1m", "1h", "1d"]


def test_common_options_stand_before_or_after_the_command() -> None:
    """Neither place hides what was given in the other."""
    before = parsed("--store", "sqlite:///a.db", "--json", "-v", "coverage")
    after = parsed("coverage", "--store", "sqlite:///a.db", "--json", "-v")
    assert before == after
    assert before["store"] == "sqlite:///a.db"


def test_load_and_plan_take_the_same_arguments() -> None:
    """`plan` becomes `load` by changing one word."""
    words = (*SELECTION, "--end", "now", "--source", "rest", "--jobs", "8", "--reload", "--confirm")
    assert parsed("load", *words) == {**parsed("plan", *words), "command": "load"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "COMMAND"),
        (("trade",), "invalid choice: 'trade'"),
        (("load", "--jobs", "0"), "not a number from 1 to 64"),
        (("load", "--jobs", "many"), "not a number from 1 to 64"),
        (("load", "--source", "ftp"), "invalid choice: 'ftp'"),
        (("load", "--symbol", ","), "--symbol is given without a value"),
        (("load", "--symbo", "BTCUSDT"), "--symbo"),
        (("load", "BTCUSDT"), "BTCUSDT"),
        (("coverage", "--reload"), "--reload"),
        (("migrate", "--dialect", "mysql"), "invalid choice: 'mysql'"),
    ],
)
def test_wrong_words_are_named(words: tuple[str, ...], says: str) -> None:
    """An argument error names the word, and the way to the help."""
    with pytest.raises(InputError, match=r"\(see binance-ingest.* --help\)|without a value") as caught:
        parsed(*words)
    assert says in str(caught.value)


def test_wrong_words_end_with_2_and_one_line(run: Callable[..., Ran]) -> None:
    """No usage dump, no traceback; --json holds for argument errors too."""
    ran = run("load", "--bogus", "--json")
    assert ran.status == 2
    assert ran.err.startswith("binance-ingest: error: ")
    assert ran.err.count("\n") == 1
    assert ran.document["error"]["type"] == "InputError"


@pytest.mark.parametrize("command", ["load", "plan", "coverage", "migrate", "dags", "simulate"])
def test_every_command_has_help_and_the_common_options(command: str, run: Callable[..., Ran]) -> None:
    """Help is complete and free."""
    ran = run(command, "--help")
    assert (ran.status, ran.err) == (0, "")
    for option in ("--store", "--config", "--json", "--verbose", "--version"):
        assert option in ran.out


def test_the_version_is_printed(run: Callable[..., Ran]) -> None:
    """The installed one."""
    assert run("--version") == Ran(0, f"binance-ingest {__version__}\n", "")
    assert run("load", "--version").out == f"binance-ingest {__version__}\n"


def test_help_lists_the_commands_of_this_version_only(run: Callable[..., Ran]) -> None:
    """What is not there is not advertised."""
    words = run("--help").out.split()
    assert {"load", "plan", "coverage", "repair", "verify", "forget", "migrate", "simulate", "doctor", "dags"} <= set(
        words
    )
    assert not {"trade"} & set(words)
