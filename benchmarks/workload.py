"""The bench's klines: monthly archive files of a made-up spot market, the same in every run.

Digits, widths and units are those of real files: eight decimals, no header, milliseconds before 2025 and microseconds
since then. Files are made once and kept.
"""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_binance.archive.layout import ArchiveFile, Partition, files_between
from airflow_provider_binance.market import INTERVALS, Interval, to_us
from airflow_provider_binance.records import Series

_START_US = to_us(datetime(2024, 1, 1, tzinfo=UTC))
_MICROSECONDS_SINCE_US = to_us(datetime(2025, 1, 1, tzinfo=UTC))
_VERSION = 1  # another one makes the files anew


@dataclass(frozen=True, slots=True)
class Workload:
    """`months` monthly files of one series, below `folder` as the archive lays them out."""

    folder: Path
    series: Series
    months: int

    @property
    def files(self) -> list[ArchiveFile]:
        month = INTERVALS["1M"]
        end_us = _START_US
        for _ in range(self.months):
            end_us = month.next_open(end_us)
        return list(files_between(self.series, Partition.MONTHLY, _START_US, end_us))

    @property
    def window_us(self) -> tuple[int, int]:
        files = self.files
        return files[0].start_us, files[-1].end_us

    @property
    def rows(self) -> int:
        return INTERVALS[self.series.interval].count(*self.window_us)

    def csv(self, file: ArchiveFile) -> bytes:
        with zipfile.ZipFile(self.folder / file.path) as archive:
            return archive.read(archive.namelist()[0])

    def make(self) -> Workload:
        """Write the files, unless they are all there."""
        if all((self.folder / file.path).exists() for file in self.files):
            return self
        state = _Market(random.Random(f"{_VERSION} {self.series}"))
        interval = INTERVALS[self.series.interval]
        for file in self.files:
            _put(self.folder / file.path, state.lines(interval, file.start_us, file.end_us))
        return self


def workload(root: Path, months: int, interval: str = "1m", symbol: str = "BTCUSDT") -> Workload:
    """The files of the first `months` months, made now where they are lacking."""
    return Workload(root / f"v{_VERSION}", Series("spot", "klines", symbol, interval), months).make()


def cut_short(work: Workload, rows: int) -> Workload:
    """A workload of one file that ends after so many rows: a month of 1s would take long to make."""
    assert work.months == 1
    [file] = work.files
    interval = INTERVALS[work.series.interval]
    lines = _Market(random.Random(rows)).lines(interval, file.start_us, file.start_us + rows * interval.size_us)
    _put(work.folder / file.path, lines)
    return work


def daily_files(work: Workload) -> None:
    """Write the file of every day beside the months', of the same lines, unless they are all there."""
    for file in work.files:
        lines = work.csv(file).decode().splitlines(keepends=True)
        interval = INTERVALS[work.series.interval]
        for day in files_between(work.series, Partition.DAILY, file.start_us, file.end_us):
            first = interval.count(file.start_us, day.start_us)
            if not (work.folder / day.path).exists():
                _put(work.folder / day.path, lines[first : first + interval.count(day.start_us, day.end_us)])


def _put(path: Path, lines: Iterable[str]) -> None:
    """Write a zip with its checksum; its name appears when both are whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.name.removesuffix(".zip") + ".csv", "".join(lines))
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    path.with_name(path.name + ".CHECKSUM").write_text(f"{digest}  {path.name}\n")
    part.rename(path)


class _Market:
    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._price = 42_283.58

    def lines(self, interval: Interval, start_us: int, end_us: int) -> Iterator[str]:
        draw, gauss, price = self._random.random, self._random.gauss, self._price
        unit = 1 if start_us >= _MICROSECONDS_SINCE_US else 1000
        size = interval.size_us // unit
        for opened in range(start_us // unit, end_us // unit, size):
            close = max(100.0, price * (1 + gauss(0, 0.0005)))
            high, low = max(price, close) * (1 + draw() * 0.0004), min(price, close) * (1 - draw() * 0.0004)
            volume = 5 + draw() * draw() * 80
            bought = volume * (0.2 + 0.6 * draw())
            yield (
                f"{opened},{price:.2f}000000,{high:.2f}000000,{low:.2f}000000,{close:.2f}000000,{volume:.5f}000,"
                f"{opened + size - 1},{volume * close:.8f},{int(volume * 37) + 1},{bought:.5f}000,"
                f"{bought * close:.8f},0\n"
            )
            price = close
        self._price = price
