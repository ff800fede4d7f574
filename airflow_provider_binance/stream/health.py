"""The sidecar's health port: `/healthz`, `/readyz` and `/metrics`, served by a thread of its own.

`/healthz` answers 503 when the process should be started anew, `/readyz` when it does not deliver now (no connection,
no store) and may by itself again. Both say why, as JSON, and what else is to be noted.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from airflow_provider_binance.errors import ConfigError

log = logging.getLogger(__name__)

#: What is wrong now, in words; nothing if all is well.
Problems = Callable[[], list[str]]


class HealthServer:
    """Serves until `close`, or the end of its `with` block.

    Args:
        port: 0 takes any that is free.
        registry: the metrics.
        alive, ready: see the module.
        notes: what is wrong with some part, without 503.
        host: the address to listen on; all of this machine's, since in a container the outside asks.

    Raises:
        ConfigError: the port is taken, or may not be used.
    """

    def __init__(
        self,
        port: int,
        registry: CollectorRegistry,
        *,
        alive: Problems,
        ready: Problems,
        notes: Problems = list,
        host: str = "",
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30  # for a client that does not say what it wants

            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/healthz":
                        self._say(alive())
                    case "/readyz":
                        self._say(ready())
                    case "/metrics":
                        self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
                    case _:
                        lines = b"/healthz /readyz /metrics\n"
                        self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", lines)

            def _say(self, problems: list[str]) -> None:
                told: dict[str, object] = {"ok": not problems, "problems": problems}
                if said := notes():
                    told["notes"] = said
                body = json.dumps(told).encode()
                status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
                self._send(status, "application/json", body)

            def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # its name there
                log.debug(format, *arguments)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"health port {port} cannot be used: {error}; name another one, or 0 for any", field="health_port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop, and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
