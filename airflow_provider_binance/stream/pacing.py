"""When a connection is dead, replaced or tried again, and how fast one may talk: decisions over given times. Pure.

Times are seconds of a clock that never goes back, unless they are named otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from airflow_provider_binance.market import HOUR_US, MINUTE_US

#: A link that said nothing for so long is asked whether it lives, and has as long again to answer.
SILENCE_SECONDS = 4.0
#: After that, a new connection begins to take over, the exact moment differing from connection to connection.
OLDEST_US = 23 * HOUR_US
SPREAD_US = 30 * MINUTE_US
#: Both connections are read for so long before the old one goes.
OVERLAP_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
#: A connection that lived for so long was a good one: the next pause is the first again.
GOOD_LIFE_SECONDS = 60.0


class Beat(Enum):
    """What to do about a link now."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"


class Heartbeat:
    """Watches one link: any frame, a pong too, is a sign of life."""

    def __init__(self, at: float, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence = silence_seconds
        self._heard = at
        self._asked: float | None = None

    def heard(self, at: float) -> None:
        """Something came."""
        self._heard, self._asked = at, None

    def look(self, at: float) -> Beat:
        """What to do at `at`; a ping is sent once per silence."""
        if self._asked is not None:
            return Beat.DEAD if at - self._asked >= self._silence else Beat.NOTHING
        if at - self._heard < self._silence:
            return Beat.NOTHING
        self._asked = at
        return Beat.PING


def reconnect_pause(failures: int, random: Callable[[], float]) -> float:
    """Seconds before another attempt after `failures` in a row: doubling, half of it by chance, so that many clients do
    not come back at once."""
    longest: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return longest * (0.5 + 0.5 * random())


def life_us(random: Callable[[], float]) -> int:
    """How old a connection is to become before another takes over: Binance cuts it at 24 hours."""
    return OLDEST_US + int(SPREAD_US * random())


class Talk:
    """At most `per_second` control messages in any second."""

    def __init__(self, per_second: int) -> None:
        self._sent: deque[float] = deque(maxlen=per_second)

    def wait(self, at: float) -> float:
        """Seconds until another message may be sent; it is counted as sent then."""
        full = len(self._sent) == self._sent.maxlen
        wait = max(0.0, self._sent[0] + 1.0 - at) if full else 0.0
        self._sent.append(at + wait)
        return wait
