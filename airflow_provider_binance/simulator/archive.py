"""The public archive: which files exist when, and their bytes.

A file's size must be known before its content is, since a listing of years of files would take minutes to compute
otherwise. So synthetic zips are padded to a size that follows from the number of rows.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterator

from airflow_provider_binance.simulator.alterations import Alteration, altered
from airflow_provider_binance.simulator.archive_csv import aggregate_lines, header_of, kline_lines, trade_lines
from airflow_provider_binance.simulator.archive_files import TICKS, ArchiveFile, offers, parse_key
from airflow_provider_binance.simulator.clock import from_ms
from airflow_provider_binance.simulator.exchange import Exchange, Hidden
from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.intervals import LENGTH_MS, MONTH, ceil_open, floor_open, next_open
from airflow_provider_binance.simulator.zips import make_zip

# Deflated rows are some 40 to 60 bytes long; a little more, so that nearly every file can be padded to it.
BYTES_PER_CANDLE = 72
BYTES_PER_TICK = 48
BYTES_PER_FILE = 600
CANDLES_PER_PART = 45_000
TICKS_PER_PART = 60_000
CACHED_BYTES = 96 * 2**20
SHA256_HEX_LENGTH = 64


class Archive:
    """The files of all series, built when asked for and kept while memory allows."""

    def __init__(self, exchange: Exchange, late: dict[str, str]) -> None:
        self.exchange = exchange
        self._late = late
        self._built: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._built_bytes = 0

    def files(self, instrument: Instrument, kind: str, partition: str) -> Iterator[ArchiveFile]:
        """All files of the series that are out now, oldest first."""
        span = self._span(instrument, kind)
        if span is None or not offers(instrument, kind, partition):
            return
        first_ms, end_ms = span
        now_ms = self.exchange.clock.now_ms()
        end_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        step = "1d" if partition == "daily" else MONTH
        start_ms = floor_open(step, first_ms)
        while start_ms < end_ms:
            file = ArchiveFile(instrument, kind, partition, start_ms, next_open(step, start_ms))
            if self.is_out(file):
                yield file
            start_ms = file.end_ms

    def find(self, key: str) -> ArchiveFile | None:
        """The file of that key, if it is out now."""
        file = parse_key(key, self.exchange.instruments)
        return file if file is not None and self.is_out(file) else None

    def is_out(self, file: ArchiveFile) -> bool:
        """Whether the file has rows, has been published and is not late."""
        span = self._span(file.instrument, file.kind)
        if span is None or file.published_ms > self.exchange.clock.now_ms() or self._is_late(file):
            return False
        recorded = self._recorded_names(file)
        if recorded is not None:
            return file.base_name in recorded
        if not file.is_klines:
            return self._tick_count(file) > 0
        first_ms, life_end_ms = span
        first_open = ceil_open(file.kind, max(file.start_ms, first_ms))
        return first_open < (file.end_ms if life_end_ms is None else min(file.end_ms, life_end_ms))

    def size(self, file: ArchiveFile) -> int:
        """Length of the zip in bytes."""
        known = self._recorded_names(file) is not None or self.version(file) in self._built
        if known or self._alterations(file):
            return len(self.content(file))
        return self._planned_size(file)

    def _planned_size(self, file: ArchiveFile) -> int:
        rows = BYTES_PER_CANDLE * file.candle_count if file.is_klines else BYTES_PER_TICK * self._tick_count(file)
        return BYTES_PER_FILE + rows

    def modified_ms(self, file: ArchiveFile) -> int:
        """When the file was uploaded last, and what it knew: candles that closed later are half done in it."""
        uploads = [each.since_ms for each in self._alterations(file) if each.uploads]
        return max([file.published_ms, *uploads])

    def version(self, file: ArchiveFile) -> tuple[str, str]:
        """Key and ETag: the ETag changes with the rows that the file lacks, and with what is wrong with them."""
        halts = self.exchange.halts(file.instrument)
        text = f"{self.exchange.seed}/{file.key}/{self._hidden(file)}/{halts}/{self._alterations(file)}"
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
        written = from_ms(self.modified_ms(file))
        recordings = self.exchange.recordings
        if recordings is not None and self._recorded_names(file) is not None:
            hidden = [(each.start_ms, each.end_ms) for each in self._hidden(file)]
            return recordings.archive_content(file.series, file.base_name, written, make_zip, hidden)
        return make_zip(f"{file.base_name}.csv", self._csv_parts(file), written, self._planned_size(file))

    def _csv_parts(self, file: ArchiveFile) -> Iterator[bytes]:
        """The CSV piece by piece: a month of seconds at once would take gigabytes."""
        yield header_of(file).encode()
        if not file.is_klines:
            yield from self._tick_parts(file)
            return
        step_ms = CANDLES_PER_PART * LENGTH_MS[file.kind]
        for start_ms in range(file.start_ms, file.end_ms, step_ms):
            end_ms = min(start_ms + step_ms, file.end_ms)
            rows = self.exchange.rows(
                *file.series, start_ms, end_ms - 1, as_of_ms=self.modified_ms(file), source=file.partition
            )
            yield self._joined(file, kline_lines(file, rows))

    def _tick_parts(self, file: ArchiveFile) -> Iterator[bytes]:
        ticks = self.exchange.ticks(file.instrument)
        assert ticks is not None
        hidden = self.exchange.hidden_times(file.instrument, file.kind, file.partition)
        edges_us = file.start_ms * 1000 - 1, file.end_ms * 1000 - 1
        until = ticks.trades_until if file.kind == "trades" else ticks.aggregates_until
        first, stop = (until(edge) for edge in edges_us)
        for begin in range(first, stop, TICKS_PER_PART):
            end = min(begin + TICKS_PER_PART, stop)
            found = ticks.trades(begin, end) if file.kind == "trades" else ticks.aggregates(begin, end)
            for start_ms, end_ms in hidden:
                found = found.keep((found.time_us < start_ms * 1000) | (found.time_us >= end_ms * 1000))
            lines = trade_lines(file, ticks, found) if isinstance(found, Trades) else aggregate_lines(file, found)
            yield self._joined(file, lines)

    def _joined(self, file: ArchiveFile, lines: list[str]) -> bytes:
        return "".join(altered(file, lines, self._alterations(file))).encode()

    def _alterations(self, file: ArchiveFile) -> list[Alteration]:
        return [each for each in self.exchange.alterations if each.concerns(file)]

    def _tick_count(self, file: ArchiveFile) -> int:
        ticks = self.exchange.ticks(file.instrument)
        return 0 if ticks is None else ticks.count_between(file.kind, file.start_ms, file.end_ms)

    def _span(self, instrument: Instrument, kind: str) -> tuple[int, int | None] | None:
        """First instant and end of a series; None when there is none."""
        if kind in TICKS:
            return None if self.exchange.ticks(instrument) is None else (instrument.listed_ms, instrument.delisted_ms)
        series = self.exchange.series(instrument.market, instrument.symbol, kind)
        return None if series is None else series.span()

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
        period = f"{from_ms(file.start_ms):{'%Y-%m-%d' if file.partition == 'daily' else '%Y-%m'}}"
        path = self._late.get(period)
        return path is not None and path in f"/{file.key}"

    def _recorded_names(self, file: ArchiveFile) -> frozenset[str] | None:
        if self.exchange.recordings is None or not file.is_klines:
            return None
        return self.exchange.recordings.archive_names(*file.series, file.partition)
