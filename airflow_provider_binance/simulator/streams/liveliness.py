"""When a connection is pinged, when it is given up, and when it has lived for a day."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_binance.simulator.intervals import DAY_MS, MINUTE_MS

PING_EVERY_MS = {"spot": 20_000, "um": 3 * MINUTE_MS, "cm": 3 * MINUTE_MS}
PONG_WITHIN_MS = {"spot": MINUTE_MS, "um": 10 * MINUTE_MS, "cm": 10 * MINUTE_MS}
LIFETIME_MS = DAY_MS
# However fast the simulated time runs: a client needs some real time to answer.
LEAST_PING_SECONDS = 1.0
LEAST_PONG_SECONDS = 2.0


@dataclass
class _Ping:
    payload: bytes
    sent_ms: int
    sent_seconds: float


class Liveliness:
    """The pings of one connection: times are simulated milliseconds and real seconds, both passed in."""

    def __init__(self, market: str, now_ms: int, seconds: float) -> None:
        self._every_ms = PING_EVERY_MS[market]
        self._within_ms = PONG_WITHIN_MS[market]
        self._opened_ms = now_ms
        self._last = _Ping(b"", now_ms, seconds)
        self._unanswered: list[_Ping] = []

    def ping(self, now_ms: int, seconds: float) -> bytes | None:
        """The payload of a ping that is due, else None."""
        last = self._last
        if now_ms - last.sent_ms < self._every_ms or seconds - last.sent_seconds < LEAST_PING_SECONDS:
            return None
        self._last = _Ping(str(now_ms).encode(), now_ms, seconds)
        self._unanswered.append(self._last)
        return self._last.payload

    def pong(self, payload: bytes) -> bool:
        """Take a pong; it answers the ping of that payload and those before it. False for one nobody waits for."""
        for place, ping in enumerate(self._unanswered):
            if ping.payload == payload:
                del self._unanswered[: place + 1]
                return True
        return False

    def is_silent(self, now_ms: int, seconds: float) -> bool:
        """Whether a pong is overdue."""
        if not self._unanswered:
            return False
        oldest = self._unanswered[0]
        late = now_ms - oldest.sent_ms > self._within_ms
        return late and seconds - oldest.sent_seconds > LEAST_PONG_SECONDS

    def is_old(self, now_ms: int) -> bool:
        """Whether its day is over."""
        return now_ms - self._opened_ms >= LIFETIME_MS
