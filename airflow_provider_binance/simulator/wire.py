"""Requests and answers as values, so that the simulator decides without sockets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from airflow_provider_binance.simulator.errors import ApiError


@dataclass(frozen=True)
class Request:
    """One request as received: raw path and query string, headers in their order and case."""

    method: str
    raw_path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    remote: str = "127.0.0.1"

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path)

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


@dataclass
class Answer:
    """What goes back; ``weight`` and ``used_weight`` are for the request log."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    weight: int = 0
    used_weight: int | None = None


def json_answer(payload: Any, content_type: str, status: int = 200) -> Answer:
    """``payload`` as compact JSON with raw UTF-8, as Binance writes it."""
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": content_type})


def error_answer(error: ApiError, content_type: str) -> Answer:
    """Binance's error envelope."""
    answer = json_answer({"code": error.code, "msg": error.message}, content_type, error.status)
    answer.headers.update(error.headers)
    return answer


@dataclass(frozen=True)
class RequestRecord:
    """A line of the request log: what came in, what it cost and how it ended, at simulated time ``time_ms``."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    status: int
    weight: int
    used_weight: int | None
    time_ms: int

    def header(self, name: str) -> str | None:
        """The first value of a received header, whatever its case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types; headers as pairs, since a name may come twice."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": [list(pair) for pair in self.headers],
            "status": self.status,
            "weight": self.weight,
            "used_weight": self.used_weight,
            "time": self.time_ms,
        }
