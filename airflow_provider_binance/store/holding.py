"""`Holding`: a transaction that waits for more batches of one series.

A commit waits for the disk, and the server with it: with one for each part of a month's file it stood still for a tenth
of a load's time (measured). So batches that are ready behind one another commit together, each with its ledger line.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_binance.records import Batch, Series
from airflow_provider_binance.registry import Dataset

#: Rows after which a transaction waits no longer: about a second's work, which a kill takes back.
HELD_ROWS = 250_000


@dataclass(slots=True)
class Holding:
    """The one series of the transaction, and how much of it is written."""

    dataset: Dataset
    series: Series
    batches: int = 0
    rows: int = 0

    def add(self, rows: int) -> None:
        """Count a batch that was written."""
        self.batches += 1
        self.rows += rows

    def takes(self, batch: Batch) -> bool:
        """Whether the batch can follow under the same lock."""
        return batch.dataset.name == self.dataset.name and batch.series == self.series

    @property
    def is_full(self) -> bool:
        """Whether it is to be committed now."""
        return self.rows >= HELD_ROWS
