"""Symbols: their spelling, which ones exist, and how long each was listed.

Facts come from exchangeInfo (`onboardDate`, `deliveryDate`, status), the archive's listing, and a probe for the first
kline (spot and um: `startTime=0&limit=1`). Each is asked only when a window needs it.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_binance.errors import (
    ArchiveError,
    InputError,
    RequestRejectedError,
    RestrictedLocationError,
    UnknownSymbolError,
    UnreachableError,
)
from airflow_provider_binance.market import DAY_US, INTERVALS, MINUTE_US, Market, grid_of, iso
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rest.fetching import NOT_SERVED
from airflow_provider_binance.texts import PERPETUALS

log = logging.getLogger(__name__)

_NAME = re.compile(r"\w{1,40}")
_PATTERN = re.compile(r"[\w*?]{1,40}")
#: A symbol's end is believed when its last kline or file is this old: a halt, or a symbol that some node leaves
#: out of exchangeInfo for a while, must not be written down as the end of its life.
_ENDED_FOR_US = 7 * DAY_US
_ENDED_STATUS = frozenset({"BREAK", "END_OF_DAY", "SETTLING", "CLOSE", "DELIVERED", "PENDING_TRADING"})


def is_name(text: str) -> bool:
    """Whether the text, spelled as Binance does, names one symbol and is no pattern."""
    return _NAME.fullmatch(text) is not None


class Rest(Protocol):
    """What this module asks of REST."""

    def exchange_info(self, market: Market) -> Mapping[str, Any]: ...

    def first_kline_us(self, market: Market, symbol: str, interval: str) -> int | None: ...

    def request(self, method: str, path: str, params: Mapping[str, Any] | None = None, *, market: Market) -> Any: ...


class Listing(Protocol):
    """What this module asks of the archive."""

    def first_month(self, series: Series) -> tuple[int, int] | None: ...

    def first_file(self, series: Series) -> tuple[int, int] | None: ...

    def last_file(self, series: Series) -> tuple[int, int] | None: ...

    def knows(self, market: Market, dataset_name: str, symbol: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a symbol's life and who says so; `slack_us`: how much later it may begin (or how much earlier end)."""

    at_us: int
    evidence: str
    slack_us: int = 0


def spelled(text: str) -> str:
    """Binance's spelling of a symbol or pattern: `btc/usdt` → `BTCUSDT`. Raises InputError for what cannot be one.

    `PERPETUALS` stays what it is.
    """
    if " ".join(str(text).lower().split()) == PERPETUALS:
        return PERPETUALS
    name = str(text).strip().replace("/", "").replace("-", "").upper()
    if not _PATTERN.fullmatch(name):
        raise InputError(
            f"{text!r} is no symbol: use letters, digits and _ as Binance does (BTCUSDT, BTCUSD_PERP, BTCUSDT_261225), "
            f"or a pattern with * and ?, or {PERPETUALS!r}"
        )
    return name


class Symbols:
    """The symbols of all markets, by whoever knows them. `archive` None: there is none, or it must not be asked.

    `archive_only`: it is all that is to be asked, so that a REST host out of reach is done without.
    """

    def __init__(self, rest: Rest, archive: Listing | None, *, archive_only: bool = False) -> None:
        self._rest = rest
        self._archive = archive
        self._archive_only = archive_only
        self._infos: dict[Market, dict[str, Mapping[str, Any]]] = {}
        self._info_lock = threading.Lock()
        self._first: dict[tuple[Market, str], int | None] = {}

    def resolve(self, names: Iterable[str], market: Market, dataset_name: str, known: Iterable[str] = ()) -> list[str]:
        """Symbols for `names` (patterns and `PERPETUALS` match what trades now), in order, each once; `known` ones are
        not asked for.

        Raises:
            UnknownSymbolError: listed nowhere, or nothing matches a pattern; with near matches.
        """
        known = set(known)
        found: dict[str, None] = {}
        for name in map(spelled, names):
            if not is_name(name):
                matched = [
                    symbol
                    for symbol, entry in self._info(market).items()
                    if _status(entry) == "TRADING"
                    and (_is_perpetual(entry) if name == PERPETUALS else fnmatch.fnmatchcase(symbol, name))
                ]
                if not matched:
                    raise UnknownSymbolError(f"no symbol that trades in market {market} matches {name!r}", symbol=name)
                found.update(dict.fromkeys(sorted(matched)))
            elif name in known or name in self._info(market) or self._archived(market, dataset_name, name):
                found[name] = None
            else:
                near = difflib.get_close_matches(name, self._info(market), n=4, cutoff=0.6)
                hint = f"; near matches: {', '.join(near)}" if near else ""
                raise UnknownSymbolError(
                    f"unknown symbol {name!r} in market {market}: {self._denied()}{hint}",
                    symbol=name,
                )
        return list(found)

    def rest_serves(self, market: Market, symbol: str, now_us: int) -> bool:
        """Whether REST answers for the symbol: futures REST forgets contracts that are settled, spot keeps its own."""
        entry = self._info(market).get(symbol)
        if entry is None:
            return False
        return market is Market.SPOT or (_status(entry) not in _ENDED_STATUS and not _is_delivered(entry, now_us))

    def listed_from(self, series: Series, start_us: int, now_us: int) -> Bound | None:
        """Where the series' life begins, or None if it is plain that it began before `start_us`."""
        market = Market(series.market)
        onboard_us = int(self._info(market).get(series.symbol, {}).get("onboardDate", 0)) * 1000 or None
        # A symbol trades from some time of its first day on; some have klines of before their onboardDate.
        if onboard_us is not None and onboard_us + DAY_US <= start_us:
            return None
        months = self._first_month(market, series, now_us)
        if months is not None and months[1] <= start_us:
            return None
        first_us = self._first_kline(market, series.symbol, now_us)
        if first_us is not None:
            at_us = grid_of(series.interval).floor(first_us)
            # The probe asks for minutes: the first second is one of that minute's.
            return Bound(at_us, f"first kline {iso(first_us)}", MINUTE_US if series.interval == "1s" else 0)
        files = self._archive.first_file(series) if self._archive else None
        if files is not None and files[1] <= start_us:
            return None
        if onboard_us is not None and (files is None or onboard_us <= files[0]):
            return Bound(grid_of(series.interval).floor(onboard_us), f"onboardDate {iso(onboard_us)}", DAY_US)
        if files is not None:
            return Bound(
                grid_of(series.interval).ceil(files[0]), f"first archive file {iso(files[0])}", files[1] - files[0]
            )
        return None

    def _first_month(self, market: Market, series: Series, now_us: int) -> tuple[int, int] | None:
        """The period of the first monthly file; unknown while the archive is away, if the probe will tell instead."""
        try:
            return self._archive.first_month(series) if self._archive else None
        except (ArchiveError, UnreachableError, RestrictedLocationError):
            if market is Market.CM or not self.rest_serves(market, series.symbol, now_us):
                raise
            return None

    def listed_until(self, series: Series, end_us: int, now_us: int) -> Bound | None:
        """Where (exclusive) the series' life ended, or None if it goes on at `end_us`."""
        market = Market(series.market)
        entry = self._info(market).get(series.symbol)
        bound: Bound | None = None
        if entry is None:
            file = self._archive.last_file(series) if self._archive else None
            evidence = f"not in exchangeInfo; last archive file ends {iso(file[1])}" if file else ""
            bound = Bound(file[1], evidence, file[1] - file[0]) if file else None
        elif market is Market.SPOT and _status(entry) in _ENDED_STATUS:
            bound = self._last_kline(market, series, _status(entry))
        elif market is not Market.SPOT and _is_delivered(entry, now_us):
            at_us = int(entry["deliveryDate"]) * 1000
            return _before(Bound(at_us, f"status {_status(entry)}, deliveryDate {iso(at_us)}", DAY_US), end_us)
        return _before(bound, end_us) if bound is not None and bound.at_us + _ENDED_FOR_US <= now_us else None

    def _denied(self) -> str:
        if self._archive is None:
            return "exchangeInfo does not have it, and the archive (where delisted symbols are) was not to be asked"
        return "neither exchangeInfo nor the archive has it"

    def _archived(self, market: Market, dataset_name: str, symbol: str) -> bool:
        return self._archive is not None and self._archive.knows(market, dataset_name, symbol)

    def _info(self, market: Market) -> dict[str, Mapping[str, Any]]:
        with self._info_lock:
            if market not in self._infos:
                try:
                    found = self._rest.exchange_info(market)["symbols"]
                except (RestrictedLocationError, UnreachableError) as error:
                    if not self._archive_only:
                        raise
                    log.warning("no exchangeInfo of %s (%s): the archive alone says what there is", market, error)
                    found = []
                self._infos[market] = {entry["symbol"]: entry for entry in found}
            return self._infos[market]

    def _first_kline(self, market: Market, symbol: str, now_us: int) -> int | None:
        """cm answers newest first, so that it has no probe."""
        if market is Market.CM or not self.rest_serves(market, symbol, now_us):
            return None
        if (market, symbol) not in self._first:
            try:
                self._first[market, symbol] = self._rest.first_kline_us(market, symbol, "1m")
            except RequestRejectedError as error:
                if error.code not in NOT_SERVED:
                    raise
                self._first[market, symbol] = None
        return self._first[market, symbol]

    def _last_kline(self, market: Market, series: Series, status: str) -> Bound | None:
        interval = series.interval or "1m"  # ticks end with the last minute's
        newest = {"symbol": series.symbol, "interval": interval, "limit": 1}
        rows = self._rest.request("GET", KLINES.rest_path(market), newest, market=market)
        if not rows:
            return None
        last_us = int(rows[0][0]) * 1000
        at_us = INTERVALS[interval].next_open(last_us)
        return Bound(at_us, f"status {status}; last kline {iso(last_us)}")


def _before(bound: Bound, end_us: int) -> Bound | None:
    return bound if bound.at_us <= end_us else None


def _status(entry: Mapping[str, Any]) -> str:
    return str(entry.get("status") or entry.get("contractStatus") or "")


def _is_perpetual(entry: Mapping[str, Any]) -> bool:
    """Those on stocks and metals are called TRADIFI_PERPETUAL."""
    return str(entry.get("contractType") or "").endswith("PERPETUAL")


def _is_delivered(entry: Mapping[str, Any], now_us: int) -> bool:
    return int(entry.get("deliveryDate") or 0) * 1000 <= now_us and bool(entry.get("deliveryDate"))
