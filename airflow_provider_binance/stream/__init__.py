"""Real time: websocket streams to records, without a hole and without a repetition. The store is written elsewhere.

Pure decisions (`names`, `frames`, `sequences`, `subscriptions`, `pacing`) stand apart from what does them
(`connection`, `keeping`). msgspec, picows and prometheus-client come with the extra `[stream]`.
"""

from __future__ import annotations

from importlib.util import find_spec

from airflow_provider_binance.errors import ConfigError

#: What the extra brings, by the names under which it is imported.
NEEDED = ("msgspec", "picows", "prometheus_client")


def require_extra() -> None:
    """Raise ConfigError, naming the extra, unless all that streams need is installed."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"streams need {' and '.join(lacking)}: pip install 'airflow-provider-binance[stream]'", field="stream"
        )
