"""Binance's REST on loopback for the peers, in a process of its own: pages made beforehand, no limits.

`exchangeInfo` is the bundled simulator's, which public clients read unmodified; the klines are the bench's own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from airflow_provider_binance.market import INTERVALS
from airflow_provider_binance.simulator.server import Simulator
from benchmarks.workload import Workload, workload

_MOST = 1000
_INFO = ("/api/v3/exchangeInfo", "/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rows: ClassVar[list[bytes]] = []
    first_ms: ClassVar[int] = 0
    size_ms: ClassVar[int] = 60_000
    fixed: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/api/v3/klines":
            body = self._page({name: values[0] for name, values in parse_qs(url.query).items()})
        else:
            body = self.fixed.get(url.path, b"{}")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, query: dict[str, str]) -> bytes:
        limit = min(int(query.get("limit", 500)), _MOST)
        start = max(0, -(-(int(query.get("startTime", 0)) - self.first_ms) // self.size_ms))
        stop = len(self.rows)
        if "endTime" in query:
            stop = min(stop, (int(query["endTime"]) - self.first_ms) // self.size_ms + 1)
        if "startTime" not in query:
            start = max(0, stop - limit)
        return b"[%s]" % b",".join(self.rows[start : min(start + limit, stop)])

    def log_message(self, *_: object) -> None:
        pass


def _rows(work: Workload) -> Iterator[bytes]:
    for file in work.files:
        for line in work.csv(file).decode().splitlines():
            opened, *prices, closed, quote, count, bought, paid, ignored = line.split(",")
            row = [int(opened), *prices, int(closed), quote, int(count), bought, paid, ignored]
            yield json.dumps(row, separators=(",", ":")).encode()


@contextlib.contextmanager
def rest(folder: Path, months: int, interval: str) -> Iterator[str]:
    """The URL of a server of the first `months` months below `folder`."""
    command = [sys.executable, "-m", "benchmarks.peer_rest", str(folder), str(months), interval]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _serve(folder: str, months: str, interval: str) -> None:
    work = workload(Path(folder), int(months), interval)
    _Handler.size_ms = INTERVALS[interval].size_us // 1000
    _Handler.rows = list(_rows(work))
    _Handler.first_ms = work.window_us[0] // 1000
    with Simulator(seed=1, symbols=["BTCUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"], limits=False) as simulator:
        urls = {path: simulator.settings["BINANCE_SPOT_REST_URL"] + path for path in _INFO}
        _Handler.fixed = {path: urllib.request.urlopen(url).read() for path, url in urls.items()}
    now_ms = work.window_us[1] // 1000 + 86_400_000
    _Handler.fixed |= {path.replace("exchangeInfo", "time"): b'{"serverTime":%d}' % now_ms for path in _INFO}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
