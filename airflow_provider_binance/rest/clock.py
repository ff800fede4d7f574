"""The server's clock as seen from here: what `GET time` says, and what the `Date` header of every answer lets guess.

`time` is exact to about half a round trip and is asked for at most now and then. `Date` costs no request: it says only
the second, but each answer narrows the range in which the offset must lie. That is enough for the budget's windows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

# A local clock may drift by some 100 ms in this time; the exact offset is measured anew then.
REFRESH_SECONDS = 600.0
# Assumed until the first answer: a host with NTP is closer, one without shows it in the first Date header.
UNKNOWN_GUARD_MS = 1_000
LEAST_GUARD_MS = 50
# A Date that contradicts the earlier ones by more than this means that a clock was set.
JUMP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Offset:
    """Server minus local clock lies in `[low, high]` seconds."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The best guess."""
        return (self.low + self.high) / 2

    @property
    def guard_ms(self) -> int:
        """How far the guess may be off."""
        return max(LEAST_GUARD_MS, round((self.high - self.low) * 500))

    def narrowed(self, other: Offset) -> Offset | None:
        """What both allow; None if they contradict each other by more than a little drift."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low <= high:
            return Offset(low, high)
        return Offset(high, low) if low - high <= JUMP_SECONDS else None


class ServerClock:
    """The clock of one host. `now` is the local one, in seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._dates: Offset | None = None
        self._exact: Offset | None = None
        self._exact_until = 0.0

    def local(self) -> float:
        """The local clock's time."""
        return self._now()

    @property
    def is_exact(self) -> bool:
        """Whether `time` was asked lately and no clock was set since."""
        # The upper bound notices a local clock that was set back.
        return self._exact is not None and 0 <= self._exact_until - self._now() <= REFRESH_SECONDS + JUMP_SECONDS

    def measure(self, server_ms: float, sent: float, received: float) -> None:
        """`GET time`, sent and received at these local times, said `server_ms`."""
        # The server read its clock between the two, and its answer is cut to the millisecond.
        offset = Offset(server_ms / 1000 - received, server_ms / 1000 + 0.001 - sent)
        with self._lock:
            self._exact, self._exact_until = offset, received + REFRESH_SECONDS

    def observe(self, headers: Mapping[str, str], sent: float, received: float) -> None:
        """Learn from the `Date` header of an answer; one that is missing or odd teaches nothing."""
        try:
            second = parsedate_to_datetime(headers["Date"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return
        seen = Offset(second - received, second + 1 - sent)
        with self._lock:
            narrowed = self._dates.narrowed(seen) if self._dates is not None else seen
            if narrowed is None:
                self._exact_until = float("-inf")  # a clock was set: what `time` said is not true any more
            self._dates = narrowed or seen

    def forget(self) -> None:
        """Distrust what `time` said (the server finds our timestamps wrong)."""
        self._exact_until = float("-inf")

    @property
    def offset(self) -> float:
        """Server minus local clock, seconds, by the best knowledge there is; 0 before the first answer."""
        known = self._known()
        return known.middle if known else 0.0

    @property
    def guard_ms(self) -> int:
        """How far `now_ms` may be off."""
        known = self._known()
        return known.guard_ms if known else UNKNOWN_GUARD_MS

    def now_ms(self) -> int:
        """The server's time, milliseconds since the epoch."""
        return int((self._now() + self.offset) * 1000)

    def now_us(self) -> int:
        """The server's time, microseconds since the epoch."""
        return int((self._now() + self.offset) * 1_000_000)

    def _known(self) -> Offset | None:
        with self._lock:
            return self._exact if self._exact is not None and self._exact_until > float("-inf") else self._dates
