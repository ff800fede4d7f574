"""Paging ticks by id: one question by time finds the first, then each page goes on behind the last id of the former.

Never by time: hundreds of ticks share a millisecond, and a page may end in the midst of them. A page that comes back
short is no end of history by itself: the newest rows are asked for, and say whether it was one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from airflow_provider_binance.errors import MalformedResponseError, RequestRejectedError
from airflow_provider_binance.market import Market
from airflow_provider_binance.normalize_ticks import page_ticks
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import AGG_TRADES, Dataset, IdPaging
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.rest.meter import Meter
from airflow_provider_binance.tick_rows import TickRows

#: Invalid symbol; futures' symbol that is listed but not tradable; a time or id before what is served.
REFUSED = (-1121, -1122, -4166)
#: Pages of one transaction.
_PAGES_A_BATCH = 20
#: Aggregates asked for to find a trade's id; more than one, since a withdrawn aggregate tells none.
_LOOK = 100


class TickSource(Protocol):
    """What asks for a page of ticks, and counts what that costs in truth."""

    def measure(self) -> AbstractContextManager[Meter]: ...

    def tick_page(
        self, market: Market, path: str, symbol: str, parameters: Mapping[str, int], *, key: bool = False
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TickPages:
    """Some pages of a stretch: all its rows of `[start_us, end_us)`, and what they cost.

    `is_last`: the stretch ends here. `is_proven`: the server told what comes behind it, or that nothing does.
    `refusal`: REST does not serve the stretch.
    """

    rows: TickRows
    start_us: int
    end_us: int
    requests: int
    weight: int
    size: int
    is_last: bool = False
    is_proven: bool = True
    refusal: RequestRejectedError | None = None


@dataclass
class _Walk:
    """The state of one stretch's walk from id to id."""

    rest: TickSource
    series: Series
    stopped: Event
    start_us: int
    end_us: int
    entry: Dataset = field(init=False)
    market: Market = field(init=False)
    paging: IdPaging = field(init=False)
    size: int = 0
    last_id: int | None = None
    is_through: bool = False
    is_proven: bool = True
    empty: int = 0

    def __post_init__(self) -> None:
        self.entry, self.market = registered(self.series.dataset), Market(self.series.market)
        self.paging = self.entry.by_id[self.market]

    def is_over(self) -> bool:
        """Whether the stretch is through."""
        return self.is_through

    def step(self) -> TickRows | None:
        """The next page's rows of the stretch; None if there is no page. Notes whether the stretch is through."""
        limit = self.paging.limit
        page = self._first() if self.last_id is None else self._page(fromId=self.last_id + 1, limit=limit)
        rows = None
        if page is not None and len(page):
            if self.last_id is not None and int(page.ids[0]) <= self.last_id:
                raise MalformedResponseError(f"{self.series}: ids before the one that was asked for")
            self.last_id, self.empty = int(page.ids[-1]), 0
            rows = page.between(self.start_us, self.end_us)
            self.is_through = bool((page.times >= self.end_us).any())
        if not self.is_through and (page is None or len(page) < limit):
            # The end of history, if the newest row of all is known by now; one may have come meanwhile.
            newest = self._newest()
            is_known = newest is not None and (
                newest[1] < self.start_us if self.last_id is None else newest[0] <= self.last_id
            )
            self.empty += rows is None
            if is_known or self.empty > 1:
                self.is_through, self.is_proven = True, is_known
        return rows

    def _page(self, path: str | None = None, entry: Dataset | None = None, **parameters: int) -> TickRows:
        """The rows of one request."""
        if self.stopped.is_set():
            raise CancelledError
        entry, route = entry or self.entry, path or self.paging.path
        key = self.paging.needs_key and route == self.paging.path
        body = self.rest.tick_page(self.market, route, self.series.symbol, parameters, key=key)
        self.size += len(body)
        return page_ticks(body, entry.name, self.market)

    def _first(self) -> TickRows | None:
        """A page from the stretch's first row on, perhaps with some before; None if there is no such row."""
        start_ms = self.start_us // 1000
        if self.entry is AGG_TRADES:
            rows = self._page(startTime=start_ms, limit=self.paging.limit)
            return rows if len(rows) else None
        # The aggregate before may have had its last fills since; behind it none is missed.
        parameters = {"endTime": start_ms - 1}
        while True:
            around = self._page(AGG_TRADES.by_id[self.market].path, AGG_TRADES, **parameters, limit=_LOOK)
            firsts = [int(row["first_trade_id"]) for row in _dicts(around) if int(row["first_trade_id"]) >= 0]
            is_back = "endTime" in parameters
            if firsts:
                return self._page(fromId=firsts[-1 if is_back else 0], limit=self.paging.limit)
            if len(around) and is_back:  # all of them were withdrawn
                parameters = {"endTime": int(around.times[0]) // 1000 - 1}
            elif len(around):
                parameters = {"startTime": int(around.times[-1]) // 1000 + 1}
            elif is_back:
                parameters = {"startTime": start_ms}
            else:
                return None

    def _newest(self) -> tuple[int, int] | None:
        """Id and time of the newest row of all."""
        rows = self._page(self.paging.newest, limit=1)
        return (int(rows.ids[-1]), int(rows.times[-1])) if len(rows) else None


def read_by_id(rest: TickSource, series: Series, start_us: int, end_us: int, stopped: Event) -> Generator[TickPages]:
    """The rows of `[start_us, end_us)`, some pages at a time; each goes up to an instant that it has all rows before.

    Raises CancelledError between two pages once `stopped` is set, and what REST raises.
    """
    walk = _Walk(rest, series, stopped, start_us, end_us)
    nothing = page_ticks(b"[]", series.dataset, walk.market)
    at, held = start_us, nothing
    while not walk.is_over():
        parts, walk.size = [held], 0
        with rest.measure() as meter:
            try:
                for _ in range(_PAGES_A_BATCH):
                    parts.append(walk.step() or nothing)
                    if walk.is_over():
                        break
            except RequestRejectedError as error:
                if error.code not in REFUSED:
                    raise
                yield TickPages(
                    nothing, at, end_us, meter.requests, meter.weight, walk.size, is_last=True, refusal=error
                )  # fmt: skip
                return
        rows, cost = TickRows.joined(parts), (meter.requests, meter.weight, walk.size)
        # What shares the last instant may go on in the next page.
        upto = rows.last_us if len(rows) else at
        if walk.is_over():
            upto = end_us if walk.is_proven else upto + bool(len(rows))
        held = rows.between(upto, end_us)
        is_last = walk.is_over() and walk.is_proven
        if upto > at or is_last:
            yield TickPages(rows.between(at, upto), at, upto, *cost, is_last=is_last)
            cost = 0, 0, 0
        at = upto
        if walk.is_over() and not is_last:
            yield TickPages(nothing, at, end_us, *cost, is_last=True, is_proven=False)


def _dicts(rows: TickRows) -> list[dict[str, Any]]:
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.tuples()]
