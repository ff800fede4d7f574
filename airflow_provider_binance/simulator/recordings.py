"""Replay: a folder of recorded klines and archive files, served in place of the synthetic market.

Three kinds of files are taken: ``archive/data/…zip`` as published, ``archive_unzipped/…csv[.gz]``, which is zipped
here, and ``klines/<market>…/…``, recordings of REST, which have no archive files. In the period of an archive file only
its rows count. Recorded streams lie beside them: :mod:`.stream_recordings`.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from airflow_provider_binance.simulator.candles import SPOT_DECIMALS, Row
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.instruments import MARKETS
from airflow_provider_binance.simulator.intervals import DAY_MS, INTERVALS, MONTH, close_time, next_open
from airflow_provider_binance.simulator.recording_formats import archive_lines, read_text, recorded_lines
from airflow_provider_binance.simulator.recording_formats import first_open as first_recorded_open
from airflow_provider_binance.simulator.stream_recordings import StreamRecordings

Key = tuple[str, str, str]
ZipMaker = Callable[[str, list[bytes], datetime], bytes]

_ARCHIVE_PATH = re.compile(
    r"(?:spot|futures/(?P<futures>um|cm))/(?P<partition>daily|monthly)/klines/(?P<symbol>[^/]+)/(?P<interval>\w+)/"
    r"(?P<base>[^/]+-(?P<period>\d{4}-\d\d(?:-\d\d)?))\.(?:zip|csv|csv\.gz)$"
)
# Recordings that lack trade counts and taker volumes get made-up ones, the same whatever the seed of the simulator.
FILL_SEED = "recorded"
FUTURES_QUOTE_DECIMALS = 5


@dataclass(frozen=True)
class ArchiveRecording:
    """A recorded archive file and the period it covers."""

    partition: str
    base_name: str
    path: Path
    start_ms: int
    end_ms: int


class RecordedSeries:
    """The rows of one recorded series, sorted; where there is no row, none was recorded."""

    def __init__(self, key: Key, opens: array[int], lines: list[str]) -> None:
        self._key = key
        self._opens = opens
        self._lines = lines

    def rows(self, start_ms: int, end_ms: int, as_of_ms: int, zone_ms: int = 0) -> list[Row]:
        """Rows that open in ``[start_ms, end_ms]``; one that closes after ``as_of_ms`` has only its open yet."""
        first = bisect_left(self._opens, start_ms)
        last = bisect_right(self._opens, min(end_ms, as_of_ms))
        rows = [self._row(index) for index in range(first, last)]
        if rows and rows[-1][6] >= as_of_ms:
            rows[-1] = _just_opened(rows[-1])
        return rows

    def span(self) -> tuple[int, int | None]:
        """First open time, and the end of the last candle: nothing is known after it."""
        if not self._opens:
            return 0, 0
        return self._opens[0], next_open(self._key[2], self._opens[-1])

    def _row(self, index: int) -> Row:
        market, _, interval = self._key
        open_ms = self._opens[index]
        opened, high, low, close, volume, closes, quote, count, taker, taker_quote = self._lines[index].split(",")
        close_ms = int(closes) if closes else close_time(interval, open_ms)
        if len(closes) > len("1679661581646"):
            close_ms //= 1000
        if not taker:
            made_up = _fill(self._key, open_ms, (opened, high, low, close), volume)
            quote, count, taker, taker_quote = quote or made_up[0], count or made_up[1], made_up[2], made_up[3]
        texts = [opened, high, low, close, volume, quote, taker, taker_quote]
        if market == "spot":
            texts = [f"{Decimal(text):.{SPOT_DECIMALS}f}" for text in texts]
        opened, high, low, close, volume, quote, taker, taker_quote = texts
        return (open_ms, opened, high, low, close, volume, close_ms, quote, int(count), taker, taker_quote, "0")


class Recordings:
    """Everything recorded below a folder; files are indexed at once and read when first needed.

    Raises:
        ValueError: the folder is absent or has neither recorded klines nor streams.
    """

    def __init__(self, folder: Path) -> None:
        self._archive: dict[Key, list[ArchiveRecording]] = defaultdict(list)
        self._rest: dict[Key, list[Path]] = defaultdict(list)
        for top in ("archive/data", "archive_unzipped"):
            for path in sorted((folder / top).rglob("*-*")):
                self._index_archive(path, path.relative_to(folder / top).as_posix())
        for path in sorted((folder / "klines").glob("*/*")):
            key = _key_of_recording(path)
            if key is not None:
                self._rest[key].append(path)
        self._keys = sorted({*self._archive, *self._rest})
        self.streams = StreamRecordings(folder)
        self._streamed = self.streams.first_times()
        if not self._keys and not self._streamed:
            raise ValueError(f"no recorded klines or streams below {folder}")
        self._series: dict[Key, RecordedSeries] = {}

    def symbols(self) -> list[tuple[str, str]]:
        """Market and symbol of all that is recorded."""
        return sorted({(market, symbol) for market, symbol, _ in self._keys} | set(self._streamed))

    def intervals(self, market: str, symbol: str) -> list[str]:
        """The recorded intervals of a symbol."""
        return [key[2] for key in self._keys if key[:2] == (market, symbol)]

    def first_open(self, market: str, symbol: str) -> int:
        """The earliest open time of a symbol in any interval, or when its streams begin."""
        firsts = [self._streamed[market, symbol]] if (market, symbol) in self._streamed else []
        for key in self._keys:
            if key[:2] == (market, symbol):
                firsts += [recording.start_ms for recording in self._archive.get(key, [])]
                firsts += [_first_open(path) for path in self._rest.get(key, [])]
        return min(firsts)

    def series(self, market: str, symbol: str, interval: str) -> RecordedSeries | None:
        """The recorded series, None when there is none."""
        key = (market, symbol, interval)
        if key not in self._archive and key not in self._rest:
            return None
        if key not in self._series:
            self._series[key] = self._read(key)
        return self._series[key]

    def archive_names(self, market: str, symbol: str, interval: str, partition: str) -> frozenset[str] | None:
        """Base names of the recorded archive files of a series; None when the series is not recorded at all."""
        key = (market, symbol, interval)
        if key not in self._archive and key not in self._rest:
            return None
        return frozenset(each.base_name for each in self._archive.get(key, []) if each.partition == partition)

    def archive_content(
        self, key: Key, base_name: str, written: datetime, make_zip: ZipMaker, hidden: list[tuple[int, int]]
    ) -> bytes:
        """The zip of a recorded file: as published, or made of its CSV without the rows in the ``hidden`` ranges."""
        recording = self._recording(key, base_name)
        if recording.path.suffix == ".zip" and not hidden:
            return recording.path.read_bytes()
        text = read_text(recording.path)
        if hidden:
            text = "".join(line for line in text.splitlines(keepends=True) if not _is_hidden(line, hidden))
        return make_zip(f"{base_name}.csv", [text.encode()], written)

    def archive_checksum(self, key: Key, base_name: str) -> str | None:
        """The published CHECKSUM of a recorded file, if it was recorded, too."""
        path = self._recording(key, base_name).path
        checksum = path.with_name(f"{path.name}.CHECKSUM")
        return checksum.read_text(encoding="utf-8") if checksum.exists() else None

    def _recording(self, key: Key, base_name: str) -> ArchiveRecording:
        return next(each for each in self._archive[key] if each.base_name == base_name)

    def _index_archive(self, path: Path, relative: str) -> None:
        match = _ARCHIVE_PATH.fullmatch(relative)
        if match is None:
            return
        interval = MONTH if match["interval"] == "1mo" else match["interval"]
        start_ms = to_ms(match["period"])
        end_ms = start_ms + DAY_MS if match["partition"] == "daily" else next_open(MONTH, start_ms)
        recording = ArchiveRecording(match["partition"], match["base"], path, start_ms, end_ms)
        self._archive[match["futures"] or "spot", match["symbol"], interval].append(recording)

    def _read(self, key: Key) -> RecordedSeries:
        found: dict[int, str] = {}
        recordings = self._archive.get(key, [])
        for recording in recordings:
            found.update(zip(*archive_lines(read_text(recording.path)), strict=True))
        for path in self._rest.get(key, []):
            for open_ms, line in zip(*recorded_lines(path), strict=True):
                if not any(each.start_ms <= open_ms < each.end_ms for each in recordings):
                    found.setdefault(open_ms, line)
        opens = array("q", sorted(found))
        return RecordedSeries(key, opens, [found[open_ms] for open_ms in opens])


@cache
def _first_open(path: Path) -> int:
    return first_recorded_open(path)


def _key_of_recording(path: Path) -> Key | None:
    """Market from the folder's name, symbol and interval from the file's: ``um_long/FIL_USDT_1h.csv.gz``."""
    market = path.parent.name.partition("_")[0]
    words = re.split(r"[-_]", path.name.partition(".")[0])
    at = next((index for index, word in enumerate(words) if word in INTERVALS), 0)
    if market not in MARKETS or at == 0:
        return None
    # A third word is the asset that the contract settles in.
    return market, "".join(words[: min(at, 2)]).upper(), words[at]


def _fill(key: Key, open_ms: int, prices: tuple[str, ...], volume: str) -> tuple[str, str, str, str]:
    """Quote volume, count, taker volume and taker quote volume that the row might have had."""
    amount = Decimal(volume)
    if not amount:
        return volume, "0", volume, volume
    digest = hashlib.blake2b(f"{FILL_SEED}/{key}/{open_ms}".encode(), digest_size=8).digest()
    share, trades = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
    average = sum(map(Decimal, prices), Decimal(0)) / 4
    taker = (amount * (share % 1001) / 1000).quantize(amount)
    decimals = SPOT_DECIMALS if key[0] == "spot" else FUTURES_QUOTE_DECIMALS
    quote, taker_quote = (f"{each * average:.{decimals}f}" for each in (amount, taker))
    return quote, str(1 + trades % 5000), f"{taker:f}", taker_quote


def _just_opened(row: Row) -> Row:
    """What was known of a candle when it opened; the recording has nothing between that and its end."""
    price = row[1]
    nothing = "0." + "0" * len(row[5].partition(".")[2]) if "." in row[5] else "0"
    return (row[0], price, price, price, price, nothing, row[6], nothing, 0, nothing, nothing, "0")


def _is_hidden(line: str, hidden: list[tuple[int, int]]) -> bool:
    first = line.partition(",")[0]
    if not first.isdigit():
        return False
    open_ms = int(first) // 1000 if len(first) >= 16 else int(first)
    return any(start_ms <= open_ms < end_ms for start_ms, end_ms in hidden)
