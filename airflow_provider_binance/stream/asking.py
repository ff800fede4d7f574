"""`Asked`: what a caller wants of real-time data, checked before anybody is asked for it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market, parse_interval
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.names import stream_name
from airflow_provider_binance.stream.outbox import OnFull
from airflow_provider_binance.symbols import spelled

#: Records of a market's own kind, where no dataset is named.
DEFAULT = {Market.SPOT: "trades", Market.UM: "agg_trades", Market.CM: "agg_trades"}

#: Names and patterns, market and dataset → symbols.
Resolve = Callable[[Sequence[str], Market, str], list[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Streams of one market; see `BinanceDataProvider.get_real_time_data`."""

    market: Market
    symbols: tuple[str, ...]
    datasets: tuple[str, ...]
    intervals: tuple[str, ...]
    fill_gaps: bool
    buffer: int
    on_full: OnFull

    @classmethod
    def parse(
        cls,
        symbols: Sequence[str],
        market: str,
        datasets: Sequence[str] | None,
        intervals: Sequence[str] | None,
        *,
        fill_gaps: bool,
        buffer: int,
        on_full: str,
    ) -> Self:
        """What these words mean; raises InputError, naming what is accepted."""
        of_market = Market.parse(market)
        names = tuple(map(spelled, _words("symbols", symbols)))
        wanted = _words("datasets", datasets) if datasets is not None else (DEFAULT[of_market],)
        for name in wanted:
            stream_name(Series(of_market.value, name, "", "1m"))  # raises for one that has no stream
        grids = tuple(parse_interval(name, of_market).name for name in _words("intervals", intervals or (), least=0))
        if ("klines" in wanted) != bool(grids):
            raise InputError(
                "klines need intervals, as in intervals=['1m']" if not grids else
                f"intervals are for klines, and datasets are {' '.join(wanted)}", argument="intervals",
            )  # fmt: skip
        if type(buffer) is not int or buffer < 1:
            raise InputError(f"buffer {buffer!r} is none: give the number of records that may wait", argument="buffer")
        return cls(of_market, names, wanted, grids, bool(fill_gaps), buffer, OnFull.parse(on_full))

    def series(self, resolve: Resolve) -> list[Series]:
        """The series, each once; raises UnknownSymbolError."""
        found: dict[Series, None] = {}
        for dataset in self.datasets:
            for symbol in resolve(self.symbols, self.market, dataset):
                for interval in self.intervals if dataset == "klines" else ("",):
                    found[Series(self.market.value, dataset, symbol, interval)] = None
        return list(found)


def _words(argument: str, given: object, *, least: int = 1) -> tuple[str, ...]:
    """The words of a list; one word alone is one, too."""
    words = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Collection) else ()
    names = tuple(word for word in words if isinstance(word, str))
    if len(names) < max(least, len(words)) or isinstance(given, bytes):
        raise InputError(f"{argument} {given!r} is none: give a list of names", argument=argument)
    return names
