"""When the ledger is told of what a stream brought: of ticks and events now and then, at once of what was lost.

Rows are committed with each flush, what is complete with them a few seconds later: to make a range longer takes the
database as long as ten rows (measured), and to find what a flush makes complete takes as long for two rows as for
forty. What is not told yet is there; after a crash it is looked at again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from airflow_provider_binance.records import CoverageRange, Row, Series
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.stream.buffer import Lost
from airflow_provider_binance.stream.rows import rows_of
from airflow_provider_binance.stream.spans import Spans

#: So many rows are remembered, then all are told of.
MOST_ROWS = 40_000


class Claiming:
    """Remembers the rows that the ledger was not told of yet. A flusher has one, and forgets it with its end.

    `every_us`: how often it is told of each series, at least.
    """

    def __init__(self, every_us: int = 0) -> None:
        self.spans = Spans()
        self._every_us = every_us
        self._rows: dict[Series, list[Row]] = defaultdict(list)
        self._count = 0
        self._due_us: dict[Series, int] = {}
        self._told = 0

    def take(
        self, came: Sequence[ManyRows], lost: Mapping[Series, Sequence[Lost]], now_us: int
    ) -> dict[Series, list[CoverageRange]]:
        """What is to be told now that these rows came, and that was lost, as `Spans.take` says it. What was lost comes
        before the rows behind it."""
        waiting, due_us = self._rows, self._due_us
        due = []
        for many in came:
            for series, rows in many.rows.items():
                waiting[series] += rows
                self._count += len(rows)
                if due_us.get(series, 0) <= now_us:
                    due.append(series)
        if self._count > MOST_ROWS:
            due = list(waiting)
        return {series: ranges for series in {*due, *lost} if (ranges := self._tell(series, lost, now_us))}

    def rest(self, now_us: int) -> dict[Series, list[CoverageRange]]:
        """What is not told yet."""
        return {series: ranges for series in list(self._rows) if (ranges := self._tell(series, {}, now_us))}

    def _tell(self, series: Series, lost: Mapping[Series, Sequence[Lost]], now_us: int) -> list[CoverageRange]:
        # Not all at once the next time.
        self._told += 1
        self._due_us[series] = now_us + self._every_us * (48 + self._told % 16) // 64
        values = self._rows.pop(series, [])
        self._count -= len(values)
        rows = rows_of(series, values) if values else None
        return self.spans.take(series, rows, lost.get(series, ()), now_us)
