"""Airflow connections as Airflow gives them; what they mean is said in `connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_binance import connections
from airflow_provider_binance.connections import StoreTarget
from airflow_provider_binance.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection


def get_connection(conn_id: str) -> Connection:
    """The Airflow connection called `conn_id`; raises ConfigError with the ways to create it if there is none."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigError(
            f"the Airflow connection {conn_id!r} does not exist. Create it in the UI (Admin → Connections), with "
            f"`airflow connections add {conn_id} …`, or as JSON in the environment variable "
            f"AIRFLOW_CONN_{conn_id.upper()}",
            conn_id=conn_id,
        ) from None


def store_target(connection: Connection, *, executor: str | None = None) -> StoreTarget:
    """`connections.store_target` under Airflow's executor, by default the one of `[core] executor`."""
    return connections.store_target(connection, executor=_executor() if executor is None else executor)


def _executor() -> str:
    from airflow.sdk import conf

    return str(conf.get("core", "executor", fallback="LocalExecutor"))
