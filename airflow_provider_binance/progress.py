"""What a running load tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_binance.records import Series


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of the work at hand is done: `done` of `total` `unit`, of which the last was of `series`.

    May come from any thread. A load may find more work later and count anew.
    """

    series: Series
    done: float
    total: float
    unit: str = "pieces"
    note: str = ""
