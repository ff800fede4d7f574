"""Recorded series (written next)."""

from __future__ import annotations

from airflow_provider_binance.simulator.candles import Row


class RecordedSeries:
    def rows(self, start_ms: int, end_ms: int, as_of_ms: int) -> list[Row]:
        return []

    def span(self) -> tuple[int, int | None]:
        return 0, None


class Recordings:
    def symbols(self) -> list[tuple[str, str]]:
        return []

    def first_open(self, market: str, symbol: str) -> int:
        return 0

    def series(self, market: str, symbol: str, interval: str) -> RecordedSeries | None:
        return None

    def archive_names(self, market: str, symbol: str, interval: str, partition: str) -> frozenset[str] | None:
        return None

    def archive_content(self, file: object, make_zip: object) -> bytes:
        return b""
