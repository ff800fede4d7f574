"""What the simulator remembers of each websocket connection."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ConnectionRecord:
    """One connection; times are simulated milliseconds, ``closed_ms`` None while it is open.

    ``closed_by`` is ``client``, ``server`` or ``network``, the last with close code 1006; ``requests`` are the control
    messages as received, ``sent`` counts events.
    """

    number: int
    market: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    address: str
    opened_ms: int
    streams: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    pings: int = 0
    pongs: int = 0
    closed_ms: int | None = None
    closed_by: str = ""
    code: int | None = None
    reason: str = ""

    def close(self, now_ms: int, by: str, code: int, reason: str) -> None:
        """Say how it ended; who said so first is believed."""
        if self.closed_ms is None:
            self.closed_ms, self.closed_by, self.code, self.reason = now_ms, by, code, reason

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)
