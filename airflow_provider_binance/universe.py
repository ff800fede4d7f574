"""The universe: which symbols of which markets are loaded, which datasets of them, since when; and its cut into chunks.

As JSON: market → list of entries of `symbols` (names or patterns such as `*USDT`), `datasets` (without it `klines`),
`intervals` where one of these has them, and optionally `since` (any window text: `2024-01-01`, `2024-01`, `listing`, an
ISO time with offset).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_binance.errors import ConfigError, InputError
from airflow_provider_binance.market import INTERVALS, Market, iso, parse_interval
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.registry import datasets as all_datasets
from airflow_provider_binance.registry import loadable
from airflow_provider_binance.texts import listed
from airflow_provider_binance.windows import LISTING, Instant, Marker, parse_instant

EXAMPLE = '{"spot": [{"symbols": ["BTCUSDT", "*USDT"], "intervals": ["1m"], "since": "2024-01-01"}]}'

#: What a series costs beside its downloads (reading the ledger, opening the client), in planned seconds.
_SERIES_SECONDS = 0.005
#: A chunk below this is not worth the start of a task, which takes 2–3 s.
_LEAST_CHUNK_SECONDS = 15.0

_KEYS = ("symbols", "datasets", "intervals", "since")
_ORDER = {name: at for at, name in enumerate(("", *INTERVALS))}


@dataclass(frozen=True, slots=True)
class UniverseEntry:
    """Symbols or patterns of one market, and a dataset of them, at some intervals if it has any.

    `since` is a window text, or None for "no bound".
    """

    market: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    since: str | None = None
    dataset: str = "klines"


@dataclass(frozen=True, slots=True)
class PlannedSeries:
    """A series with the window to load and what that is planned to cost.

    `start` is what the load is given: None for "on from the last covered instant", which each series has for itself.
    """

    series: Series
    start: Instant
    end_us: int
    seconds: float


def parse_universe(value: Any, *, source: str) -> tuple[UniverseEntry, ...]:
    """The entries that `value`, a mapping or its JSON text, describes; `source` is what errors call it.

    Raises:
        ConfigError: malformed, empty, or with an unknown market, dataset, interval or `since`; the message shows an
            example.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _wrong(source, f"is not JSON ({error})") from None
    if not isinstance(value, Mapping):
        raise _wrong(source, f"must map markets to lists of entries, not be of type {type(value).__name__}")
    entries: list[UniverseEntry] = []
    for name, given in value.items():
        try:
            market = Market.parse(name)
        except InputError as error:
            raise _wrong(source, str(error)) from None
        if not isinstance(given, list):
            raise _wrong(source, f"{name!r} must hold a list of entries")
        for at, entry in enumerate(given):
            entries += _entries(market, entry, f"{source}: {name}[{at}]")
    if not entries:
        raise _wrong(source, "is empty")
    return tuple(entries)


def universe_of_settings(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The universe that `symbols`, `timeframes` and `markets` of a connection describe; None without symbols."""
    symbols, intervals = _texts(settings.get("symbols")), _texts(settings.get("timeframes"))
    if not symbols:
        return None
    markets = _texts(settings.get("markets")) or [Market.SPOT.value]
    return {market: [{"symbols": symbols, "intervals": intervals}] for market in markets}


def entries_of_form(params: Mapping[str, Any]) -> tuple[UniverseEntry, ...]:
    """What the form of `binance_backfill` describes: `market`, `symbols` and `more_symbols`, `datasets`, `intervals`.

    Its intervals are those of klines, and there from the start: where only ticks are chosen they say nothing.

    Raises:
        InputError: no symbol, no interval for klines, or an unknown market, dataset or interval.
    """
    market = Market.parse(params["market"])
    symbols = _texts(params.get("symbols")) + _texts(params.get("more_symbols"))
    if not symbols:
        raise InputError("no symbol is given: choose some in symbols, or write names or patterns into more_symbols")
    datasets = parse_datasets(_texts(params.get("datasets")))
    intervals = [parse_interval(name, market).name for name in _texts(params.get("intervals"))]
    if not intervals and any(registered(name).has_interval for name in datasets):
        raise InputError("no interval is given: choose at least one, such as 1h")
    return _by_dataset(market, datasets, symbols, intervals)


def parse_datasets(names: Iterable[str]) -> tuple[str, ...]:
    """The datasets that are named, klines if none is; raises InputError with the accepted ones for any other."""
    for name in names:
        if name not in loadable():
            if any(name == entry.name for entry in all_datasets()):
                registered(name).refuse_streamed("load")
            raise InputError(f"unknown dataset {name!r}; accepted: {' '.join(loadable())}", argument="datasets")
    return tuple(dict.fromkeys(names)) or ("klines",)


def cut(planned: Iterable[PlannedSeries], *, most: int = 16) -> list[dict[str, Any]]:
    """The series in chunks of about equal planned cost, each the arguments of one load.

    A load takes one market, dataset, window and the same intervals for all its symbols, so series that differ in these
    never share a chunk; where that alone makes more than `most` chunks, there are that many. Series that go on from
    where their coverage ends share their window. A symbol named twice is loaded once, over the wider window.

    Returns:
        JSON-ready `{market, dataset, symbols, intervals, start, end}`, dearest first.
    """
    wanted: dict[tuple[str, str, str], dict[str, PlannedSeries]] = {}
    for one in planned:
        series = one.series
        by_interval = wanted.setdefault((series.market, series.dataset, series.symbol), {})
        by_interval[series.interval] = (
            _wider(by_interval[series.interval], one) if series.interval in by_interval else one
        )
    groups: dict[tuple[Any, ...], list[tuple[float, str]]] = {}
    for (market, dataset, symbol), by_interval in wanted.items():
        windows: dict[tuple[Instant, int], list[PlannedSeries]] = {}
        for one in by_interval.values():
            windows.setdefault((one.start, one.end_us), []).append(one)
        for window, members in windows.items():
            intervals = tuple(sorted((member.series.interval for member in members), key=_ORDER.__getitem__))
            cost = sum(member.seconds + _SERIES_SECONDS for member in members)
            groups.setdefault((market, dataset, intervals, *window), []).append((cost, symbol))
    chunks: list[tuple[float, dict[str, Any]]] = []
    counts = _counts([sum(cost for cost, _ in group) for group in groups.values()], [*map(len, groups.values())], most)
    for ((market, dataset, names, start, end_us), group), count in zip(groups.items(), counts, strict=True):
        bins: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(count)]
        for cost, symbol in sorted(group, key=lambda pair: (-pair[0], pair[1])):
            lightest = min(range(count), key=lambda at: (bins[at][0], len(bins[at][1])))
            bins[lightest] = (bins[lightest][0] + cost, [*bins[lightest][1], symbol])
        what = {"market": market, "dataset": dataset}
        shared = {"intervals": [*filter(None, names)], "start": _start_text(start), "end": iso(end_us)}
        chunks += [(cost, {**what, "symbols": sorted(symbols), **shared}) for cost, symbols in bins]
    return [chunk for _, chunk in sorted(chunks, key=lambda pair: -pair[0])]


def _entries(market: Market, given: Any, where: str) -> tuple[UniverseEntry, ...]:
    if not isinstance(given, Mapping):
        raise _wrong(where, "is not an object with symbols and intervals")
    if unknown := sorted(set(map(str, given)) - set(_KEYS)):
        raise _wrong(where, f"has unknown keys: {', '.join(unknown)}; accepted: {', '.join(_KEYS)}")
    symbols, intervals = _texts(given.get("symbols")), _texts(given.get("intervals"))
    if not symbols:
        raise _wrong(where, "names no symbols")
    if given.get("datasets") is not None and not _texts(given["datasets"]):
        raise _wrong(where, f"names no datasets; accepted: {' '.join(loadable())} (without the key: klines)")
    since = given.get("since")
    try:
        datasets = parse_datasets(_texts(given.get("datasets")))
        names = [parse_interval(name, market).name for name in intervals]
        parse_instant(since, now_us=lambda: 0, name="since")
    except InputError as error:
        raise _wrong(where, str(error)) from None
    with_intervals = any(registered(name).has_interval for name in datasets)
    if with_intervals and not names:
        raise _wrong(where, "names no intervals (timeframes, in a connection's extras)")
    if names and not with_intervals:
        raise _wrong(where, f"names intervals, and {' '.join(datasets)} has none: leave {' '.join(names)} out")
    return _by_dataset(market, datasets, symbols, names, str(since) if since else None)


def _by_dataset(
    market: Market, datasets: Iterable[str], symbols: Iterable[str], intervals: Iterable[str], since: str | None = None
) -> tuple[UniverseEntry, ...]:
    """An entry for each dataset, with intervals where it has any."""
    symbols, intervals = tuple(dict.fromkeys(symbols)), tuple(dict.fromkeys(intervals))
    return tuple(
        UniverseEntry(market.value, symbols, intervals if registered(name).has_interval else (), since, name)
        for name in datasets
    )


def _texts(value: Any) -> list[str]:
    """The names that are listed; what is no list names none, which is refused by name."""
    try:
        return listed(value)
    except ValueError:
        return []


def _wider(one: PlannedSeries, other: PlannedSeries) -> PlannedSeries:
    return PlannedSeries(
        one.series,
        _earlier(one.start, other.start),
        max(one.end_us, other.end_us),
        max(one.seconds, other.seconds),
    )


def _earlier(one: Instant, other: Instant) -> Instant:
    """The earlier start; one that is given wins over "on from the last covered instant"."""
    if LISTING in (one, other):
        return LISTING
    return min(one, other) if isinstance(one, int) and isinstance(other, int) else other if one is None else one


def _start_text(start: Instant) -> str | None:
    """A start as a load takes it, JSON-ready."""
    if isinstance(start, Marker):
        return start.value
    return None if start is None else iso(start)


def _counts(costs: list[float], sizes: list[int], most: int) -> list[int]:
    """How many chunks each group gets: by its share of the cost, at least one, together `most` where that suffices."""
    target = max(sum(costs) / most, _LEAST_CHUNK_SECONDS)
    counts = [min(max(1, math.ceil(cost / target)), size) for cost, size in zip(costs, sizes, strict=True)]
    while sum(counts) > most and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
    return counts


def _wrong(where: str, what: str) -> ConfigError:
    return ConfigError(f"the universe of {where} {what}. Example: {EXAMPLE}", source=where)
