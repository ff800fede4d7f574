"""The store's klines into the service's own table: what is new, filled in late, corrected, or gone.

What is to be done is decided per series from its ledger (`drl_changes`), and done in pieces, each of which commits with
what is left to do after it. So whoever is killed loses a piece, and who comes next goes on there.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.integrations.drl_changes import (
    LOOK_BACK_US,
    Corrected,
    Mark,
    Span,
    advanced,
    known,
    pieces,
)
from airflow_provider_binance.integrations.drl_contract import (
    LONG_SYMBOL,
    NOT_A_TIMEFRAME,
    SYMBOL_LENGTH,
    TIMEFRAMES,
    VolumeMode,
    symbol_of,
)
from airflow_provider_binance.integrations.drl_target import Piece, Row, Target
from airflow_provider_binance.market import DAY_US, Market, iso, parse_interval, to_us
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.reports import SCHEMA
from airflow_provider_binance.store.base import Store, open_store
from airflow_provider_binance.symbols import spelled
from airflow_provider_binance.texts import listed
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US

log = logging.getLogger(__name__)

#: So many klines are read, compared and committed at once; in memory are 20,000 at a time.
PIECE_ROWS = 50_000
_PLACES = [KLINES.column_names.index(name) for name in ("open_time", "open", "high", "low", "close", "volume",
                                                        "quote_volume")]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftOutRows:
    """Rows that the table cannot have; `first` and `last` where they were looked at."""

    series: Series
    reason: str
    rows: int
    first_us: int | None = None
    last_us: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry of `left_out`."""
        ends = {"first": self.first_us, "last": self.last_us}
        return {
            **_named(self.series),
            "reason": self.reason,
            "rows": self.rows,
            **{name: None if at is None else iso(at) for name, at in ends.items()},
        }


@dataclass(frozen=True, slots=True)
class SeriesSync:
    """What became of one series."""

    series: Series
    read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The entry of `series`."""
        return {
            **_named(self.series),
            "target_symbol": symbol_of(self.series.market, self.series.symbol),
            "rows_read": self.read,
            "rows_inserted": self.inserted,
            "rows_updated": self.updated,
            "rows_deleted": self.deleted,
        }


@dataclass(frozen=True, slots=True)
class DrlSyncReport:
    """What a sync did. Rows that were left out earlier, and did not change since, are not named again."""

    table: str
    volume_mode: VolumeMode
    series: tuple[SeriesSync, ...] = ()
    left_out: tuple[LeftOutRows, ...] = ()

    @property
    def changed(self) -> int:
        """How many rows were written or taken out."""
        return sum(one.inserted + one.updated + one.deleted for one in self.series)

    def to_dict(self) -> dict[str, Any]:
        """The document."""
        return {
            "schema": SCHEMA,
            "table": self.table,
            "volume_mode": str(self.volume_mode),
            "series": [one.to_dict() for one in self.series],
            "left_out": [one.to_dict() for one in self.left_out],
        }


def sync(
    *,
    target: str,
    target_schema: str = "public",
    volume_mode: str | None = None,
    market: str | None = None,
    symbols: Sequence[str] | str | None = None,
    timeframes: Sequence[str] | str | None = None,
    full: bool = False,
    create_table: bool = False,
    store: Store | str | None = None,
    config: BinanceConfig | None = None,
) -> DrlSyncReport:
    """Bring the service's `market_data` up to what the store has; a second run finds nothing to do.

    Args:
        target: URL of the service's database; it may be the store's own.
        target_schema: where its table is.
        volume_mode: `round`, `scale_1e8` or `quote`; default: as the table was filled before, at first `round`. Another
            one than before writes every row again.
        market: only this one.
        symbols: only these, as the store has them; names or patterns.
        timeframes: only these.
        full: compare every row, not only what changed since the last run; rows of covered ranges that the store has not
            are taken out.
        create_table: make the table if it is not there.
        store: the ingest database, open or by URL; default: the settings'.
        config: settings; default: those of the environment.

    Raises:
        InputError: words that name nothing, or a table that is not the service's.
        StoreError: one of the databases.
    """
    wanted = _Wanted.of(market, symbols, timeframes)
    asked = VolumeMode.parse(volume_mode) if volume_mode else None
    into = Target(target, schema=target_schema, create_table=create_table)
    if isinstance(store, Store):
        return _sync(store, into, wanted, asked, full=full)
    settings = config or BinanceConfig.load()
    with open_store(store or settings.store_url, schema=settings.store_schema, create=False) as opened:
        return _sync(opened, into, wanted, asked, full=full)


@dataclass(frozen=True, slots=True)
class _Wanted:
    market: Market | None
    patterns: tuple[str, ...]
    timeframes: tuple[str, ...]

    @classmethod
    def of(
        cls, market: str | None, symbols: Sequence[str] | str | None, timeframes: Sequence[str] | str | None
    ) -> _Wanted:
        found = tuple(parse_interval(name).name for name in listed(timeframes))
        if foreign := [name for name in found if name not in TIMEFRAMES]:
            raise InputError(f"{foreign[0]!r} is no timeframe of the service: it has {' '.join(TIMEFRAMES)}")
        return cls(
            Market.parse(market) if market else None, tuple(spelled(name) for name in listed(symbols)), found
        )  # fmt: skip

    def matches(self, series: Series) -> bool:
        return (
            (self.market is None or series.market == self.market)
            and (not self.timeframes or series.interval in self.timeframes)
            and (not self.patterns or any(fnmatchcase(series.symbol, pattern) for pattern in self.patterns))
        )


def _sync(store: Store, target: Target, wanted: _Wanted, asked: VolumeMode | None, *, full: bool) -> DrlSyncReport:
    chosen = [series for series in store.series(KLINES.name) if wanted.matches(series)]
    for pattern in wanted.patterns:
        if not any(fnmatchcase(series.symbol, pattern) for series in chosen):
            raise InputError(f"the store has no klines of {pattern!r} in the market and timeframes that are asked for")
    left_out = [LeftOutRows(series, why, _rows(store, series)) for series in chosen if (why := _refusal(series))]
    taken = [series for series in chosen if not _refusal(series)]
    source = str(store.made_us())
    done = []
    with target.held():
        mode = asked or target.mode() or VolumeMode.ROUND
        marks = {one: target.mark(symbol_of(one.market, one.symbol), one.interval, source, mode) for one in taken}
        corrections = _Corrections(store, marks.values())
        for series in taken:
            one = _OneSeries(store, target, series, source, mode)
            done.append(one.sync(marks[series], corrections, full=full))
            left_out += one.left_out()
            if (now := done[-1]).read or now.deleted:
                log.info("synced: %s read=%d inserted=%d updated=%d deleted=%d", series, now.read, now.inserted,
                         now.updated, now.deleted)  # fmt: skip
    return DrlSyncReport(target.name, mode, tuple(done), tuple(left_out))


class _Corrections:
    """What was corrected since the oldest of the marks, by series."""

    def __init__(self, store: Store, marks: Iterable[Mark | None]) -> None:
        known_marks = [mark.corrected_us for mark in marks if mark is not None]
        # For a series that is new it matters only which corrections it has seen by being read now.
        self.floor_us = store.clock() - DAY_US
        self._of: Mapping[tuple[str, str, str], list[Corrected]] = defaultdict(list)
        since_us = min([self.floor_us, *known_marks]) - LOOK_BACK_US
        for key, when_us, is_gone in store.corrected(KLINES.name, since_us):
            if (row := _row_of(key)) is not None:
                self._of[row[0]].append(Corrected(row[1], when_us, is_gone))

    def since(self, series: Series, mark: Mark) -> list[Corrected]:
        """Those of a series since an hour before its last one."""
        found = self._of.get((series.market, series.symbol, series.interval), [])
        return [one for one in found if one.when_us > mark.corrected_us - LOOK_BACK_US]


class _OneSeries:
    """The way of one series into the table."""

    def __init__(self, store: Store, target: Target, series: Series, source: str, mode: VolumeMode) -> None:
        self._store = store
        self._target = target
        self._series = series
        self._interval = parse_interval(series.interval)
        self._as = symbol_of(series.market, series.symbol), series.interval, source, mode
        self._left_out: dict[str, tuple[int, int, int]] = {}

    def sync(self, before: Mark | None, corrections: _Corrections, *, full: bool) -> SeriesSync:
        """Do what is to be done since `before`."""
        store, series = self._store, self._series
        mark = before or Mark(corrected_us=corrections.floor_us)
        # What is asked first is never newer than the rows that are read later, so that nothing is taken for done.
        lines = store.lines_after(series, mark.line)
        coverage = known(store.coverage(KLINES.name, [series], EARLIEST_US, LATEST_US)[series])
        after = advanced(mark, lines, coverage, corrections.since(series, mark), self._interval, full=full)
        done = SeriesSync(series)
        for left, span, is_pruned in self._steps(after):
            piece = self._target.write(*self._as, left, span, self._read(span), prune=is_pruned)
            done = replace(
                done, read=done.read + piece.read, inserted=done.inserted + piece.inserted,
                updated=done.updated + piece.updated, deleted=done.deleted + piece.deleted,
            )  # fmt: skip
            self._note(piece)
        if not after.compare and not after.prune and after != before:
            self._target.keep(*self._as, after)
        return done

    def left_out(self) -> list[LeftOutRows]:
        """What the table could not have."""
        return [LeftOutRows(self._series, why, *found) for why, found in sorted(self._left_out.items())]

    def _steps(self, mark: Mark) -> Iterator[tuple[Mark, Span, bool]]:
        """Each piece with what is left to do once it is done."""
        for number, span in enumerate(mark.compare):
            for start_us, end_us in pieces(span, self._interval, PIECE_ROWS):
                rest = ([(end_us, span[1])] if end_us < span[1] else []) + mark.compare[number + 1 :]
                yield replace(mark, compare=rest), (start_us, end_us), False
        for number, span in enumerate(mark.prune):
            for start_us, end_us in pieces(span, self._interval, PIECE_ROWS):
                rest = ([(end_us, span[1])] if end_us < span[1] else []) + mark.prune[number + 1 :]
                yield replace(mark, compare=[], prune=rest), (start_us, end_us), True

    def _read(self, span: Span) -> Iterator[Row]:
        for row in self._store.rows(KLINES.name, self._series, *span):
            yield Row(*(row[place] for place in _PLACES))  # type: ignore[arg-type]  # the registry says what they are

    def _note(self, piece: Piece) -> None:
        for why, rows, first_us, last_us in piece.left_out:
            before = self._left_out.get(why, (0, first_us, last_us))
            self._left_out[why] = before[0] + rows, min(before[1], first_us), max(before[2], last_us)


def _refusal(series: Series) -> str:
    """Why a whole series cannot be taken, or ''."""
    if series.interval not in TIMEFRAMES:
        return NOT_A_TIMEFRAME
    return LONG_SYMBOL if len(symbol_of(series.market, series.symbol)) > SYMBOL_LENGTH else ""


def _rows(store: Store, series: Series) -> int:
    return store.row_counts(KLINES.name, series, [(EARLIEST_US, LATEST_US)])[0]


def _row_of(key: str) -> tuple[tuple[str, str, str], int] | None:
    """Series and open time that a correction names, None if a calendar knows no such time."""
    try:
        told = json.loads(key)
        return (told["market"], told["symbol"], told["interval"]), to_us(datetime.fromisoformat(told["open_time"]))
    except (KeyError, ValueError, TypeError):
        return None


def _named(series: Series) -> dict[str, str]:
    return {"market": series.market, "symbol": series.symbol, "timeframe": series.interval}
