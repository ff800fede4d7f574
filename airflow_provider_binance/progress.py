"""What a running load tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_binance.records import Series


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of one series is done: `done` of `total` `unit`s. May come from any thread."""

    series: Series
    done: float
    total: float
    unit: str = "pieces"
    note: str = ""
