"""Whether a sidecar streams what it should into the store, now: its heartbeat, and how far its data came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from airflow_provider_binance.market import DAY_US, INTERVALS, SECOND_US, Market, iso, parse_interval
from airflow_provider_binance.records import Series, State
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.sidecars import Progress, Sidecar
from airflow_provider_binance.symbols import spelled

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is to be fresh; times are in seconds. No symbols or intervals: all that are streamed."""

    market: str
    dataset: str = "klines"
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()
    max_lag: float = 180.0
    max_heartbeat_age: float = 30.0

    @classmethod
    def checked(
        cls,
        market: str,
        dataset: str,
        symbols: Sequence[str],
        intervals: Sequence[str],
        max_lag: float,
        max_heartbeat_age: float,
    ) -> Awaited:
        """Raises InputError for what is unknown."""
        kind = Market.parse(market)
        registered(dataset)
        grids = tuple(parse_interval(name, kind).name for name in intervals)
        return cls(kind.value, dataset, tuple(map(spelled, symbols)), grids, float(max_lag), float(max_heartbeat_age))


def staleness(store: Store, awaited: Awaited) -> list[str]:
    """What is not fresh, in words; nothing if all is. The database's clock is the one that counts.

    A kline is awaited from the moment when its interval has passed. Of other datasets, that a symbol is streamed is all
    that can be asked of it alone: it may just not trade.

    Raises:
        StoreError: the store does not tell.
    """
    sidecars = store.sidecars()
    if not sidecars:
        return ["no sidecar has ever said that it lives: start `binance-ingest stream` on this store"]
    youngest = sidecars[0]
    living = {one.instance for one in sidecars if one.silent_seconds <= awaited.max_heartbeat_age}
    if not living:
        silent = f"the last beat, of {youngest.instance}, was {youngest.silent_seconds:.0f} s ago"
        return [f"no sidecar lives: {silent} (max_heartbeat_age: {awaited.max_heartbeat_age:g})"]
    now_us = youngest.beat_at_us + int(youngest.silent_seconds * SECOND_US)
    streamed = [
        lease.series
        for lease in store.leases()
        if lease.instance in living and (lease.series.market, lease.series.dataset) == (awaited.market, awaited.dataset)
    ]
    return [
        *_of_all(awaited, store.progress(), sidecars, living, now_us),
        *_of_symbols(store, awaited, sorted(streamed), now_us),
    ]


def _of_all(
    awaited: Awaited, progress: Sequence[Progress], sidecars: Sequence[Sidecar], living: set[str], now_us: int
) -> list[str]:
    """How old the newest event of the dataset is."""
    what = f"{awaited.market} {awaited.dataset}"
    newest_us = max(
        (
            line.event_us
            for line in progress
            if line.instance in living and (line.market, line.dataset) == (awaited.market, awaited.dataset)
            and line.event_us is not None
        ),
        default=None,
    )  # fmt: skip
    if newest_us is None:
        return [f"no event of {what} is stored yet by the {len(living)} of {len(sidecars)} sidecars that live"]
    lag = (now_us - newest_us) / SECOND_US
    if lag > awaited.max_lag:
        return [f"the newest event of {what}, {iso(newest_us)}, is {lag:.0f} s old (max_lag: {awaited.max_lag:g})"]
    return []


def _of_symbols(store: Store, awaited: Awaited, streamed: Sequence[Series], now_us: int) -> list[str]:
    """Which of the symbols nobody streams, and whose klines are behind."""
    problems = []
    if alone := [name for name in awaited.symbols if not any(fnmatchcase(one.symbol, name) for one in streamed)]:
        problems.append(f"nobody streams {awaited.market} {awaited.dataset} of {_first(alone)}")
    wanted = [
        one
        for one in streamed
        if one.interval in INTERVALS
        and (not awaited.intervals or one.interval in awaited.intervals)
        and any(fnmatchcase(one.symbol, name) for name in awaited.symbols)
    ]
    if awaited.intervals and (
        lacking := [name for name in awaited.intervals if not any(one.interval == name for one in streamed)]
    ):
        problems.append(f"nobody streams {awaited.market} {awaited.dataset} at {_first(lacking)}")
    lag_us = int(awaited.max_lag * SECOND_US)
    known = store.coverage(awaited.dataset, wanted, now_us - 40 * DAY_US, now_us) if wanted else {}
    behind = []
    for series in wanted:
        due_us = INTERVALS[series.interval].closed_end(now_us, lag_us)
        end_us = max((one.end_us for one in known.get(series, ()) if one.state is State.COMPLETE), default=0)
        if end_us < due_us:
            there = f"up to {iso(end_us)}" if end_us else "nowhere in 40 days"
            behind.append(f"{series.symbol} {series.interval} ({there})")
    if behind:
        problems.append(f"behind by more than {awaited.max_lag:g} s: {_first(behind)}")
    return problems


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
