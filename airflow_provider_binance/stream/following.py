"""`Following`: what is streamed follows what is selected and held, while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import CoverageRange, Series
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.stream import leases
from airflow_provider_binance.stream.fleet import Fleet
from airflow_provider_binance.stream.holding import Holding
from airflow_provider_binance.stream.selection import Selection
from airflow_provider_binance.stream.subscriptions import carried_by, plan
from airflow_provider_binance.stream.taking import Taking

log = logging.getLogger(__name__)

#: A series, what the ledger knows of it, and its market's time.
Known = tuple[Series, list[CoverageRange], int]


class Following:
    """Streams what `holding` holds of what `reselect` selects; series that stay notice nothing."""

    def __init__(
        self, runtime: Runtime, taking: Taking, fleet: Fleet, holding: Holding, reselect: Callable[[], Selection]
    ) -> None:
        self._runtime = runtime
        self._taking = taking
        self._fleet = fleet
        self._holding = holding
        self._reselect = reselect
        self._changing = asyncio.Lock()

    async def reselect(self) -> None:
        """Follow what is selected now.

        Raises:
            InputError: it is wrong.
            BinanceError, StoreError: it is not known now.
        """
        selection = await asyncio.to_thread(self._reselect)
        self._holding.want(await asyncio.to_thread(selection.series, self._runtime))
        await asyncio.to_thread(self._holding.renew)
        await self.change()

    async def run(self) -> None:
        """Follow what is held, until this is cancelled."""
        is_told = False
        while True:
            await asyncio.sleep(leases.BEAT_SECONDS)
            try:
                await asyncio.to_thread(self._holding.renew)
                await self.change()
                is_told = False
            except IngestError as error:
                if not error.retryable:
                    raise
                log.log(logging.DEBUG if is_told else logging.WARNING, "no beat: %s", error)
                is_told = True

    async def change(self) -> None:
        """Add and drop what differs between what is held and what is streamed."""
        async with self._changing:
            held, before = set(self._holding.held), set(carried_by(self._fleet.planned))
            if held == before:
                return
            known = await asyncio.to_thread(known_of, self._runtime, sorted(held - before))
            for one in known:
                self._taking.begin(*one)
            await self._fleet.change(plan(held, self._fleet.planned))
            self._taking.drop(before - held)
            log.info("following: series=%d added=%d dropped=%d", len(held), len(held - before), len(before - held))


def known_of(runtime: Runtime, wanted: Iterable[Series]) -> list[Known]:
    """What the ledger knows of these series, and the time at their markets."""
    wanted = list(wanted)
    now = {str(market): runtime.latest_us(market) for market in {Market(series.market) for series in wanted}}
    known: dict[Series, list[CoverageRange]] = {}
    for dataset in {series.dataset for series in wanted}:
        some = [series for series in wanted if series.dataset == dataset]
        known |= runtime.store.coverage(dataset, some, 0, max(now.values(), default=0))
    return [(series, known.get(series, []), now[series.market]) for series in wanted]
