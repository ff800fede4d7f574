"""The simulated venue: which instruments there are, and which rows each source shows of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_binance.simulator.alterations import Alteration
from airflow_provider_binance.simulator.book import Book
from airflow_provider_binance.simulator.candles import Row, to_rows
from airflow_provider_binance.simulator.clock import SimulatedClock
from airflow_provider_binance.simulator.fault_names import VOIDED
from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.instruments import Instrument, make_instrument, parse_symbols
from airflow_provider_binance.simulator.intervals import LENGTH_MS, floor_open
from airflow_provider_binance.simulator.recordings import Recordings
from airflow_provider_binance.simulator.synthetic import DEFAULT_TRADES_PER_MINUTE, SyntheticSeries
from airflow_provider_binance.simulator.ticks import Aggregates, Ticks

SOURCES = frozenset({"rest", "monthly", "daily"})


class KlineSeries(Protocol):
    """Rows of one series as known at an instant."""

    def rows(self, start_ms: int, end_ms: int, as_of_ms: int, zone_ms: int = 0) -> list[Row]:
        """Rows that open in ``[start_ms, end_ms]``, ascending, a forming one included; on the grid of that zone."""

    def span(self) -> tuple[int, int | None]:
        """First open time and the end of the series' life, None while it lives."""


@dataclass(frozen=True)
class SyntheticKlines:
    """One interval of a synthetic instrument."""

    series: SyntheticSeries
    interval: str

    def rows(self, start_ms: int, end_ms: int, as_of_ms: int, zone_ms: int = 0) -> list[Row]:
        """See :class:`KlineSeries`."""
        candles = self.series.candles(self.interval, start_ms, end_ms, as_of_ms, zone_ms)
        return to_rows(candles, self.series.instrument, self.interval, zone_ms)

    def span(self) -> tuple[int, int | None]:
        """See :class:`KlineSeries`."""
        instrument = self.series.instrument
        return floor_open(self.interval, instrument.listed_ms), instrument.delisted_ms


@dataclass(frozen=True)
class Hidden:
    """Rows that some sources lack: those that open in ``[start_ms, end_ms)``.

    ``interval`` None means everything of the symbol; ``trades`` and ``aggTrades`` stand for those.
    """

    market: str
    symbol: str
    interval: str | None
    start_ms: int
    end_ms: int
    sources: frozenset[str]

    def covers(self, market: str, symbol: str, interval: str) -> bool:
        """Whether it is about this series."""
        return (market, symbol) == (self.market, self.symbol) and self.interval in (None, interval)


class Exchange:
    """Instruments, their series, and what is hidden where."""

    def __init__(
        self,
        clock: SimulatedClock,
        seed: int,
        symbols: Iterable[str],
        recordings: Recordings | None = None,
        trades_per_minute: int = DEFAULT_TRADES_PER_MINUTE,
    ) -> None:
        self.clock = clock
        self.seed = seed
        self.trades_per_minute = trades_per_minute
        # Grows with everything that changes what was traded when.
        self.changes = 0
        self.recordings = recordings
        self.hidden: list[Hidden] = []
        self.alterations: list[Alteration] = []
        self.instruments: dict[tuple[str, str], Instrument] = {}
        self._synthetic: dict[tuple[str, str], SyntheticSeries] = {}
        for spec in symbols:
            for instrument in parse_symbols(spec):
                key = (instrument.market, instrument.symbol)
                self.instruments[key] = instrument
                self._synthetic[key] = SyntheticSeries(instrument, seed, trades_per_minute)
        if recordings is not None:
            for market, symbol in recordings.symbols():
                first_ms = recordings.first_open(market, symbol)
                self.instruments.setdefault((market, symbol), make_instrument(market, symbol, first_ms))

    def find(self, host: str, symbol: str, *, either_market: bool) -> Instrument | None:
        """The instrument as the host knows it; klines of either futures market are on both hosts since June 2026."""
        markets = {"spot": ("spot",), "um": ("um", "cm"), "cm": ("cm", "um")}[host][: 2 if either_market else 1]
        return next(
            (self.instruments[market, symbol] for market in markets if (market, symbol) in self.instruments), None
        )

    def series(self, market: str, symbol: str, interval: str) -> KlineSeries | None:
        """The series; None when the symbol has only recordings, and none of this interval."""
        if self.recordings is not None:
            recorded = self.recordings.series(market, symbol, interval)
            if recorded is not None:
                return recorded
        synthetic = self._synthetic.get((market, symbol))
        return None if synthetic is None else SyntheticKlines(synthetic, interval)

    def copied_series(self, instrument: Instrument) -> SyntheticSeries | None:
        """A series of the same market that shares nothing with this one; None when the symbol is recorded."""
        if self.is_recorded(instrument):
            return None
        series = SyntheticSeries(instrument, self.seed, self.trades_per_minute)
        for start_ms, end_ms in self.halts(instrument):
            series.halt(start_ms, end_ms)
        return series

    def ticks(self, instrument: Instrument) -> Ticks | None:
        """Trades and aggregates; None when the symbol is recorded."""
        synthetic = self._synthetic.get((instrument.market, instrument.symbol))
        return None if synthetic is None else Ticks(synthetic, self.seed)

    def book(self, instrument: Instrument) -> Book | None:
        """The order book; None when the symbol is recorded."""
        ticks = self.ticks(instrument)
        return None if ticks is None else Book(ticks, self.seed)

    def hidden_times(self, instrument: Instrument, dataset: str, source: str) -> list[tuple[int, int]]:
        """The half-open ranges whose rows the source lacks; ``dataset`` may be an interval of klines."""
        return [
            (each.start_ms, each.end_ms)
            for each in self.hidden
            if source in each.sources and each.covers(instrument.market, instrument.symbol, dataset)
        ]

    def voided_times(self, instrument: Instrument) -> list[tuple[int, int]]:
        """The half-open ranges whose aggregates are void."""
        return [
            (each.start_ms, each.end_ms)
            for each in self.alterations
            if each.name == VOIDED
            and (each.market, each.symbol) == (instrument.market, instrument.symbol)
            and each.kind in (None, "aggTrades")
        ]

    def is_recorded(self, instrument: Instrument) -> bool:
        """Whether the symbol is not synthetic."""
        return (instrument.market, instrument.symbol) not in self._synthetic

    def rows(
        self,
        market: str,
        symbol: str,
        interval: str,
        start_ms: int,
        end_ms: int,
        *,
        as_of_ms: int,
        source: str,
        zone_ms: int = 0,
    ) -> list[Row]:
        """Rows that open in ``[start_ms, end_ms]`` as ``source`` showed them at ``as_of_ms``."""
        series = self.series(market, symbol, interval)
        if series is None:
            return []
        rows = series.rows(start_ms, end_ms, as_of_ms, zone_ms)
        for hidden in self.hidden:
            if source in hidden.sources and hidden.covers(market, symbol, interval):
                rows = [row for row in rows if not hidden.start_ms <= row[0] < hidden.end_ms]
        return rows

    def page(
        self,
        market: str,
        symbol: str,
        interval: str,
        start_ms: int,
        end_ms: int,
        limit: int,
        *,
        newest: bool,
        zone_ms: int = 0,
    ) -> list[Row]:
        """At most ``limit`` REST rows that open in ``[start_ms, end_ms]``, the oldest or the newest; ascending."""
        series = self.series(market, symbol, interval)
        now_ms = self.clock.now_ms()
        if series is None:
            return []
        first_ms, life_end_ms = series.span()
        low = max(start_ms, first_ms - (LENGTH_MS[interval] if zone_ms else 0))
        high = min(end_ms, now_ms if life_end_ms is None else min(now_ms, life_end_ms - 1))
        step = limit * LENGTH_MS[interval]
        found: list[Row] = []
        while low <= high and len(found) < limit:
            edge = max(low, high - step + 1) if newest else min(high, low + step - 1)
            window = (edge, high) if newest else (low, edge)
            rows = self.rows(market, symbol, interval, *window, as_of_ms=now_ms, source="rest", zone_ms=zone_ms)
            found = rows + found if newest else found + rows
            # A long hole is crossed in growing strides.
            step = step if rows else step * 4
            low, high = (low, edge - 1) if newest else (edge + 1, high)
        return found[-limit:] if newest else found[:limit]

    def truth(self, market: str, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Row]:
        """Closed rows that open in ``[start_ms, end_ms)`` and that at least one source has."""
        series = self.series(market, symbol, interval)
        now_ms = self.clock.now_ms()
        rows = [] if series is None else series.rows(start_ms, end_ms - 1, now_ms)
        hidden = [each for each in self.hidden if each.covers(market, symbol, interval)]
        needed = SOURCES if LENGTH_MS[interval] <= LENGTH_MS["1d"] else SOURCES - {"daily"}
        return [row for row in rows if row[6] < now_ms and not _hidden_everywhere(row[0], hidden, needed)]

    def true_ticks(self, market: str, dataset: str, symbol: str, start_ms: int, end_ms: int) -> Trades | Aggregates:
        """The ``trades`` or ``aggTrades`` of ``[start_ms, end_ms)`` up to now, hidden ones included.

        Raises:
            ValueError: another dataset, or a symbol that is not synthetic.
        """
        instrument = self.instruments.get((market, symbol))
        ticks = None if instrument is None else self.ticks(instrument)
        if ticks is None:
            raise ValueError(f"the simulator makes no trades of {market}:{symbol}")
        edges_us = start_ms * 1000 - 1, min(end_ms * 1000 - 1, self.clock.now_ms() * 1000 + 999)
        if dataset == "trades":
            return ticks.trades(*(ticks.trades_until(edge) for edge in edges_us))
        if dataset == "aggTrades":
            first, stop = (ticks.aggregates_until(edge) for edge in edges_us)
            return ticks.aggregates(first, min(stop, ticks.aggregates_complete(self.clock.now_ms() * 1000 + 999)))
        raise ValueError(f"{dataset!r} is neither trades nor aggTrades")

    def hide(self, hidden: Hidden) -> None:
        """Let rows be missing from some sources."""
        self.hidden.append(hidden)

    def halt(self, market: str, symbol: str, start_ms: int, end_ms: int) -> None:
        """Let the symbol not have traded in ``[start_ms, end_ms)``: longer candles lack that part, too.

        Raises:
            ValueError: the symbol is not synthetic.
        """
        synthetic = self._synthetic.get((market, symbol))
        if synthetic is None:
            raise ValueError(f"only synthetic symbols can be halted, and {market}:{symbol} is none")
        synthetic.halt(start_ms, end_ms)
        self.changes += 1

    def halts(self, instrument: Instrument) -> list[tuple[int, int]]:
        """The halts of an instrument, half-open."""
        synthetic = self._synthetic.get((instrument.market, instrument.symbol))
        return [] if synthetic is None else synthetic.halts

    def clear_gaps(self) -> None:
        """Nothing is hidden, altered or halted any more."""
        self.hidden.clear()
        self.alterations.clear()
        for synthetic in self._synthetic.values():
            if synthetic.halts:
                synthetic.clear_halts()
                self.changes += 1


def _hidden_everywhere(open_ms: int, hidden: list[Hidden], needed: frozenset[str]) -> bool:
    sources = [each.sources for each in hidden if each.start_ms <= open_ms < each.end_ms]
    return frozenset().union(*sources) >= needed
