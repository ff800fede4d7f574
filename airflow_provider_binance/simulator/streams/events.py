"""What every maker of events has in common."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import NamedTuple, Protocol


class Events(NamedTuple):
    """Events in their order: when each is sent, in microseconds, and its payload as JSON."""

    times_us: list[int]
    payloads: list[str]


class Source(Protocol):
    """Makes the events of one stream."""

    def between(self, start_us: int, stop_us: int) -> Events:
        """The events sent in ``[start_us, stop_us)``: the same, however time is cut into windows."""


NOTHING = Events([], [])


class Known:
    """A source of events that lie ready."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        first, stop = (bisect_left(self._events.times_us, edge) for edge in (start_us, stop_us))
        return Events(self._events.times_us[first:stop], self._events.payloads[first:stop])


def quoted(text: str) -> str:
    """A text as JSON, letters of all alphabets as they are."""
    return json.dumps(text, ensure_ascii=False)


def in_order(parts: list[Events]) -> Events:
    """The events of several sources by their time."""
    if len(parts) == 1:
        return parts[0]
    merged = sorted(
        (
            (time_us, number, payload)
            for number, part in enumerate(parts)
            for time_us, payload in zip(part.times_us, part.payloads, strict=True)
        ),
        # Stable: what one source says at one instant stays in its order.
        key=lambda event: event[:2],
    )
    return Events([event[0] for event in merged], [event[2] for event in merged])


SIDE_CODE = {"um": 1, "cm": 2}


def origin(market: str) -> str:
    """The field ``st`` of futures, which tells the market of a row."""
    return f',"st":{SIDE_CODE[market]}' if market in SIDE_CODE else ""
