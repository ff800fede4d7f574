"""Names and periods of archive files; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from airflow_provider_binance.market import DAY_US, INTERVALS, Interval, Market, from_us
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import dataset

_MONTH = INTERVALS["1M"]
_DAY = INTERVALS["1d"]


class Partition(StrEnum):
    """How long a stretch one archive file holds."""

    MONTHLY = "monthly"
    DAILY = "daily"


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file as the archive names it; `path` is below `/data/…` and is the ledger's `source_ref`."""

    path: str
    partition: Partition
    start_us: int
    end_us: int

    @property
    def name(self) -> str:
        """The zip's own name."""
        return self.path.rpartition("/")[2]

    @property
    def stamp(self) -> str:
        """The date in its name: `2024-01` or `2024-01-31`."""
        return self.path[-14 if self.partition is Partition.DAILY else -11 : -4]


def folder(series: Series, partition: Partition) -> str:
    """The folder of a series' files, with `data/` before and `/` behind."""
    entry = dataset(series.dataset)
    market = series.market if series.market == Market.SPOT else f"futures/{series.market}"
    parts = ["data", market, partition, str(entry.archive_folder), series.symbol]
    if entry.has_interval:
        parts.append(INTERVALS[series.interval].archive_name)
    return "/".join(parts) + "/"


def symbol_folder(market: Market, dataset_name: str, symbol: str, partition: Partition) -> str:
    """The folder that exists when the archive knows the symbol, whatever its intervals."""
    branch = market if market is Market.SPOT else f"futures/{market}"
    return f"data/{branch}/{partition}/{dataset(dataset_name).archive_folder}/{symbol}/"


def file_at(series: Series, partition: Partition, at_us: int) -> ArchiveFile:
    """The file whose period contains `at_us`, whether it exists or not."""
    return next(files_between(series, partition, at_us, at_us + 1))


def files_between(series: Series, partition: Partition, start_us: int, end_us: int) -> Iterator[ArchiveFile]:
    """The files whose periods touch `[start_us, end_us)`, ascending, whether they exist or not."""
    stem = folder(series, partition) + file_stem(series)
    at_us = (_MONTH if partition is Partition.MONTHLY else _DAY).floor(start_us)
    while at_us < end_us:
        stamp, until_us = _period(partition, at_us)
        yield ArchiveFile(f"{stem}{stamp}.zip", partition, at_us, until_us)
        at_us = until_us


def file_stem(series: Series) -> str:
    """What a file's name has before its stamp."""
    entry = dataset(series.dataset)
    kind = INTERVALS[series.interval].archive_name if entry.has_interval else str(entry.archive_folder)
    return f"{series.symbol}-{kind}-"


@lru_cache(maxsize=8192)
def _period(partition: Partition, start_us: int) -> tuple[str, int]:
    """Stamp and end of the period that begins at `start_us`: the same for all series, so made once."""
    day = from_us(start_us)
    if partition is Partition.MONTHLY:
        return f"{day:%Y-%m}", _MONTH.next_open(start_us)
    return f"{day:%Y-%m-%d}", _DAY.next_open(start_us)


def period_of(name: str) -> tuple[int, int] | None:
    """The period in a file name's date, or None if the name has none: `BTCUSDT-1m-2024-01[-31].zip`."""
    stem = name.removesuffix(".zip")
    for length, partition in ((10, Partition.DAILY), (7, Partition.MONTHLY)):
        try:
            day = date.fromisoformat(stem[-length:] + ("-01" if partition is Partition.MONTHLY else ""))
        except ValueError:
            continue
        start_us = (day - date(1970, 1, 1)) // timedelta(days=1) * DAY_US
        grid: Interval = _MONTH if partition is Partition.MONTHLY else _DAY
        return start_us, grid.next_open(start_us)
    return None


def published_by(file: ArchiveFile) -> int:
    """When the file is out at the latest in the ordinary course: daily files by 10:00 UTC of the next day, monthly ones
    by the first Monday of the next month and that hour (measured: 08:00–09:00)."""
    if file.partition is Partition.DAILY:
        return file.end_us + 10 * 3_600_000_000
    return INTERVALS["1w"].ceil(file.end_us) + 10 * 3_600_000_000
