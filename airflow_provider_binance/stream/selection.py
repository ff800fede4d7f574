"""What a sidecar streams, as the command line or the settings say it: market → symbols → datasets → intervals.

In the settings it is the section `stream`: each market has one entry or a list of them, with `symbols`, `datasets` and
`intervals`; beside the markets may stand the options of `Options`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.errors import ConfigError, InputError, UnknownSymbolError
from airflow_provider_binance.market import Market, parse_interval
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.names import KINDS
from airflow_provider_binance.stream.subscriptions import Shard
from airflow_provider_binance.symbols import Symbols, spelled
from airflow_provider_binance.texts import listed

if TYPE_CHECKING:
    from airflow_provider_binance.runtime import Runtime

_KLINES = "klines"
_KEYS = ("symbols", "datasets", "intervals")
_OPTIONS = ("health_port", "shard")
EXAMPLE = '{"spot": [{"symbols": ["BTCUSDT", "*USDT"], "datasets": ["klines"], "intervals": ["1m"]}]}'


@dataclass(frozen=True, slots=True)
class Part:
    """Symbols of one market, with the datasets that are streamed of each. `where` is what errors call it."""

    market: Market
    symbols: tuple[str, ...]
    datasets: tuple[str, ...]
    intervals: tuple[str, ...]
    where: str = field(default="", compare=False)

    def series(self, runtime: Runtime) -> list[Series]:
        """Its series now; raises UnknownSymbolError for a name that exchangeInfo does not have."""
        # Read anew each time, since patterns follow what is listed; an archive has no stream.
        symbols = Symbols(runtime.rest, None)
        try:
            names = symbols.resolve(self.symbols, self.market, _KLINES)
        except UnknownSymbolError as error:
            raise UnknownSymbolError(f"{self.where}{error}", **error.facts) from error
        market = self.market.value
        return [
            Series(market, dataset, name, interval)
            for name in names
            for dataset in self.datasets
            for interval in (self.intervals if dataset == _KLINES else ("",))
        ]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be streamed, of one market or several."""

    parts: tuple[Part, ...]

    @property
    def markets(self) -> tuple[Market, ...]:
        """The markets it names, each once."""
        return tuple(dict.fromkeys(part.market for part in self.parts))

    def series(self, runtime: Runtime) -> list[Series]:
        """All series that are meant now, each once; patterns match what trades now.

        Raises:
            InputError: a symbol that its market does not list, or a pattern that nothing matches.
            BinanceError: exchangeInfo cannot be had.
        """
        return list(dict.fromkeys(series for part in self.parts for series in part.series(runtime)))


@dataclass(frozen=True, slots=True)
class Options:
    """What the section `stream` may say beside markets; None: it does not."""

    health_port: int | None = None
    shard: Shard | None = None


def selected(
    markets: Sequence[Market], symbols: Sequence[str], datasets: Sequence[str] = (), intervals: Sequence[str] = ()
) -> Selection:
    """The same symbols, datasets (default: klines) and intervals of each market, as the command line gives them.

    Raises:
        InputError: names what is missing, unknown, or not to be had in a market.
    """
    if not symbols:
        raise InputError("--symbol is missing: give one or more, or set BINANCE_SYMBOLS or symbols: in --config FILE")
    chosen = tuple(dict.fromkeys(datasets)) or (_KLINES,)
    if _KLINES in chosen and not intervals:
        raise InputError(
            "--interval is missing: give one or more, or set BINANCE_TIMEFRAMES or timeframes: in --config FILE"
        )
    return Selection(tuple(_part(market, symbols, chosen, intervals) for market in markets))


def read_section(section: Mapping[str, Any], *, source: str) -> tuple[Selection | None, Options]:
    """What the section `stream` of the settings says; no Selection if it names no market. `source`: its file, or
    whatever else errors are to call it.

    Raises:
        ConfigError: names source, field, value and what is accepted.
    """
    parts: list[Part] = []
    for name, given in section.items():
        if name in _OPTIONS:
            continue
        where = f"{source}: stream.{name}"
        try:
            market = Market.parse(name)
        except InputError as error:
            raise ConfigError(f"{where}: {error}, or one of the options {' '.join(_OPTIONS)}", field="stream") from None
        entries = [given] if isinstance(given, Mapping) else given
        if not isinstance(entries, list) or not entries:
            raise _wrong(where, "must hold an entry, or a list of entries, with symbols, datasets and intervals")
        parts += [_entry(market, entry, f"{where}[{at}]") for at, entry in enumerate(entries)]
    return (Selection(tuple(parts)) if parts else None), _options(section, source)


def _options(section: Mapping[str, Any], source: str) -> Options:
    port, shard = section.get("health_port"), section.get("shard")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535):
        raise _wrong(f"{source}: stream.health_port", f"{port!r} is no port: use 1 to 65535, or 0 for any")
    try:
        return Options(port, None if shard is None else Shard.parse(str(shard)))
    except InputError as error:
        raise _wrong(f"{source}: stream.shard", str(error)) from None


def _entry(market: Market, entry: Any, where: str) -> Part:
    if not isinstance(entry, Mapping):
        raise _wrong(where, f"is no mapping with symbols, datasets and intervals, but of type {type(entry).__name__}")
    if unknown := sorted(set(map(str, entry)) - set(_KEYS)):
        raise _wrong(where, f"has unknown keys: {', '.join(unknown)}; accepted: {' '.join(_KEYS)}")
    found: dict[str, list[str]] = {}
    for key in _KEYS:
        try:
            found[key] = listed(entry.get(key))
        except ValueError as error:
            raise _wrong(f"{where}.{key}", f"{entry[key]!r} {error}") from None
    if not found["symbols"]:
        raise _wrong(f"{where}.symbols", "names none; give symbols, patterns such as *USDT, or all trading perpetuals")
    datasets = tuple(dict.fromkeys(found["datasets"])) or (_KLINES,)
    if (_KLINES in datasets) != bool(found["intervals"]):
        what = "names none; klines need one or more" if _KLINES in datasets else "is only for klines; leave it out"
        raise _wrong(f"{where}.intervals", what)
    try:
        return _part(market, found["symbols"], datasets, found["intervals"], f"{where}: ")
    except InputError as error:
        raise _wrong(where, str(error)) from None


def _part(
    market: Market, symbols: Sequence[str], datasets: tuple[str, ...], intervals: Sequence[str], where: str = ""
) -> Part:
    """A checked part; raises InputError."""
    for dataset in datasets:
        there = [name for name, kind in KINDS.items() if market in kind.markets]
        if dataset not in there:
            raise InputError(f"market {market} has no streams of dataset {dataset!r}; it has: {' '.join(there)}")
    grids = dict.fromkeys(parse_interval(name, market).name for name in intervals) if _KLINES in datasets else ()
    return Part(market, tuple(dict.fromkeys(map(spelled, symbols))), datasets, tuple(grids), where)


def _wrong(where: str, what: str) -> ConfigError:
    return ConfigError(f"{where} {what}. Example: {EXAMPLE}", field="stream")
