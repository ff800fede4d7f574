"""What can be wrong with the rows of an archive file, and files that are uploaded again."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_binance.simulator.archive_files import ArchiveFile
from airflow_provider_binance.simulator.fault_names import (
    CORRECTED,
    DISORDERED,
    DUPLICATED,
    REPUBLISHED,
    VOIDED,
    WRONG_DAY,
    ZERO_QUANTITY,
)
from airflow_provider_binance.simulator.intervals import DAY_MS

KLINES = "klines"
# Columns by dataset.
TIMES = {KLINES: (0, 6), "aggTrades": (5,), "trades": (4,)}
QUANTITY = {KLINES: 5, "aggTrades": 2, "trades": 2}
MICROSECOND_DIGITS = 16
# Binance had files with up to 38 % of such rows.
ZERO_EVERY = 3


@dataclass(frozen=True)
class Alteration:
    """One fault of the rows that lie in ``[start_ms, end_ms)``; ``kind`` None means everything of the symbol.

    Only files with ``path`` in their key are concerned; ``since_ms`` is when it came about.
    """

    name: str
    market: str
    symbol: str
    kind: str | None
    start_ms: int
    end_ms: int
    path: str
    since_ms: int

    def concerns(self, file: ArchiveFile) -> bool:
        """Whether the file has such rows."""
        market, symbol, kind = file.series
        return (
            (market, symbol) == (self.market, self.symbol)
            and self.kind in (None, kind)
            and self.start_ms < file.end_ms
            and file.start_ms < self.end_ms
            and self.path in f"/{file.key}"
        )

    @property
    def uploads(self) -> bool:
        """Whether its files were uploaded again."""
        return self.name in (CORRECTED, REPUBLISHED)


def altered(file: ArchiveFile, lines: list[str], alterations: list[Alteration]) -> list[str]:
    """The lines with all that is wrong with them."""
    dataset = KLINES if file.is_klines else file.kind
    for each in alterations:
        rows = [line.rstrip("\n").split(",") for line in lines]
        places = [index for index, row in enumerate(rows) if _inside(row, dataset, each)]
        rows = _altered(rows, places, dataset, each.name)
        lines = [",".join(row) + "\n" for row in rows]
    return lines


def _altered(rows: list[list[str]], places: list[int], dataset: str, name: str) -> list[list[str]]:
    if name == DUPLICATED:
        twice = set(places)
        return [row for index, row in enumerate(rows) for _ in range(2 if index in twice else 1)]
    if name == DISORDERED:
        for place, row in zip(places, [rows[index] for index in reversed(places)], strict=True):
            rows[place] = row
    quantity = QUANTITY[dataset]
    for count, place in enumerate(places):
        row = rows[place]
        if name == CORRECTED:
            row[quantity] = str(Decimal(row[quantity]) + Decimal(1).scaleb(-len(row[quantity].partition(".")[2])))
        elif name == ZERO_QUANTITY and dataset != KLINES and count % ZERO_EVERY == 0:
            row[quantity] = "0"
        elif name == WRONG_DAY:
            for slot in TIMES[dataset]:
                scale = 1000 if len(row[slot]) >= MICROSECOND_DIGITS else 1
                row[slot] = str(int(row[slot]) + DAY_MS * scale)
        elif name == VOIDED and dataset == "aggTrades":
            row[1:5] = ["0", "0", "-1", "-1"]
    return rows


def _inside(row: list[str], dataset: str, alteration: Alteration) -> bool:
    text = row[TIMES[dataset][0]]
    moment_ms = int(text) // 1000 if len(text) >= MICROSECOND_DIGITS else int(text)
    return alteration.start_ms <= moment_ms < alteration.end_ms
