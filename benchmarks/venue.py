"""A venue on loopback, in a process of its own: the archive's files and listing, and what little a load asks of REST.

It counts the requests and bytes that it serves. `python -m benchmarks.venue FOLDER` prints its URL and serves until it
is told to end.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

#: Symbols that are only listed, for the planner; each has monthly and daily files of these years.
LISTED = [f"BENCH{number:03d}USDT" for number in range(500)]
LISTED_FROM, LISTED_UNTIL = date(2021, 1, 1), date(2026, 1, 1)
_NOW = datetime(2026, 2, 1, tzinfo=UTC)
_FIRST_KLINE_MS = 1_502_942_400_000
_PAGE = 1000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    now = _NOW
    counts: ClassVar = {"requests": 0, "bytes": 0}
    lock = threading.Lock()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/_counts":
            self._send(json.dumps(self.counts).encode(), counted=False)
        elif url.path.startswith("/api/"):
            self._send(json.dumps(_rest(url.path)).encode())
        elif url.path.startswith("/data/"):
            self._send_file(self.folder / url.path.removeprefix("/"))
        else:
            self._send(_listing(self.folder, query.get("prefix", ""), query.get("marker", "")).encode())

    def _send(self, body: bytes, *, counted: bool = True) -> None:
        self._head(200, len(body), counted)
        self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            self._head(404, 0, True)
            return
        with path.open("rb") as file:
            self._head(200, path.stat().st_size, True)
            shutil.copyfileobj(file, self.wfile, 1 << 18)

    def _head(self, status: int, size: int, counted: bool) -> None:
        if counted:
            with self.lock:
                self.counts["requests"] += 1
                self.counts["bytes"] += size
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _rest(path: str) -> object:
    if path.endswith("/time"):
        return {"serverTime": int(_Handler.now.timestamp() * 1000)}
    if path.endswith("/klines"):
        return [[_FIRST_KLINE_MS, "1", "1", "1", "1", "1", _FIRST_KLINE_MS + 59_999, "1", 1, "1", "1", "0"]]
    if path.endswith("/exchangeInfo"):
        names = ["BTCUSDT", *LISTED]
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return {"rateLimits": [limit], "symbols": [{"symbol": name, "status": "TRADING"} for name in names]}
    return {}


def _listing(folder: Path, prefix: str, marker: str) -> str:
    names = [name for name in _names(folder, prefix) if name > marker]
    entries = "".join(
        f'<Contents><Key>{name}</Key><LastModified>2026-01-05T00:00:00.000Z</LastModified><ETag>"{0:032x}"</ETag>'
        f"<Size>2200000</Size></Contents>"
        for name in names[:_PAGE]
    )
    cut = str(len(names) > _PAGE).lower()
    return (
        f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{cut}</IsTruncated>{entries}</ListBucketResult>"
    )


def _names(folder: Path, prefix: str) -> list[str]:
    found = re.fullmatch(r"data/spot/(monthly|daily)/klines/(BENCH\d+USDT)/(\w+)/", prefix)
    if found is None:
        here = folder / prefix
        return sorted(prefix + path.name for path in here.iterdir() if path.is_file()) if here.is_dir() else []
    length = 10 if found[1] == "daily" else 7
    days = (LISTED_FROM + timedelta(days=n) for n in range((LISTED_UNTIL - LISTED_FROM).days))
    stamps = dict.fromkeys(day.isoformat()[:length] for day in days)
    return [f"{prefix}{found[2]}-{found[3]}-{stamp}.zip" for stamp in stamps]


class Venue:
    """A venue that runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead a load here, by field name."""
        rest = {f"{market}_rest_url": self.url for market in ("spot", "um", "cm")}
        return {**rest, "archive_url": self.url, "archive_listing_url": self.url}

    def counts(self) -> tuple[int, int]:
        """Requests and bytes served so far."""
        with urllib.request.urlopen(f"{self.url}/_counts") as answer:
            counts = json.load(answer)
        return counts["requests"], counts["bytes"]


@contextlib.contextmanager
def venue(folder: Path, now: datetime = _NOW) -> Iterator[Venue]:
    """A venue that serves the files below `folder`, and whose clock stands."""
    command = [sys.executable, "-m", "benchmarks.venue", str(folder), now.isoformat()]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield Venue(process.stdout.readline().strip())
        finally:
            process.terminate()


def _serve(folder: str, now: str) -> None:
    _Handler.folder, _Handler.now = Path(folder), datetime.fromisoformat(now)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
