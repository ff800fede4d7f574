"""Which series of the store a caller means, and which window of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import INTERVALS, Market, grid_of, parse_interval
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Continuity, datasets
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.symbols import spelled
from airflow_provider_binance.tasks import Names, When, instants, names_of
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US, LISTING

log = logging.getLogger(__name__)

#: How one knows of a dataset that nothing is missing.
_CHECKED = (Continuity.GRID, Continuity.ID)


def checked() -> tuple[str, ...]:
    """The names of the datasets that can be checked and repaired."""
    return tuple(entry.name for entry in datasets() if entry.continuity in _CHECKED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A caller's words, checked without asking anybody; an end that was not given is as far as anything is there."""

    market: Market | None
    dataset: str
    patterns: tuple[str, ...]
    intervals: tuple[str, ...]
    start_us: int
    end_us: int

    def matches(self, series: Series) -> bool:
        """Whether a series is meant."""
        return (
            (self.market is None or series.market == self.market)
            and (not self.patterns or any(fnmatchcase(series.symbol, pattern) for pattern in self.patterns))
            and (not self.intervals or series.interval in self.intervals)
        )


def wanted(
    market: str | None,
    dataset: str,
    symbols: Names | None,
    intervals: Names | None,
    start: When,
    end: When,
    now_us: Callable[[], int],
    *,
    is_checked: bool = True,
) -> Wanted:
    """The arguments, checked; `is_checked`: the dataset must be one of which it can be told whether anything is
    missing. Raises InputError naming the value, the accepted ones and the way out."""
    kind = Market.parse(market) if market else None
    entry = registered(dataset)
    if kind is not None and kind not in entry.markets:
        raise InputError(f"dataset {dataset} does not exist in market {kind}; it has: {' '.join(entry.markets)}")
    if is_checked and entry.continuity not in _CHECKED:
        raise InputError(f"dataset {dataset} cannot be checked by this version; it checks: {' '.join(checked())}")
    if (named := names_of(intervals or ())) and not entry.has_interval:
        raise InputError(f"dataset {dataset} has no intervals: leave {' '.join(named)} out", argument="intervals")
    begin, stop = instants(start, end, now_us)
    return Wanted(
        kind,
        dataset,
        tuple(dict.fromkeys(spelled(name) for name in names_of(symbols or ()))),
        tuple(dict.fromkeys(parse_interval(name, kind).name for name in names_of(intervals or ()))),
        EARLIEST_US if begin is None or begin is LISTING else begin if isinstance(begin, int) else now_us(),
        LATEST_US if stop is None else stop if isinstance(stop, int) else now_us(),
    )


def chosen(store: Store, choice: Wanted, *others: Wanted) -> list[Series]:
    """The series that are meant, of all that ledger or table know; raises InputError for a name that neither knows.

    `others` ask for the same names in other datasets: a name that is in one of them is known.
    """
    named = set[Series]().union(*(_named(store, each) for each in (choice, *others)))
    for name in _exact(choice.patterns):
        if not any(series.symbol == name for series in named):
            raise InputError(
                f"the store {store.url} has nothing of {' '.join(filter(None, (choice.market, name)))}"
                f"{' ' + ' '.join(choice.intervals) if choice.intervals else ''}: `load` brings it"
            )
    for series in named:
        if not is_known(series):
            log.warning("%s is passed over: %s", series, strangeness(series))
    return sorted(filter(is_known, named), key=_order)


def unknown(store: Store, choice: Wanted) -> dict[Series, tuple[int, int]]:
    """The series that are meant and whose market or interval is not known, with their first and last time."""
    strange = sorted(series for series in _named(store, choice) if not is_known(series))
    extents = store.extents(choice.dataset) if strange else {}
    return {series: extents.get(series, (0, 0)) for series in strange}


def is_known(series: Series) -> bool:
    """Whether market and interval are Binance's."""
    entry = registered(series.dataset)
    if not entry.has_interval:
        return series.market in entry.markets and not series.interval
    interval = INTERVALS.get(series.interval)
    return interval is not None and series.market in interval.markets


def strangeness(series: Series) -> str:
    """What is not known of it, in words."""
    if series.market not in list(Market):
        return f"there is no market {series.market!r}: {' '.join(Market)}"
    accepted = " ".join(name for name, interval in INTERVALS.items() if series.market in interval.markets)
    return f"{series.market} has no interval {series.interval!r}: {accepted}"


def _named(store: Store, choice: Wanted) -> set[Series]:
    known = {*store.series(choice.dataset), *store.extents(choice.dataset)}
    return {series for series in known if choice.matches(series)}


def _order(series: Series) -> tuple[int, str, str, int]:
    return registered(series.dataset).number, series.market, series.symbol, grid_of(series.interval).size_us


def _exact(patterns: Sequence[str]) -> list[str]:
    return [pattern for pattern in patterns if not {"*", "?"} & set(pattern)]
