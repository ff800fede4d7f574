"""README and docs name everything a user may set, and what they show runs."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.records import State
from airflow_provider_binance.registry import KLINES

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BinanceConfig.model_fields)
def test_every_setting_stands_in_the_settings_table(name: str):
    """With its description, so that the table cannot fall behind."""
    table = README[README.index("| setting |") :].partition("\n\n")[0]
    [row] = re.findall(rf"^\| `{name}` \|.*$", table, re.MULTILINE)
    assert str(BinanceConfig.model_fields[name].description) in row


def test_every_option_of_the_command_line_stands_in_the_readme():
    """All commands, all options."""

    def options(parser: argparse.ArgumentParser) -> set[str]:
        found: set[str] = set()
        for action in parser._actions:
            found.update(name for name in action.option_strings if name.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    found |= options(child)
        return found

    missing = [
        name for name in options(parser_for(["simulate"])) - {"--help"} if not re.search(rf"{name}(?![\w-])", README)
    ]
    assert missing == []


def test_every_argument_of_the_operator_stands_in_the_readme():
    """With its default."""
    from airflow_provider_binance.operators.base import IngestOperator
    from airflow_provider_binance.operators.binance import BinanceLoadOperator

    shared, own = (inspect.signature(kind.__init__).parameters for kind in (IngestOperator, BinanceLoadOperator))
    table = README[README.index("| argument of `BinanceLoadOperator`") :]
    table = table[: table.index("\n\n")]
    for name, parameter in {**shared, **own}.items():
        if name in ("self", "kwargs"):
            continue
        [row] = [line for line in table.splitlines() if f"`{name}`" in line.split("|")[1]]
        if parameter.default is not inspect.Parameter.empty:
            assert f"`{parameter.default}`" in row


def test_every_argument_of_the_freshness_sensor_stands_in_the_readme():
    """With its default."""
    from airflow_provider_binance.sensors.binance import BinanceFreshnessSensor

    table = README[README.index("| argument of `BinanceFreshnessSensor`") :].partition("\n\n")[0]
    for name, parameter in inspect.signature(BinanceFreshnessSensor.__init__).parameters.items():
        if name in ("self", "kwargs"):
            continue
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
        if parameter.default is not inspect.Parameter.empty and name != "deferrable":
            assert f"`{parameter.default}`" in row


@pytest.mark.parametrize("name", ["BinanceRepairOperator", "BinanceVerifyOperator"])
def test_every_argument_of_the_upkeep_operators_stands_in_the_readme(name: str):
    """Those that they share with the load by name, their own with their defaults."""
    from airflow_provider_binance.operators import binance

    operator = getattr(binance, name)
    about = README[README.index("`BinanceRepairOperator` and `BinanceVerifyOperator` take") :]
    about = about[: about.index("\n\n", about.index("| argument of"))]
    for field in operator.template_fields:
        assert f"`{field}`" in about
    rows = about[about.index(f"| `{name}` |") :].splitlines()
    for field, parameter in inspect.signature(operator.__init__).parameters.items():
        if field not in ("self", "kwargs"):
            [row] = [row for row in rows if row.split("|")[2].strip() == f"`{field}`"]
            assert f"`{parameter.default}`" in row


def test_every_argument_of_the_drl_sync_stands_in_the_readme():
    """With its default; filters share a row."""
    from airflow_provider_binance.operators.binance import BinanceDrlSyncOperator

    table = README[README.index("| argument of `BinanceDrlSyncOperator`") :].partition("\n\n")[0]
    for name, parameter in inspect.signature(BinanceDrlSyncOperator.__init__).parameters.items():
        if name not in ("self", "kwargs"):
            [row] = [line for line in table.splitlines() if f"`{name}`" in line.split("|")[1]]
            assert f"`{parameter.default}`" in row


def test_every_argument_of_the_sensor_stands_in_the_readme():
    """Those that it shares with the operator by name, the others with their defaults."""
    from airflow_provider_binance.sensors.binance import BinanceArchiveFileSensor

    about = README[README.index("`BinanceArchiveFileSensor` (") :]
    about = about[: about.index("\n\n", about.index("| argument of"))]
    table = about[about.index("| argument of") :]
    for name, parameter in inspect.signature(BinanceArchiveFileSensor.__init__).parameters.items():
        if name in ("self", "kwargs"):
            continue
        assert f"`{name}`" in about
        for row in (line for line in table.splitlines() if line.startswith(f"| `{name}`") and name != "deferrable"):
            assert f"`{parameter.default}`" in row


def test_the_store_page_names_every_column_and_state():
    """The tables are read by users."""
    page = (REPO / "docs" / "store.md").read_text(encoding="utf-8")
    for name in (*KLINES.column_names, *State):
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (REPO / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str):
    """Files that are linked exist."""
    text = (REPO / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((REPO / page).parent / target).exists(), target


def test_pictures_are_small_and_there():
    """Pictures are shipped in the repository."""
    for picture in (REPO / "docs" / "images").iterdir():
        assert picture.stat().st_size < 500_000
