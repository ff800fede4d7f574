"""What one connection will be sent in a stretch of time: the events of all its streams, in order, as frames."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_binance.simulator.streams.events import Events, Source, quoted
from airflow_provider_binance.simulator.streams.frames import text_frame


@dataclass(frozen=True)
class Reel:
    """Frames sent in ``[start_us, stop_us)``; ``streams`` says which one each is of."""

    start_us: int
    stop_us: int
    times_us: list[int]
    frames: list[bytes]
    streams: list[str]

    def place(self, moment_us: int) -> int:
        """How many frames are sent before a moment."""
        return bisect_left(self.times_us, moment_us)


class Rendered:
    """A source whose events of one stretch lie ready, as frames of a combined stream, too."""

    def __init__(self, name: str, source: Source, start_us: int, stop_us: int) -> None:
        self._source = source
        self._span = start_us, stop_us
        self._events = source.between(start_us, stop_us)
        self._frames = _combined(name, self._events.payloads)

    def __len__(self) -> int:
        return len(self._frames)

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        if not self._covers(start_us, stop_us):
            return self._source.between(start_us, stop_us)
        first, stop = (bisect_left(self._events.times_us, edge) for edge in (start_us, stop_us))
        return Events(self._events.times_us[first:stop], self._events.payloads[first:stop])

    def frames(self, start_us: int, stop_us: int) -> tuple[list[int], list[bytes]] | None:
        """Times and frames of a part of the stretch; None for any other."""
        if not self._covers(start_us, stop_us):
            return None
        first, stop = (bisect_left(self._events.times_us, edge) for edge in (start_us, stop_us))
        return self._events.times_us[first:stop], self._frames[first:stop]

    def _covers(self, start_us: int, stop_us: int) -> bool:
        return self._span[0] <= start_us and stop_us <= self._span[1]


def _combined(name: str, payloads: list[str]) -> list[bytes]:
    head = f'{{"stream":{quoted(name)},"data":'
    return [text_frame(f"{head}{payload}}}") for payload in payloads]


def _told(name: str, source: Source, start_us: int, stop_us: int, *, combined: bool) -> tuple[list[int], list[bytes]]:
    if combined and isinstance(source, Rendered):
        ready = source.frames(start_us, stop_us)
        if ready is not None:
            return ready
    events = source.between(start_us, stop_us)
    if combined:
        return events.times_us, _combined(name, events.payloads)
    return events.times_us, [text_frame(payload) for payload in events.payloads]


def make_reel(sources: Iterable[tuple[str, Source]], start_us: int, stop_us: int, *, combined: bool) -> Reel:
    """Events at one instant come in the order of the subscriptions."""
    times_us: list[int] = []
    frames: list[bytes] = []
    streams: list[str] = []
    for name, source in sources:
        moments_us, made = _told(name, source, start_us, stop_us, combined=combined)
        times_us += moments_us
        frames += made
        streams += [name] * len(made)
    order = sorted(range(len(times_us)), key=times_us.__getitem__)
    return Reel(
        start_us,
        stop_us,
        [times_us[place] for place in order],
        [frames[place] for place in order],
        [streams[place] for place in order],
    )
