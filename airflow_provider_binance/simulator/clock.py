"""The simulator's clock, and the ISO times that its options take."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(moment: str | int | datetime) -> int:
    """Milliseconds since the epoch for an ISO text, a datetime or milliseconds; text without an offset is UTC.

    Raises:
        ValueError: the text is no ISO date, month or date-time, or the datetime is naive.
    """
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        text = f"{moment}-01" if len(moment) == len("2024-01") else moment
        parsed = datetime.fromisoformat(text)
        return to_ms(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime {moment!r}; give it a time zone")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(moment_ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since the epoch, exact to the millisecond."""
    return EPOCH + timedelta(milliseconds=moment_ms)


class SimulatedClock:
    """A clock that starts where it is told and runs ``speed`` times as fast as real time; 0 holds it still."""

    def __init__(
        self, now_ms: int | None = None, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        # How often it was set: who follows it looks whether it has jumped.
        self.sets = 0
        self.set(int(time.time() * 1000) if now_ms is None else now_ms, speed)

    def set(self, now_ms: int, speed: float | None = None) -> None:
        """Jump to ``now_ms``; the speed stays unless given.

        Raises:
            ValueError: the speed is negative.
        """
        if speed is not None:
            if speed < 0:
                raise ValueError(f"speed {speed} is negative; 0 holds the clock still")
            self._speed = speed
        self._base_ms = now_ms
        self._started = self._monotonic()
        self.sets += 1

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._speed

    def now_ms(self) -> int:
        """Simulated milliseconds since the epoch."""
        return self._base_ms + int((self._monotonic() - self._started) * 1000 * self._speed)
