"""How a running sidecar stands: what it has counted, whether it lives, and what keeps it from being ready."""

from __future__ import annotations

import time
from collections import Counter

from airflow_provider_binance.market import SECOND_US
from airflow_provider_binance.records import WriteResult
from airflow_provider_binance.rest.meter import Meter
from airflow_provider_binance.stream.buffer import Buffer
from airflow_provider_binance.stream.fleet import Fleet
from airflow_provider_binance.stream.flushing import Flusher
from airflow_provider_binance.stream.holding import Holding
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.listening import Listener
from airflow_provider_binance.stream.mending import Mender
from airflow_provider_binance.stream.metrics import Numbers
from airflow_provider_binance.stream.reloading import Reloading
from airflow_provider_binance.stream.spooling import SpooledBuffer
from airflow_provider_binance.stream.taking import Taking

#: A loop that did not come round for so long does not come back by itself.
MOST_BEAT_SECONDS = 60.0


class Standing:
    """Read by the thread that answers the health port, while the parts run in theirs; what may be None is there once
    it streams."""

    def __init__(self, buffer: Buffer, mender: Mender, taking: Taking) -> None:
        self.flusher: Flusher | None = None
        self.fleet: Fleet | None = None
        self.reloading: Reloading | None = None
        self.listener: Listener | None = None
        self.holding: Holding | None = None
        #: What this sidecar itself asks of REST.
        self.meter = Meter()
        #: When the event loop last came round, by the monotonic clock.
        self.beat = time.monotonic()
        self._buffer = buffer
        self._mender = mender
        self._taking = taking

    @property
    def keepers(self) -> list[Keeper]:
        """Those that run."""
        return [] if self.fleet is None else self.fleet.keepers

    @property
    def all_keepers(self) -> list[Keeper]:
        """Those that ran before, too."""
        return [] if self.fleet is None else [*self.fleet.keepers, *self.fleet.gone]

    def why_dead(self) -> list[str]:
        """Why it is to be killed, if it is."""
        silent = time.monotonic() - self.beat
        return [f"the event loop stands still for {silent:.0f} s"] if silent > MOST_BEAT_SECONDS else []

    def why_not_ready(self) -> list[str]:
        """Why it does not do its work now, if so."""
        why = [f"does not deliver: {keeper}" for keeper in self.keepers if not keeper.is_live]
        if self.flusher is None:
            why.append("it is still beginning")
        elif self.flusher.hindrance:
            why.append(f"the store is away: {self.flusher.hindrance}")
        return why

    def notes(self) -> list[str]:
        """What is wrong with some part of it, or worth knowing."""
        notes = [] if self.listener is None else self.listener.notes
        if self.reloading is not None and self.reloading.problem:
            notes.append(f"the selection is not followed: {self.reloading.problem}")
        if self.holding is not None and not self.holding.held:
            notes.append("standing by: others stream all that is selected")
        return notes

    def numbers(self) -> Numbers:
        """What was counted until now."""
        events: Counter[str] = Counter()
        odd: Counter[tuple[str, str]] = Counter()
        live: Counter[str] = Counter()
        connects: Counter[str] = Counter()
        newest: dict[str, float] = {}
        for keeper in self.all_keepers:
            market = keeper.market.value
            events[market] += keeper.frames.counts["events"]
            for kind in ("unknown", "malformed"):
                odd[market, kind] += keeper.frames.counts[kind]
            live[market] += keeper.is_live
            connects[market] += keeper.connects
            newest_us = keeper.frames.newest_us
            if newest_us:
                newest[market] = max(newest.get(market, 0.0), newest_us / SECOND_US)
        flusher = self.flusher
        spool = self._buffer.spool if isinstance(self._buffer, SpooledBuffer) else None
        return Numbers(
            events=events, odd_frames=odd, last_event=newest, connections=live, connects=connects,
            stale=self._taking.stale, gaps=self._taking.gaps, mended_rows=self._mender.rows,
            rows=flusher.counts if flusher else WriteResult(), queue=len(self._buffer),
            last_commit=flusher.committed_at if flusher else None,
            reloads=dict(self.reloading.counts) if self.reloading else {},
            silent=self.listener.counts if self.listener else {},
            leases=len(self.holding.held) if self.holding else 0,
            gaps_repaired=self._mender.repaired,
            gaps_unavailable=self._taking.unavailable + self._mender.unavailable,
            spool=len(spool) if spool is not None else 0, spool_bytes=spool.used_bytes if spool is not None else 0,
            spool_damaged=spool.damaged if spool is not None else 0,
            weight=self._mender.weight + self.meter.weight,
        )  # fmt: skip
