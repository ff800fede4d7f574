"""The public archive: which kline files exist when, and their bytes.

A file's size must be known before its content is, since a listing of years of files would take minutes to compute
otherwise. So synthetic zips are padded to a size that follows from the number of candles.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_binance.simulator.candles import Row
from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.exchange import Exchange, Hidden
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import (
    DAY_MS,
    HOUR_MS,
    INTERVALS,
    LENGTH_MS,
    MINUTE_MS,
    MONTH,
    ceil_open,
    floor_open,
    next_open,
)
from airflow_provider_binance.simulator.zips import make_zip

FOLDER = {"spot": "data/spot", "um": "data/futures/um", "cm": "data/futures/cm"}
# A file system that ignores case could not tell 1M from 1m.
FILE_INTERVAL = {interval: "1mo" if interval == MONTH else interval for interval in INTERVALS}
MONTHLY_ONLY = ("3d", "1w", MONTH)

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
FUTURES_HEADER_SINCE_MS = to_ms("2022-05-01")
SPOT_MICROSECONDS_SINCE_MS = to_ms("2025-01-01")

# Deflated candles are some 40 to 60 bytes long; a little more, so that nearly every file can be padded to it.
BYTES_PER_CANDLE = 72
BYTES_PER_FILE = 600
CANDLES_PER_PART = 45_000
CACHED_BYTES = 96 * 2**20
SHA256_HEX_LENGTH = 64


@dataclass(frozen=True)
class ArchiveFile:
    """One zip of the archive: a series' candles that open in ``[start_ms, end_ms)``."""

    instrument: Instrument
    interval: str
    partition: str
    start_ms: int
    end_ms: int

    @property
    def series(self) -> tuple[str, str, str]:
        """Market, symbol and interval."""
        return self.instrument.market, self.instrument.symbol, self.interval

    @property
    def base_name(self) -> str:
        """File name without suffix."""
        pattern = "%Y-%m-%d" if self.partition == "daily" else "%Y-%m"
        return f"{self.instrument.symbol}-{FILE_INTERVAL[self.interval]}-{from_ms(self.start_ms):{pattern}}"

    @property
    def folder(self) -> str:
        """Key prefix of the series in the archive, with a slash at the end."""
        return series_folder(self.instrument, self.interval, self.partition)

    @property
    def key(self) -> str:
        """Key of the zip in the archive."""
        return f"{self.folder}{self.base_name}.zip"

    @property
    def published_ms(self) -> int:
        """When the file came out, and what it knew: candles that closed later are half done in it.

        Days come out at 08:30 of the next day, months on the first Monday after them. Months were also seen on the 1st;
        those of the long intervals come then, so that some have a candle that was still forming.
        """
        if self.partition == "daily":
            return self.end_ms + 8 * HOUR_MS + 30 * MINUTE_MS
        if self.interval in MONTHLY_ONLY:
            return self.end_ms + 8 * HOUR_MS + 6 * MINUTE_MS
        return ceil_open("1w", self.end_ms) + 8 * HOUR_MS

    @property
    def candle_count(self) -> int:
        """Grid opens in the file's period."""
        first = ceil_open(self.interval, self.start_ms)
        if self.interval == MONTH:
            return 1
        return max(0, -(-(self.end_ms - first) // LENGTH_MS[self.interval]))

    @property
    def planned_size(self) -> int:
        """Size of the zip, unless its candles deflate unusually badly."""
        return BYTES_PER_FILE + BYTES_PER_CANDLE * self.candle_count


def series_folder(instrument: Instrument, interval: str, partition: str) -> str:
    """Key prefix of a series' files."""
    return f"{FOLDER[instrument.market]}/{partition}/klines/{instrument.symbol}/{FILE_INTERVAL[interval]}/"


class Archive:
    """The kline files of all series, built when asked for and kept while memory allows."""

    def __init__(self, exchange: Exchange, late_days: dict[str, str]) -> None:
        self.exchange = exchange
        self._late_days = late_days
        self._built: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._built_bytes = 0

    def offers(self, instrument: Instrument, interval: str, partition: str) -> bool:
        """Whether the archive has such files of the series at all."""
        if interval not in INTERVALS or (interval == "1s" and instrument.market != "spot"):
            return False
        return partition == "monthly" or (partition == "daily" and interval not in MONTHLY_ONLY)

    def files(self, instrument: Instrument, interval: str, partition: str) -> Iterator[ArchiveFile]:
        """All files of the series that are out now, oldest first."""
        series = self.exchange.series(instrument.market, instrument.symbol, interval)
        if series is None or not self.offers(instrument, interval, partition):
            return
        first_ms, end_ms = series.span()
        now_ms = self.exchange.clock.now_ms()
        end_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        step = "1d" if partition == "daily" else MONTH
        start_ms = floor_open(step, first_ms)
        while start_ms < end_ms:
            file = ArchiveFile(instrument, interval, partition, start_ms, next_open(step, start_ms))
            if self.is_out(file):
                yield file
            start_ms = file.end_ms

    def find(self, key: str) -> ArchiveFile | None:
        """The file of that key, if it is out now."""
        file = self._parse(key)
        return file if file is not None and self.is_out(file) else None

    def is_out(self, file: ArchiveFile) -> bool:
        """Whether the file has candles, has been published and is not late."""
        series = self.exchange.series(*file.series)
        if series is None or file.published_ms > self.exchange.clock.now_ms() or self._is_late(file):
            return False
        recorded = self._recorded_names(file)
        if recorded is not None:
            return file.base_name in recorded
        first_ms, life_end_ms = series.span()
        first_open = ceil_open(file.interval, max(file.start_ms, first_ms))
        return first_open < (file.end_ms if life_end_ms is None else min(file.end_ms, life_end_ms))

    def size(self, file: ArchiveFile) -> int:
        """Length of the zip in bytes."""
        if self._recorded_names(file) is not None or self.version(file) in self._built:
            return len(self.content(file))
        return file.planned_size

    def version(self, file: ArchiveFile) -> tuple[str, str]:
        """Key and ETag: the ETag changes with the rows that the file lacks."""
        halts = self.exchange.halts(file.instrument)
        text = f"{self.exchange.seed}/{file.key}/{self._hidden(file)}/{halts}"
        return file.key, hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def content(self, file: ArchiveFile) -> bytes:
        """The zip's bytes, the same every time."""
        version = self.version(file)
        known = self._built.get(version)
        if known is not None:
            self._built.move_to_end(version)
            return known
        content = self._build(file)
        self._built[version] = content
        self._built_bytes += len(content)
        while self._built_bytes > CACHED_BYTES and len(self._built) > 1:
            _, dropped = self._built.popitem(last=False)
            self._built_bytes -= len(dropped)
        return content

    def checksum_text(self, file: ArchiveFile) -> str:
        """Content of the ``.CHECKSUM``."""
        recordings = self.exchange.recordings
        if recordings is not None and self._recorded_names(file) is not None and not self._hidden(file):
            published = recordings.archive_checksum(file.series, file.base_name)
            if published is not None:
                return published
        return self.checksum_line(file, hashlib.sha256(self.content(file)).hexdigest())

    def checksum_line(self, file: ArchiveFile, sha256: str) -> str:
        """The CHECKSUM that names this hash; in every third file the line has no end, as Binance has it at times."""
        line_end = "" if zlib.crc32(file.key.encode()) % 3 == 0 else "\n"
        return f"{sha256}  {file.base_name}.zip{line_end}"

    def checksum_size(self, file: ArchiveFile) -> int:
        """Length of the ``.CHECKSUM``, without hashing what need not be."""
        if self._recorded_names(file) is not None:
            return len(self.checksum_text(file).encode())
        return len(self.checksum_line(file, "0" * SHA256_HEX_LENGTH).encode())

    def _build(self, file: ArchiveFile) -> bytes:
        written = from_ms(file.published_ms)
        recordings = self.exchange.recordings
        if recordings is not None and self._recorded_names(file) is not None:
            hidden = [(each.start_ms, each.end_ms) for each in self._hidden(file)]
            return recordings.archive_content(file.series, file.base_name, written, make_zip, hidden)
        return make_zip(f"{file.base_name}.csv", self._csv_parts(file), written, file.planned_size)

    def _csv_parts(self, file: ArchiveFile) -> Iterator[bytes]:
        """The CSV piece by piece: a month of seconds at once would take gigabytes."""
        if file.instrument.market != "spot" and file.start_ms >= FUTURES_HEADER_SINCE_MS:
            yield HEADER.encode()
        step_ms = CANDLES_PER_PART * LENGTH_MS[file.interval]
        for start_ms in range(file.start_ms, file.end_ms, step_ms):
            end_ms = min(start_ms + step_ms, file.end_ms)
            rows = self.exchange.rows(
                *file.series, start_ms, end_ms - 1, as_of_ms=file.published_ms, source=file.partition
            )
            yield csv_bytes(file, rows)

    def _hidden(self, file: ArchiveFile) -> list[Hidden]:
        """What the file lacks."""
        return [
            each
            for each in self.exchange.hidden
            if file.partition in each.sources
            and each.covers(*file.series)
            and each.start_ms < file.end_ms
            and file.start_ms < each.end_ms
        ]

    def _is_late(self, file: ArchiveFile) -> bool:
        day = f"{from_ms(file.start_ms):%Y-%m-%d}"
        path = self._late_days.get(day)
        return file.partition == "daily" and path is not None and path in f"/{file.key}"

    def _recorded_names(self, file: ArchiveFile) -> frozenset[str] | None:
        if self.exchange.recordings is None:
            return None
        return self.exchange.recordings.archive_names(*file.series, file.partition)

    def _parse(self, key: str) -> ArchiveFile | None:
        for market, folder in FOLDER.items():
            if not key.startswith(f"{folder}/"):
                continue
            parts = key.removeprefix(f"{folder}/").split("/")
            if len(parts) != 5 or parts[1] != "klines":
                return None
            partition, _, symbol, spelled, name = parts
            instrument = self.exchange.instruments.get((market, symbol))
            interval = next((each for each, text in FILE_INTERVAL.items() if text == spelled), None)
            if instrument is None or interval is None or not self.offers(instrument, interval, partition):
                return None
            return _parse_period(instrument, interval, partition, name)
        return None


def _parse_period(instrument: Instrument, interval: str, partition: str, name: str) -> ArchiveFile | None:
    period = name.removeprefix(f"{instrument.symbol}-{FILE_INTERVAL[interval]}-").removesuffix(".zip")
    pattern = "%Y-%m-%d" if partition == "daily" else "%Y-%m"
    try:
        start_ms = to_ms(datetime.strptime(period, pattern).replace(tzinfo=UTC))
    except ValueError:
        return None
    end_ms = start_ms + DAY_MS if partition == "daily" else next_open(MONTH, start_ms)
    file = ArchiveFile(instrument, interval, partition, start_ms, end_ms)
    return file if name == f"{file.base_name}.zip" else None


def csv_bytes(file: ArchiveFile, rows: list[Row]) -> bytes:
    """Lines of a CSV; times in newer spot files are microseconds."""
    if file.instrument.market == "spot" and file.start_ms >= SPOT_MICROSECONDS_SINCE_MS:
        lines = [
            f"{row[0]}000,{','.join(row[1:6])},{row[6]}999,{row[7]},{row[8]},{','.join(row[9:])}\n" for row in rows
        ]
    else:
        lines = [f"{row[0]},{','.join(row[1:6])},{row[6]},{row[7]},{row[8]},{','.join(row[9:])}\n" for row in rows]
    return "".join(lines).encode()
