"""`Silence`: asks REST about ids that a stream says nothing of.

A stream is acknowledged whether or not it will ever send, and one that comes back after a cut tells what it missed
only with its next record, which may be hours away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.market_data import MarketData
from airflow_provider_binance.stream.filling import Filler
from airflow_provider_binance.stream.ordering import KeyLine

log = logging.getLogger(__name__)

Rows = Sequence[tuple[int, MarketData]]

#: So long after a beginning or a cut a series may be quiet, and so long in between.
FIRST_SECONDS = 10.0
QUIET_SECONDS = 300.0
#: Who has nothing to tell is asked less and less often.
LONGEST_SECONDS = 900.0
_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Pulse:
    """When a line was heard last, or asked about, and how long it may be silent from then on."""

    at: float
    patience: float


class Silence:
    """Watches lines of ids.

    Args:
        is_connected: whether a line's stream could come.
        offer: takes rows that REST has; says how many of them had not come.
        since_us: ticks of before belong to nobody.
    """

    def __init__(
        self,
        filler: Filler,
        is_connected: Callable[[KeyLine], bool],
        offer: Callable[[KeyLine, Rows], int],
        since_us: int,
    ) -> None:
        self._filler = filler
        self._is_connected = is_connected
        self._offer = offer
        self._since_us = since_us
        self._pulses: dict[KeyLine, _Pulse] = {}

    def watch(self, lines: Iterable[KeyLine], at: float) -> None:
        """These have begun, or were cut."""
        for line in lines:
            self._pulses[line] = _Pulse(at, FIRST_SECONDS)

    def heard(self, line: KeyLine, at: float) -> None:
        """A record came."""
        pulse = self._pulses[line]
        pulse.at, pulse.patience = at, QUIET_SECONDS

    async def run(self) -> None:
        """Ask about those that are silent for too long, one after the other."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            at = loop.time()
            due = [line for line, pulse in self._pulses.items() if at - pulse.at >= pulse.patience]
            for line in filter(self._is_connected, due):
                pulse = self._pulses[line]
                before = pulse.at
                found = await self._ask(line)
                if self._pulses[line] is pulse and pulse.at == before:  # nothing was heard meanwhile
                    pulse.at = loop.time()
                    pulse.patience = FIRST_SECONDS if found else min(2 * pulse.patience, LONGEST_SECONDS)

    async def _ask(self, line: KeyLine) -> bool:
        """Whether REST has what the stream did not send."""
        try:
            rows = await self._filler.in_thread(self._filler.since, line.series, line.next_key, self._since_us)
        except IngestError as error:
            log.warning("cannot tell whether it is silent: %s: %s", line.series, error)
            return False
        found = self._offer(line, rows)
        if found:
            log.warning("silent stream: %s: REST has %d that it did not send", line.series, found)
        return found > 0
