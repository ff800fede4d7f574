"""The fixtures of Airflow's tests, for its part of these."""

from __future__ import annotations

from tests.airflow.conftest import connections, set_connection, simulator, store_path

__all__ = ["connections", "set_connection", "simulator", "store_path"]
