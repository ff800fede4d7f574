"""A tiny HTTP server whose answers are scripted, for what a well-behaved server never says."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Seen:
    """A request as received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw_query: str = ""
    body: str = ""


@dataclass
class Says:
    """An answer; `raw` is sent instead of everything else, `reset` closes with RST."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    reset: bool = False
    before: Callable[[], None] | None = None


class Scripted:
    """Answers with `script` in order, then with `always`."""

    def __init__(self, script: list[Says], always: Says | None = None):
        self.script = list(script)
        self.always = always or Says(body=[])
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.url = ""

    def next(self, seen: Seen) -> Says:
        with self.lock:
            self.seen.append(seen)
            return self.script.pop(0) if self.script else self.always


@contextmanager
def scripted(*script: Says, always: Says | None = None) -> Iterator[Scripted]:
    world = Scripted(list(script), always)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length).decode()
            says = world.next(
                Seen(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers), parts.query, sent)
            )
            if says.before:
                says.before()
            if says.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            if says.raw is not None:
                self.wfile.write(says.raw)
                self.close_connection = True
                return
            body = says.body if isinstance(says.body, bytes) else json.dumps(says.body).encode()
            self.send_response_only(says.status)
            headers = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body)), **says.headers}
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.handle_any()

        def do_POST(self) -> None:
            self.handle_any()

        def do_DELETE(self) -> None:
            self.handle_any()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    world.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
