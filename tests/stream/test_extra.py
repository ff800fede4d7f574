"""Streams bring libraries of their own; without them the way to get them is said."""

from __future__ import annotations

import pytest

from airflow_provider_binance import stream
from airflow_provider_binance.errors import ConfigError


def test_extra_is_installed_for_the_tests() -> None:
    stream.require_extra()


def test_lacking_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "NEEDED", ("no_such_library", "msgspec"))

    with pytest.raises(ConfigError, match=r"need no_such_library: pip install 'airflow-provider-binance\[stream\]'"):
        stream.require_extra()
