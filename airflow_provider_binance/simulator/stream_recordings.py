"""Recorded websocket streams: which there are, their frames byte for byte, and the REST books recorded beside them.

Two kinds of recordings are read, below the folder or its ``streams/``. ``hft/<market>_<symbol>_<day>.gz``: a line is
the recorder's time in nanoseconds, a space, and a frame of a combined stream or a REST book.
``cryptofeed/<name>.ws.<n>``: after a line with the address, ``seconds: frame``; ``<name>.http.<n>`` has
``address -> seconds: book``.

A frame is sent when it was recorded, on the exchange's clock: the recorder's is put forward, by as much as the quickest
event has its ``E`` ahead of it.
"""

from __future__ import annotations

import gzip
import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import parse_qs, urlsplit

HEAD = '{"stream":"'
BOOK = '{"lastUpdateId"'

_HFT_NAME = re.compile(r"(spot|usdm|cm)_(\w+)_\d{8}\.gz")
_MARKET_OF_NAME = {"spot": "spot", "usdm": "um", "cm": "cm"}
_MARKET_OF_HOST = {"stream": "spot", "api": "spot", "fstream": "um", "fapi": "um", "dstream": "cm", "dapi": "cm"}
_ADDRESS = re.compile(r"(?P<url>\w+://\S+) (?:<->|->) (?P<seconds>[\d.]+)(?:: (?P<body>.*))?", re.DOTALL)
_EVENT_TIME = re.compile(r'"E":(\d{13})')


class _Line(NamedTuple):
    """What was recorded at an instant of the recorder's clock: a frame, or a book with its symbol."""

    time_us: int
    text: str
    symbol: str = ""


class RecordedFrames(NamedTuple):
    """The payloads of one stream, and when each is sent."""

    times_us: list[int]
    payloads: list[str]


class _Tape:
    """What one recorder heard of one market."""

    def __init__(self, market: str, symbols: set[str], paths: list[Path]) -> None:
        self.market = market
        self.symbols = symbols
        self._paths = paths

    @cached_property
    def first_ms(self) -> int:
        """About when it begins, without reading all of it."""
        return next(self._lines()).time_us // 1000

    @cached_property
    def _read(self) -> tuple[dict[str, RecordedFrames], dict[str, RecordedFrames]]:
        lines = sorted(self._lines(), key=lambda line: line.time_us)
        ahead_us = max(
            (int(match[1]) * 1000 - line.time_us for line in lines if (match := _EVENT_TIME.search(line.text, 0, 200))),
            default=0,
        )
        streams: dict[str, RecordedFrames] = defaultdict(lambda: RecordedFrames([], []))
        books: dict[str, RecordedFrames] = defaultdict(lambda: RecordedFrames([], []))
        last_us = 0
        for recorded_us, text, symbol in lines:
            time_us = recorded_us + max(ahead_us, 0)
            if symbol:
                found, payload = books[symbol], text
            else:
                name, payload = _unwrapped(text)
                found = streams[name]
                # No two at one instant: so they keep their order, whatever a connection has subscribed to first.
                time_us = last_us = max(time_us, last_us + 1)
            found.times_us.append(time_us)
            found.payloads.append(payload)
        return dict(streams), dict(books)

    @property
    def streams(self) -> dict[str, RecordedFrames]:
        """Frames by the name of the stream that they were recorded under."""
        return self._read[0]

    @property
    def last_us(self) -> int:
        """When the last frame is sent."""
        return max(frames.times_us[-1] for frames in self.streams.values())

    @property
    def books(self) -> dict[str, RecordedFrames]:
        """REST books by symbol."""
        return self._read[1]

    def _lines(self) -> Iterator[_Line]:
        for path in self._paths:
            with (
                gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file
            ):
                read = _hft_lines if _HFT_NAME.fullmatch(path.name) else _cryptofeed_lines
                yield from read(path, file)


class StreamRecordings:
    """All recorded streams below a folder; indexed at once, read when first needed."""

    def __init__(self, folder: Path) -> None:
        tapes: dict[tuple[str, str], tuple[set[str], list[Path]]] = defaultdict(lambda: (set(), []))
        for top in (folder, folder / "streams"):
            for path in sorted((top / "hft").glob("*.gz")):
                if match := _HFT_NAME.fullmatch(path.name):
                    symbols, paths = tapes[f"{top}/hft", _MARKET_OF_NAME[match[1]]]
                    symbols.add(match[2].upper())
                    paths.append(path)
            for path in sorted((top / "cryptofeed").glob("*.ws.*")):
                market, names = _subscribed(path)
                symbols, paths = tapes[f"{top}/cryptofeed", market]
                symbols.update(name.partition("@")[0].upper() for name in names)
                paths.append(path)
                stem = path.name.partition(".ws.")[0]
                paths += sorted(path.parent.glob(f"{stem}.http.*"))
        self._tapes = [_Tape(market, symbols, paths) for (_, market), (symbols, paths) in tapes.items()]

    def first_times(self) -> dict[tuple[str, str], int]:
        """When the recordings of each market and symbol begin, in milliseconds."""
        found: dict[tuple[str, str], int] = {}
        for tape in self._tapes:
            for symbol in sorted(tape.symbols):
                key = tape.market, symbol
                found[key] = min(found.get(key, tape.first_ms), tape.first_ms)
        return found

    def names(self, market: str) -> list[str]:
        """The recorded streams of a market."""
        return sorted({name for tape in self._tapes if tape.market == market for name in tape.streams})

    def frames(self, market: str, name: str) -> RecordedFrames | None:
        """The frames of a stream, None for one that was not recorded."""
        symbol = name.partition("@")[0].upper()
        found = [
            tape.streams[name]
            for tape in self._tapes
            if tape.market == market and symbol in tape.symbols and name in tape.streams
        ]
        if not found:
            return None
        found.sort(key=lambda frames: frames.times_us[0])
        return RecordedFrames(
            [each for frames in found for each in frames.times_us],
            [each for frames in found for each in frames.payloads],
        )

    def book(self, market: str, symbol: str, now_us: int) -> dict[str, Any] | None:
        """The last REST book recorded by now, else the first one; None where there is none, and after the recording."""
        for tape in self._tapes:
            books = tape.books.get(symbol) if tape.market == market and symbol in tape.symbols else None
            if books is not None and now_us <= tape.last_us:
                place = max(bisect_right(books.times_us, now_us) - 1, 0)
                answer: dict[str, Any] = json.loads(books.payloads[place])
                return answer
        return None


def _opened(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _unwrapped(text: str) -> tuple[str, str]:
    """Name and payload of a frame, so that wrapping the payload again gives its bytes."""
    name, _, rest = text.removeprefix(HEAD).partition('","data":')
    if not text.startswith(HEAD) or not rest.endswith("}"):
        raise ValueError(f"no frame of a combined stream: {text[:100]!r}")
    return name, rest[:-1]


def _hft_lines(path: Path, lines: Iterable[str]) -> Iterator[_Line]:
    match = _HFT_NAME.fullmatch(path.name)
    assert match is not None
    for line in lines:
        time_ns, _, text = line.rstrip("\n").partition(" ")
        yield _Line(int(time_ns) // 1000, text, match[2].upper() if text.startswith(BOOK) else "")


def _cryptofeed_lines(path: Path, lines: Iterable[str]) -> Iterator[_Line]:
    for line in lines:
        text = line.rstrip("\n")
        if match := _ADDRESS.fullmatch(text):
            symbol = parse_qs(urlsplit(match["url"]).query).get("symbol", [""])[0]
            if match["body"] and symbol:
                yield _Line(_microseconds(match["seconds"]), match["body"], symbol)
        elif text:
            seconds, _, frame = text.partition(": ")
            yield _Line(_microseconds(seconds), frame)


def _subscribed(path: Path) -> tuple[str, list[str]]:
    """Market and streams by the first line."""
    with _opened(path) as file:
        match = _ADDRESS.match(file.readline().rstrip("\n"))
    if match is None:
        raise ValueError(f"{path}: no recording of streams: its first line is no address")
    address = urlsplit(match["url"])
    market = _MARKET_OF_HOST.get((address.hostname or "").partition(".")[0])
    if market is None:
        raise ValueError(f"{path}: {address.hostname} is no stream host of Binance")
    return market, parse_qs(address.query).get("streams", [""])[0].split("/")


def _microseconds(seconds: str) -> int:
    whole, _, part = seconds.partition(".")
    return int(whole) * 1_000_000 + int(f"{part:0<6.6}")
