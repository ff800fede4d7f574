"""`Outbox`: what is ready for the user and not taken yet. Bounded, with three answers for "full". Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.stream.ordering import Line, Piece


class OnFull(StrEnum):
    """What to do when the consumer is slower than the market for so long that the buffer is full."""

    WAIT = "wait"  # stop reading; what the exchange does not keep meanwhile is fetched
    DROP_OLDEST = "drop_oldest"  # and tell so by a gap
    RAISE = "raise"

    @classmethod
    def parse(cls, text: str) -> OnFull:
        """The answer called `text`; raises InputError."""
        try:
            return cls(text)
        except ValueError:
            raise InputError(f"on_full {text!r} is none: use {', '.join(cls)}", argument="on_full") from None


class Outbox:
    """A queue that tells what was dropped from it, in its place."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._dropped: dict[Line, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, pieces: Sequence[Piece]) -> None:
        """Add at the end."""
        self._pieces.extend(pieces)

    def drop_oldest(self) -> None:
        """Take the oldest away; a gap says so before anything else goes out."""
        line, start, end, _ = self._pieces.popleft()
        before = self._dropped.get(line, (start, end))
        self._dropped[line] = min(start, before[0]), max(end, before[1])

    def pop(self) -> Piece | None:
        """The next piece; None if there is none."""
        if self._dropped:
            line = next(iter(self._dropped))
            return Piece(line, *self._dropped.pop(line), Cause.BUFFER_FULL)
        return self._pieces.popleft() if self._pieces else None
