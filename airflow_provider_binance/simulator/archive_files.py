"""The files of the archive as names: market, dataset, symbol, interval and period, and when each comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import (
    DAY_MS,
    HOUR_MS,
    INTERVALS,
    LENGTH_MS,
    MINUTE_MS,
    MONTH,
    ceil_open,
    next_open,
)

FOLDER = {"spot": "data/spot", "um": "data/futures/um", "cm": "data/futures/cm"}
# A file system that ignores case could not tell 1M from 1m.
FILE_INTERVAL = {interval: "1mo" if interval == MONTH else interval for interval in INTERVALS}
MONTHLY_ONLY = ("3d", "1w", MONTH)
TICKS = ("aggTrades", "trades")
# What a symbol has files of: intervals of klines, and datasets that have no interval.
KINDS = (*INTERVALS, *TICKS)
PARTITIONS = ("daily", "monthly")


@dataclass(frozen=True)
class ArchiveFile:
    """One zip of the archive: rows of ``[start_ms, end_ms)``; ``kind`` is an interval of klines or one of ``TICKS``."""

    instrument: Instrument
    kind: str
    partition: str
    start_ms: int
    end_ms: int

    @property
    def series(self) -> tuple[str, str, str]:
        """Market, symbol and kind."""
        return self.instrument.market, self.instrument.symbol, self.kind

    @property
    def is_klines(self) -> bool:
        """Whether it has klines."""
        return self.kind not in TICKS

    @property
    def base_name(self) -> str:
        """File name without suffix."""
        pattern = "%Y-%m-%d" if self.partition == "daily" else "%Y-%m"
        return f"{self.instrument.symbol}-{spelled(self.kind)}-{from_ms(self.start_ms):{pattern}}"

    @property
    def folder(self) -> str:
        """Key prefix of the series in the archive, with a slash at the end."""
        return series_folder(self.instrument, self.kind, self.partition)

    @property
    def key(self) -> str:
        """Key of the zip in the archive."""
        return f"{self.folder}{self.base_name}.zip"

    @property
    def published_ms(self) -> int:
        """When the file first comes out.

        Days come out at 08:30 of the next day, months on the first Monday after them. Months were also seen on the 1st;
        those of the long intervals come then, so that some have a candle that was still forming.
        """
        if self.partition == "daily":
            return self.end_ms + 8 * HOUR_MS + 30 * MINUTE_MS
        if self.kind in MONTHLY_ONLY:
            return self.end_ms + 8 * HOUR_MS + 6 * MINUTE_MS
        return ceil_open("1w", self.end_ms) + 8 * HOUR_MS

    @property
    def candle_count(self) -> int:
        """Grid opens in the period of a file of klines."""
        first = ceil_open(self.kind, self.start_ms)
        if self.kind == MONTH:
            return 1
        return max(0, -(-(self.end_ms - first) // LENGTH_MS[self.kind]))


def spelled(kind: str) -> str:
    """A kind as keys spell it."""
    return FILE_INTERVAL.get(kind, kind)


def series_folder(instrument: Instrument, kind: str, partition: str) -> str:
    """Key prefix of a series' files."""
    dataset = f"{kind}/{instrument.symbol}" if kind in TICKS else f"klines/{instrument.symbol}/{spelled(kind)}"
    return f"{FOLDER[instrument.market]}/{partition}/{dataset}/"


def offers(instrument: Instrument, kind: str, partition: str) -> bool:
    """Whether the archive has such files of the symbol at all."""
    if kind not in KINDS or (kind == "1s" and instrument.market != "spot"):
        return False
    return partition == "monthly" or (partition == "daily" and kind not in MONTHLY_ONLY)


def parse_key(key: str, instruments: dict[tuple[str, str], Instrument]) -> ArchiveFile | None:
    """The file that a key names, whether or not it is out."""
    for market, folder in FOLDER.items():
        if not key.startswith(f"{folder}/"):
            continue
        partition, _, rest = key.removeprefix(f"{folder}/").partition("/")
        parts = rest.split("/")
        if len(parts) == 4 and parts[0] == "klines":
            _, symbol, interval, name = parts
            kind = next((each for each, text in FILE_INTERVAL.items() if text == interval), "")
        elif len(parts) == 3 and parts[0] in TICKS:
            kind, symbol, name = parts
        else:
            return None
        instrument = instruments.get((market, symbol))
        if instrument is None or not offers(instrument, kind, partition):
            return None
        return _parse_period(instrument, kind, partition, name)
    return None


def _parse_period(instrument: Instrument, kind: str, partition: str, name: str) -> ArchiveFile | None:
    period = name.removeprefix(f"{instrument.symbol}-{spelled(kind)}-").removesuffix(".zip")
    pattern = "%Y-%m-%d" if partition == "daily" else "%Y-%m"
    try:
        start_ms = to_ms(datetime.strptime(period, pattern).replace(tzinfo=UTC))
    except ValueError:
        return None
    end_ms = start_ms + DAY_MS if partition == "daily" else next_open(MONTH, start_ms)
    file = ArchiveFile(instrument, kind, partition, start_ms, end_ms)
    return file if name == f"{file.base_name}.zip" else None
