"""What faults do to one connection: when it ends early, when it stalls, and which events go wrong."""

from __future__ import annotations

from airflow_provider_binance.simulator.fault_names import (
    CONNECTION_FAULTS,
    EVENT_FAULTS,
    NO_CLOSE,
    SERVER_SHUTDOWN,
    STREAM_BURST,
    STREAM_CUT,
    STREAM_DISORDER,
    STREAM_DUPLICATES,
    STREAM_GAP,
    STREAM_RESET,
    STREAM_SILENT,
    STREAM_STALL,
)
from airflow_provider_binance.simulator.faults import Fault, Faults
from airflow_provider_binance.simulator.streams.records import ConnectionRecord
from airflow_provider_binance.simulator.streams.reel import Reel

# Of so many events one is spoiled.
ONE_IN = 10
CLOSED = b'"x":true'


class Trouble:
    """The faults as they concern one connection; each strikes it once."""

    def __init__(self, faults: Faults, record: ConnectionRecord) -> None:
        self._faults = faults
        self._record = record
        self._struck: list[Fault] = []
        self.is_reset = False
        self.is_cut = False
        self._stalled_until_ms = 0
        self._held_until_ms = 0
        self._over_ms: int | None = None

    def look(self, now_ms: int) -> str | None:
        """Let faults strike that are due; the announcement of a shutdown if one is to be made."""
        notice = None
        for fault in self._faults.among(CONNECTION_FAULTS):
            if any(fault is each for each in self._struck) or not fault.matches(self._place()):
                continue
            length_ms = int((fault.value or 0) * 1000)
            if fault.name in (STREAM_CUT, STREAM_RESET) and now_ms - self._record.opened_ms < length_ms:
                continue
            fault.use()
            self._struck.append(fault)
            if fault.name == SERVER_SHUTDOWN:
                notice = f'{{"e":"serverShutdown","E":{now_ms}}}'
            self._begin(fault.name, now_ms + length_ms)
        return notice

    def _begin(self, name: str, until_ms: int) -> None:
        if name == STREAM_CUT:
            self.is_cut = True
        elif name == STREAM_RESET:
            self.is_reset = True
        elif name == STREAM_STALL:
            self._stalled_until_ms = until_ms
        elif name == STREAM_BURST:
            self._held_until_ms = until_ms
        elif name == SERVER_SHUTDOWN:
            self._over_ms = until_ms

    def stalls(self, now_ms: int) -> bool:
        """Whether nothing goes out, and what was to go out is lost."""
        return now_ms < self._stalled_until_ms

    def holds(self, now_ms: int) -> bool:
        """Whether events are held back."""
        return now_ms < self._held_until_ms

    def is_over(self, now_ms: int) -> bool:
        """Whether the announced shutdown has come."""
        return self._over_ms is not None and now_ms >= self._over_ms

    def spoiled(self, reel: Reel, first: int, stop: int) -> list[bytes]:
        """The frames at these places with what is wrong with them."""
        frames = reel.frames[first:stop]
        faults = self._faults.among(EVENT_FAULTS)
        if not faults:
            return frames
        events = list(zip(reel.streams[first:stop], frames, strict=True))
        for fault in faults:
            events = self._with(fault, events)
        return [frame for _, frame in events]

    def _with(self, fault: Fault, events: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        result: list[tuple[str, bytes]] = []
        late: tuple[str, bytes] | None = None
        for event in events:
            name, frame = event
            struck = fault.matches(f"{self._record.path}/{name}") and self._strikes(fault, frame)
            if late is not None:
                result += [event, late]
                late = None
            elif not struck:
                result.append(event)
            elif fault.name == STREAM_DUPLICATES:
                result += [event, event]
            elif fault.name == STREAM_DISORDER:
                late = event
        # The last of a batch has nobody to let pass.
        return result if late is None else [*result, late]

    @staticmethod
    def _strikes(fault: Fault, frame: bytes) -> bool:
        """Whether an event that the fault is about is spoiled; counted as used."""
        if fault.name == STREAM_SILENT:
            return True
        if fault.name == NO_CLOSE:
            if CLOSED in frame:
                fault.use()
                return True
            return False
        fault.seen += 1
        if fault.name == STREAM_GAP:
            if fault.seen >= (fault.value or 0):
                fault.seen = 0
                fault.use()
            return True
        if fault.seen % ONE_IN:
            return False
        fault.use()
        return True

    def _place(self) -> str:
        return "/".join((self._record.path, *self._record.streams))
