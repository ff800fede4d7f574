"""The universe: which symbols of which markets are loaded, at which intervals, since when; and its cut into chunks.

As JSON: market → list of entries of `symbols` (names or patterns such as `*USDT`), `intervals` and optionally `since`
(any window text: `2024-01-01`, `2024-01`, `listing`, an ISO time with offset).
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
from airflow_provider_binance.texts import listed
from airflow_provider_binance.windows import LISTING, Instant, Marker, parse_instant

EXAMPLE = '{"spot": [{"symbols": ["BTCUSDT", "*USDT"], "intervals": ["1m"], "since": "2024-01-01"}]}'

#: What a series costs beside its downloads (reading the ledger, opening the client), in planned seconds.
_SERIES_SECONDS = 0.005
#: A chunk below this is not worth the start of a task, which takes 2–3 s.
_LEAST_CHUNK_SECONDS = 15.0

_ORDER = {name: at for at, name in enumerate(("", *INTERVALS))}


@dataclass(frozen=True, slots=True)
class UniverseEntry:
    """Symbols or patterns of one market at some intervals; `since` is a window text, or None for "no bound"."""

    market: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    since: str | None = None


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
        ConfigError: malformed, empty, or with an unknown market, interval or `since`; the message shows an example.
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
        entries += [_entry(market, entry, f"{source}: {name}[{at}]") for at, entry in enumerate(given)]
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


def entry_of_form(params: Mapping[str, Any]) -> UniverseEntry:
    """The entry that the form of `binance_backfill` describes: `market`, `symbols` and `more_symbols`, `intervals`.

    Raises:
        InputError: no symbol, or an unknown market or interval.
    """
    market = Market.parse(params["market"])
    symbols = _texts(params.get("symbols")) + _texts(params.get("more_symbols"))
    if not symbols:
        raise InputError("no symbol is given: choose some in symbols, or write names or patterns into more_symbols")
    intervals = [parse_interval(name, market).name for name in _texts(params.get("intervals"))]
    if not intervals:
        raise InputError("no interval is given: choose at least one, such as 1h")
    return UniverseEntry(market.value, tuple(dict.fromkeys(symbols)), tuple(dict.fromkeys(intervals)))


def cut(planned: Iterable[PlannedSeries], *, most: int = 16) -> list[dict[str, Any]]:
    """The series in chunks of about equal planned cost, each the arguments of one load.

    A load takes one market, one window and the same intervals for all its symbols, so series that differ in these
    never share a chunk; where that alone makes more than `most` chunks, there are that many. Series that go on from
    where their coverage ends share their window. A symbol named twice is loaded once, over the wider window.

    Returns:
        JSON-ready `{market, symbols, intervals, start, end}`, dearest first.
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
    for ((market, _, intervals, start, end_us), group), count in zip(groups.items(), counts, strict=True):
        bins: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(count)]
        for cost, symbol in sorted(group, key=lambda pair: (-pair[0], pair[1])):
            lightest = min(range(count), key=lambda at: (bins[at][0], len(bins[at][1])))
            bins[lightest] = (bins[lightest][0] + cost, [*bins[lightest][1], symbol])
        window_of = {"start": _start_text(start), "end": iso(end_us)}
        chunks += [
            (cost, {"market": market, "symbols": sorted(symbols), "intervals": list(intervals), **window_of})
            for cost, symbols in bins
        ]
    return [chunk for _, chunk in sorted(chunks, key=lambda pair: -pair[0])]


def _entry(market: Market, given: Any, where: str) -> UniverseEntry:
    if not isinstance(given, Mapping):
        raise _wrong(where, "is not an object with symbols and intervals")
    if unknown := sorted(set(map(str, given)) - {"symbols", "intervals", "since"}):
        raise _wrong(where, f"has unknown keys: {', '.join(unknown)}; accepted: symbols, intervals, since")
    symbols, intervals = _texts(given.get("symbols")), _texts(given.get("intervals"))
    if not symbols:
        raise _wrong(where, "names no symbols")
    if not intervals:
        raise _wrong(where, "names no intervals (timeframes, in a connection's extras)")
    since = given.get("since")
    try:
        names = tuple(dict.fromkeys(parse_interval(name, market).name for name in intervals))
        parse_instant(since, now_us=lambda: 0, name="since")
    except InputError as error:
        raise _wrong(where, str(error)) from None
    return UniverseEntry(market.value, tuple(dict.fromkeys(symbols)), names, str(since) if since else None)


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
