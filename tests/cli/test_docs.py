"""`docs/cli.md` says what the parser knows."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.records import State

DOC = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in parser_for(())._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("no commands")


@pytest.mark.parametrize("command", commands())
def test_every_command_and_option_is_documented(command: str) -> None:
    """By its long name."""
    assert f"| `{command}` |" in DOC
    for action in commands()[command]._actions:
        for option in action.option_strings:
            assert option in ("-h", "--help") or f"`{option}" in DOC, option


def test_every_exit_status_and_state_is_documented() -> None:
    """Those of the error tree, and those of signals."""

    def statuses(kind: type[IngestError]) -> set[int]:
        return {kind.exit_status}.union(*(statuses(sub) for sub in kind.__subclasses__()))

    table = DOC.split("## Exit status")[1]
    for status in statuses(IngestError) | {0, 70, 130, 143}:
        assert f" {status}" in table
    assert all(f"| `{state}` |" in DOC for state in State if state != State.COMPLETE)
