"""The composition root: one place where settings become a store, a REST client and an archive for one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from airflow_provider_binance.archive.files import FetchedFile, fetch
from airflow_provider_binance.archive.finding import Find, ListedFiles
from airflow_provider_binance.archive.folder import Folder
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, file_at
from airflow_provider_binance.archive.listing import ArchiveListing
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ArchiveError, BinanceError, RestrictedLocationError, UnreachableError
from airflow_provider_binance.market import DAY_US, MINUTE_US, SECOND_US, Market, grid_of
from airflow_provider_binance.planner import SourceChoice, Sources
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.store.base import Store, open_store
from airflow_provider_binance.symbols import Symbols

log = logging.getLogger(__name__)
T = TypeVar("T")
#: What an archive lists that does not answer.
_NOTHING = Folder("", None, b"\n")

#: Bytes of a zipped tick, and how many ticks a day is taken to have where no file tells.
_TICK_BYTES = 16
_TICKS_A_DAY = 50_000.0
#: So many days are looked back for a file that tells.
_DAYS_BACK = 4

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
        self._is_archive_away = False
        self._archive_read: tuple[int, float] | None = None

    @classmethod
    def of_source(cls, config: BinanceConfig | None, store: StoreLike, priority: str, source: str) -> Self:
        """What a call works with whose caller may have forced one source."""
        archive, archive_only = source != SourceChoice.REST, source == SourceChoice.ARCHIVE
        return cls(config, store, priority=priority, archive=archive, archive_only=archive_only)

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
        # The budget that is `auto` lives with the store that is used, which need not be the settings' one.
        given = self._given
        url = given.server_url if isinstance(given, Store) else str(given or self.config.store_url)
        config = self.config.model_copy(update={"store_url": url})
        rest = BinanceRest(config, priority=self._priority)
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
                # Where the archive alone is to be asked, its clock is enough.
                if not self.archive_only or (archive_us := self._archive_now_us()) is None:
                    raise
                log.warning("REST is out of reach (%s); the archive's clock is used", type(error).__name__)
                self._now_us[market] = archive_us
        return self._now_us[market]

    def latest_us(self, market: Market) -> int:
        """The server's time at this very moment: asked for once, and counted on since."""
        return max(self.now_us(market), self._clock_us(market))

    def near_now_us(self, market: Market) -> int | None:
        """The server's time to about a second, at no weight: as known already, else by the archive; else None.

        The archive's clock is Binance's too, and comes with every answer. It decides nothing about rows of REST.
        """
        if market in self._now_us:
            return self._now_us[market]
        return self._archive_now_us() if self.archive_allowed else None

    def last_midnight_us(self, market: Market) -> int:
        """The last midnight UTC at the server, at no weight unless one is passing just now."""
        near_us = self.near_now_us(market)
        if near_us is None or not MINUTE_US <= near_us % DAY_US <= DAY_US - MINUTE_US:
            near_us = self.now_us(market)
        return near_us - near_us % DAY_US

    def _archive_now_us(self) -> int | None:
        """The archive's clock, read now; None where the archive is out of reach or does not tell."""
        try:
            self.listing.knows(Market.SPOT, "klines", "BTCUSDT")
        except BinanceError as error:
            log.warning("the archive does not tell the time: %s", error)
            return None
        if self.http.date_us is not None:
            self._archive_read = self.http.date_us, time.monotonic()
        return self.http.date_us

    def refuse_foreign(self) -> None:
        """Raise EnvironmentMismatchError if the store holds data of another environment; writes nothing."""
        if self.store.environment() not in (None, self.config.environment):
            self.store.ensure_environment(str(self.config.environment))

    def _clock_us(self, market: Market) -> int:
        """The time that is known by now, of REST or of the archive; nobody is asked."""
        if market not in self._now_us and self._archive_read is not None:
            at_us, read = self._archive_read
            return at_us + int((time.monotonic() - read) * SECOND_US)
        return self.rest.server_now_us(market, ask=False)

    def keep_time(self, market: Market) -> None:
        """Have the store write the server's times until this runtime is closed; in a transaction nobody is asked."""
        store, before = self.store, self.store.clock
        store.clock = lambda: self._clock_us(market)
        self._closing.callback(setattr, store, "clock", before)

    def closed_end(self, interval: str, now_us: int) -> int:
        """The open time before which every kline is closed at `now_us`."""
        return grid_of(interval).closed_end(now_us, int(self.config.kline_close_lag_seconds * SECOND_US))

    def fetch_file(self, file: ArchiveFile) -> FetchedFile:
        """The verified archive file."""
        return fetch(self.config, self.http, file)

    def sources(
        self,
        series: Series,
        choice: SourceChoice,
        now_us: int,
        *,
        few: bool = False,
        serves: bool | None = None,
        is_urgent: bool = True,
    ) -> Sources:
        """What may be asked for the series; `serves`: whether REST has it, where that is known without asking.

        An archive that is away is an error only where REST does not serve in its place and the matter `is_urgent`.
        """
        find = None
        if choice is SourceChoice.ARCHIVE:
            serves = False
        elif serves is None:
            serves = self.symbols.rest_serves(Market(series.market), series.symbol, now_us)
        if self.archive_allowed and choice is not SourceChoice.REST:
            can_wait = serves or not is_urgent
            find = ListedFiles(
                lambda file: self._unless_away(lambda: self.listing.folder(series, file), _NOTHING, can_wait=can_wait),
                lambda file: self._unless_away(lambda: self.listing.ask(file), None, can_wait=can_wait),
                now_us,
            )
        if not series.interval and serves:
            serves = self._may_page(series, Market(series.market))
        rows_per_day = 0.0 if series.interval else _rows_per_day(series, find, now_us)
        return Sources(find, serves, few, rows_per_day=rows_per_day, forced=choice is SourceChoice.REST)

    def _may_page(self, series: Series, market: Market) -> bool:
        """Whether this caller may ask for pages of the series: some routes want a key."""
        return not registered(series.dataset).by_id[market].needs_key or self.config.api_key is not None

    def _unless_away(self, ask: Callable[[], T], otherwise: T, *, can_wait: bool) -> T:
        """What the archive answers; where that can wait, `otherwise` once it was asked in vain."""
        if self._is_archive_away and can_wait:
            return otherwise
        try:
            return ask()
        except (ArchiveError, UnreachableError, RestrictedLocationError) as error:
            if not can_wait:
                raise
            log.warning("the archive does not tell what it has (%s)", error)
            # Its listing is another host than its files: these may be there, and are asked one by one.
            self._is_archive_away = otherwise is None
            return otherwise


def _rows_per_day(series: Series, find: Find | None, now_us: int) -> float:
    """About how many ticks the series has a day, by the size of its last listed file."""
    for back in range(1, _DAYS_BACK + 1) if find is not None else ():
        listed = find(file_at(series, Partition.DAILY, now_us - back * DAY_US)) if find else None
        if listed is not None and listed.size:
            return listed.size / _TICK_BYTES
    return _TICKS_A_DAY
