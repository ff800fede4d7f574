"""What one connection will be sent in a stretch of time: the events of all its streams, in order, as frames."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_binance.simulator.streams.events import Source, quoted
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


def make_reel(sources: Iterable[tuple[str, Source]], start_us: int, stop_us: int, *, combined: bool) -> Reel:
    """Events at one instant come in the order of the subscriptions."""
    times_us: list[int] = []
    frames: list[bytes] = []
    streams: list[str] = []
    for name, source in sources:
        found = source.between(start_us, stop_us)
        if not found.times_us:
            continue
        times_us += found.times_us
        if combined:
            head = f'{{"stream":{quoted(name)},"data":'
            frames += [text_frame(f"{head}{payload}}}") for payload in found.payloads]
        else:
            frames += [text_frame(payload) for payload in found.payloads]
        streams += [name] * len(found.times_us)
    order = sorted(range(len(times_us)), key=times_us.__getitem__)
    return Reel(
        start_us,
        stop_us,
        [times_us[place] for place in order],
        [frames[place] for place in order],
        [streams[place] for place in order],
    )
