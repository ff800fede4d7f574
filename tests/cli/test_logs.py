"""Logs as JSON."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_provider_binance.logs import PACKAGE, logging_to_stderr


def test_each_line_is_an_object_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger(f"{PACKAGE}.stream")
    with logging_to_stderr(1, lambda text: text.replace('p"w', "***"), as_json=True):
        log.info("connected: url=%s\n", 'p"w')
        try:
            raise ValueError('p"w')
        except ValueError:
            log.exception("it ends")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("INFO", log.name, "connected: url=***\n")
    assert first["time"].endswith("Z")
    assert second["traceback"].endswith("ValueError: ***")
