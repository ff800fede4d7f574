"""The composition root: one place where settings become a store, a REST client and an archive for one call."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from airflow_provider_binance.archive.files import FetchedFile, fetch
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.archive.listing import ArchiveListing
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import BinanceError, RestrictedLocationError, UnreachableError
from airflow_provider_binance.market import INTERVALS, SECOND_US, Market
from airflow_provider_binance.planner import ListedFiles, SourceChoice, Sources
from airflow_provider_binance.records import Series
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.store.base import Store, open_store
from airflow_provider_binance.symbols import Symbols

log = logging.getLogger(__name__)

#: How a caller may name a store.
StoreLike = Store | str | Path | None


class Runtime:
    """What one front-door call works with; everything is opened when it is first needed, and closed with it.

    `store` may be a URL, a path or an open Store (which stays open). `archive=False` leaves the archive unasked.
    """

    def __init__(
        self,
        config: BinanceConfig | None = None,
        store: StoreLike = None,
        *,
        priority: str = "backfill",
        archive: bool = True,
        archive_only: bool = False,
    ) -> None:
        self.config = config or BinanceConfig.load()
        self.archive_allowed = archive and self.config.has_archive
        self.archive_only = archive_only and self.archive_allowed
        self._given = store
        self._priority = priority
        self._closing = ExitStack()
        self._now_us: dict[Market, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @cached_property
    def store(self) -> Store:
        """The ingest database."""
        if isinstance(self._given, Store):
            return self._given
        store = open_store(self._given or self.config.store_url, schema=self.config.store_schema)
        self._closing.callback(store.close)
        return store

    @cached_property
    def rest(self) -> BinanceRest:
        """REST under the weight budget."""
        rest = BinanceRest(self.config, priority=self._priority)
        self._closing.callback(rest.close)
        return rest

    @cached_property
    def http(self) -> ArchiveHttp:
        """Connections to the archive."""
        http = ArchiveHttp(self.config)
        self._closing.callback(http.close)
        return http

    @cached_property
    def listing(self) -> ArchiveListing:
        """What the archive has."""
        return ArchiveListing(self.config, self.http, self.rest.budget_store)

    @cached_property
    def symbols(self) -> Symbols:
        """Which symbols there are, and since when."""
        return Symbols(self.rest, self.listing if self.archive_allowed else None, archive_only=self.archive_only)

    def now_us(self, market: Market, *, past_us: int | None = None) -> int:
        """The server's time, the same throughout this call.

        With `past_us`, an instant that passed just now, the klines that end there are given the moment to count as
        closed: a load that starts on the stroke of midnight has the day's last kline.
        """
        lag_us = int(self.config.kline_close_lag_seconds * SECOND_US)
        if past_us is not None and 0 <= (since_us := self.now_us(market) - past_us) < lag_us:
            time.sleep((lag_us - since_us + 10_000) / SECOND_US)
            del self._now_us[market]
        if market not in self._now_us:
            try:
                self._now_us[market] = self.rest.server_now_us(market)
            except (RestrictedLocationError, UnreachableError) as error:
                self._now_us[market] = self._archive_now_us(error)
        return self._now_us[market]

    def _archive_now_us(self, error: BinanceError) -> int:
        """The archive's clock, where it alone may be asked and REST is out of reach from here; else raises `error`."""
        if not self.archive_only:
            raise error
        self.listing.knows(Market.SPOT, "klines", "BTCUSDT")
        if self.http.date_us is None:
            raise error
        log.warning("REST is out of reach (%s); the archive's clock is used", type(error).__name__)
        return self.http.date_us

    def refuse_foreign(self) -> None:
        """Raise EnvironmentMismatchError if the store holds data of another environment; writes nothing."""
        if self.store.environment() not in (None, self.config.environment):
            self.store.ensure_environment(str(self.config.environment))

    def keep_time(self, market: Market) -> None:
        """Have the store write the server's times until this runtime is closed; in a transaction nobody is asked."""
        store, before = self.store, self.store.clock
        store.clock = lambda: self.rest.server_now_us(market, ask=False)
        self._closing.callback(setattr, store, "clock", before)

    def closed_end(self, market: Market, interval: str) -> int:
        """The open time before which every kline is closed."""
        return INTERVALS[interval].closed_end(self.now_us(market), int(self.config.kline_close_lag_seconds * SECOND_US))

    def fetch_file(self, file: ArchiveFile) -> FetchedFile:
        """The verified archive file."""
        return fetch(self.config, self.http, file)

    def sources(self, series: Series, choice: SourceChoice, now_us: int, *, few: bool = False) -> Sources:
        """What may be asked for the series."""
        find = None
        if self.archive_allowed and choice is not SourceChoice.REST:
            find = ListedFiles(lambda file: self.listing.folder(series, file), self.listing.ask, now_us)
        serves = choice is not SourceChoice.ARCHIVE and self.symbols.rest_serves(
            Market(series.market), series.symbol, now_us
        )
        return Sources(find, serves, few)
