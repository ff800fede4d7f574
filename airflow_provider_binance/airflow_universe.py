"""Where a run finds its universe: run params, else the variable `binance_universe`, else the connection's extras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.universe import EXAMPLE, UniverseEntry, parse_universe, universe_of_settings

VARIABLE = "binance_universe"


def read_universe(params: Mapping[str, Any], *, binance_conn_id: str = "binance_default") -> tuple[UniverseEntry, ...]:
    """The universe of this run; to be called in a task, since parsing must not ask for variables or connections.

    Raises:
        ConfigError: none is set anywhere, or the one found is malformed; the message shows an example.
    """
    from airflow.sdk import Variable

    from airflow_provider_binance.airflow_connections import get_connection
    from airflow_provider_binance.connections import binance_settings

    if given := params.get("universe"):
        return parse_universe(given, source="the run parameter universe")
    if (text := Variable.get(VARIABLE, default=None)) not in (None, ""):
        return parse_universe(text, source=f"the Airflow variable {VARIABLE}")
    settings = universe_of_settings(binance_settings(get_connection(binance_conn_id)))
    if settings is not None:
        return parse_universe(settings, source=f"the extras of connection {binance_conn_id!r}")
    raise ConfigError(
        f"no universe is set: nothing says which symbols to load. Set the Airflow variable {VARIABLE} (Admin → "
        f"Variables) to, for example, {EXAMPLE}; or give the run parameter universe the same; or set the extras "
        f"symbols and timeframes of connection {binance_conn_id!r}"
    )
