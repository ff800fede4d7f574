"""An archive on loopback that serves what a test puts into it, byte by byte, and remembers who asked for what."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_binance.config import BinanceConfig


class LocalArchive:
    """Files by path (`/data/…`), answers by path for what is no file, and the log of requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.cut_after: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int]] = {}
        self.log: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def put(self, path: str, csv: str | bytes, *, member: str = "", checksum: str | None = None) -> None:
        """A zip with one CSV and its CHECKSUM."""
        body = io.BytesIO()
        name = path.rpartition("/")[2]
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member or name.removesuffix(".zip") + ".csv", csv)
        self.put_raw(path, body.getvalue(), checksum=checksum)

    def put_raw(self, path: str, body: bytes, *, checksum: str | None = None) -> None:
        """Any bytes under a zip's name, and their CHECKSUM."""
        self.files["/" + path] = body
        text = checksum if checksum is not None else f"{hashlib.sha256(body).hexdigest()}  {path.rpartition('/')[2]}\n"
        self.files["/" + path + ".CHECKSUM"] = text.encode()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serve one request, with whatever was arranged for its path."""
        path = handler.path.partition("?")[0]
        self.log.append((handler.path, dict(handler.headers.items())))
        status = self.statuses[path].pop(0) if self.statuses.get(path) else 200
        body = self.files.get(path)
        if status != 200 or body is None:
            handler.send_error(status if status != 200 else 404)
            return
        start = 0
        if (wanted := handler.headers.get("Range")) is not None:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.send_header("ETag", '"' + hashlib.sha256(body).hexdigest()[:32] + '"')
        for name, value in self.headers.get(path, {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        part = body[start:]
        if self.cut_after.get(path):
            part = part[: self.cut_after[path].pop(0)]
            handler.close_connection = True
        handler.wfile.write(part)


@pytest.fixture
def archive() -> Iterator[LocalArchive]:
    """A running local archive."""
    local = LocalArchive()
    thread = threading.Thread(target=local.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield local
    local.server.shutdown()
    local.server.server_close()
    thread.join()


@pytest.fixture
def config(archive: LocalArchive) -> BinanceConfig:
    """Settings that point at the local archive."""
    rest = dict.fromkeys(("spot_rest_url", "um_rest_url", "cm_rest_url"), archive.url)
    return BinanceConfig(archive_url=archive.url, archive_listing_url=archive.url + "/listing", **rest)
