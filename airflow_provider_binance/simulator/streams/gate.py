"""Who may connect, how fast a client may talk, and who is banned for talking too fast."""

from __future__ import annotations

from collections import defaultdict, deque

from airflow_provider_binance.simulator.intervals import MINUTE_MS

ATTEMPTS = 300
ATTEMPT_WINDOW_MS = 5 * MINUTE_MS
# Messages a second, pings and pongs among them. Futures document 10, and were seen to answer 15.
MESSAGES_PER_SECOND = {"spot": 5, "um": 15, "cm": 15}
SECOND_MS = 1000
# Disconnected so often within the window of attempts, an address of spot is banned.
STRIKES = 3


class Gate:
    """Attempts to connect, and disconnections for too many messages, per address and market.

    Times are those of a clock that never runs slower than the real one.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._attempts: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._strikes: dict[tuple[str, str], deque[float]] = defaultdict(deque)

    def admits(self, address: str, market: str, now_ms: float) -> bool:
        """Count an attempt to connect; false for the one too many. Refused ones count."""
        attempts = self._attempts[address, market]
        attempts.append(now_ms)
        _expire(attempts, now_ms - ATTEMPT_WINDOW_MS)
        return not self.enabled or len(attempts) <= ATTEMPTS

    def strike(self, address: str, market: str, now_ms: float) -> bool:
        """Note a disconnection for too many messages; true when it is one too many for this address."""
        strikes = self._strikes[address, market]
        strikes.append(now_ms)
        _expire(strikes, now_ms - ATTEMPT_WINDOW_MS)
        return self.enabled and market == "spot" and len(strikes) >= STRIKES

    def forgive(self) -> None:
        """Forget all attempts and strikes."""
        self._attempts.clear()
        self._strikes.clear()


class MessageCounter:
    """Messages of one connection in the last second."""

    def __init__(self, market: str) -> None:
        self._most = MESSAGES_PER_SECOND[market]
        self._recent: deque[float] = deque()

    def takes(self, now_ms: float) -> bool:
        """Count a message; false when it is one too many."""
        self._recent.append(now_ms)
        _expire(self._recent, now_ms - SECOND_MS)
        return len(self._recent) <= self._most


def _expire(times: deque[float], before_ms: float) -> None:
    while times and times[0] <= before_ms:
        times.popleft()
