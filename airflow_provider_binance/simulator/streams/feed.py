"""Who makes the events of a stream: one tape per instrument, one source per stream."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_binance.simulator.book import Book
from airflow_provider_binance.simulator.exchange import Exchange
from airflow_provider_binance.simulator.instruments import Instrument
from airflow_provider_binance.simulator.streams import names
from airflow_provider_binance.simulator.streams.book_events import (
    BookTickerEvents,
    DepthEvents,
    PartialDepthEvents,
)
from airflow_provider_binance.simulator.streams.events import Events, Known, Source, in_order
from airflow_provider_binance.simulator.streams.kline_events import KlineEvents
from airflow_provider_binance.simulator.streams.mark_events import MarkPriceArrays, MarkPriceEvents
from airflow_provider_binance.simulator.streams.names import StreamName
from airflow_provider_binance.simulator.streams.reel import Rendered
from airflow_provider_binance.simulator.streams.second_events import SecondEvents
from airflow_provider_binance.simulator.streams.tape import Tape
from airflow_provider_binance.simulator.streams.tick_events import AggregateEvents, LiquidationEvents, TradeEvents

MILLISECOND_US = 1000


class Together:
    """Several sources as one."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = list(sources)

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        return in_order([source.between(start_us, stop_us) for source in self._sources])


class Feed:
    """The sources of all streams; used by one thread.

    It has series of its own, so that it never waits for somebody who holds those of the exchange.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._tapes: dict[tuple[str, str], Tape] = {}
        self._sources: dict[tuple[str, str, int], Source | None] = {}
        self._changes = exchange.changes

    def source(self, market: str, text: str, *, microseconds: bool = False) -> Source | None:
        """The source of a stream of that host; None for one that stays silent."""
        if self._changes != self._exchange.changes:
            self._changes = self._exchange.changes
            self._tapes.clear()
            self._sources.clear()
        unit_us = 1 if microseconds else MILLISECOND_US
        key = market, text, unit_us
        if key not in self._sources:
            self._sources[key] = self._made(market, text, unit_us)
        return self._sources[key]

    def render(self, market: str, text: str, start_us: int, stop_us: int) -> int:
        """Make the events of ``[start_us, stop_us)`` now, and keep them; how many there are, 0 of a silent stream."""
        source = self.source(market, text)
        if source is None:
            return 0
        rendered = Rendered(text, source, start_us, stop_us)
        self._sources[market, text, MILLISECOND_US] = rendered
        return len(rendered)

    def _made(self, market: str, text: str, unit_us: int) -> Source | None:
        recordings = self._exchange.recordings
        recorded = None if recordings is None else recordings.streams.frames(market, text)
        if recorded is not None:
            return Known(Events(*recorded))
        name = names.parse(market, text)
        if name is None:
            return None
        if name.symbol is None:
            return self._of_all(name, unit_us)
        instrument = self._exchange.find(market, name.symbol, either_market=name.kind in names.CROSS_MARKET)
        return None if instrument is None else self._one(instrument, name, unit_us)

    def _of_all(self, name: StreamName, unit_us: int) -> Source:
        """The streams of all symbols have those of both futures markets on either host."""
        made = [
            [
                source
                for instrument in self._exchange.instruments.values()
                if instrument.market == market
                for source in [self._one(instrument, name, unit_us, merged=True)]
                if source is not None
            ]
            for market in ("um", "cm")
        ]
        if name.kind == names.MARK_PRICE:
            return MarkPriceArrays([[each for each in part if isinstance(each, MarkPriceEvents)] for part in made])
        return Together(each for part in made for each in part)

    def _one(self, instrument: Instrument, name: StreamName, unit_us: int, *, merged: bool = False) -> Source | None:
        tape = self._tape(instrument)
        if tape is None:
            return None
        match name.kind:
            case names.AGG_TRADE:
                return AggregateEvents(tape, unit_us)
            case names.TRADE:
                return TradeEvents(tape, unit_us)
            case names.KLINE if name.interval == "1s":
                return SecondEvents(tape, unit_us)
            case names.KLINE:
                return KlineEvents(tape, name.interval, name.step_ms, unit_us, name.zone_ms)
            case names.FORCE_ORDER:
                return LiquidationEvents(tape, merged=merged)
            case names.MARK_PRICE:
                return MarkPriceEvents(tape, name.step_ms)
        book = Book(tape.ticks, self._exchange.seed)
        match name.kind:
            case names.BOOK_TICKER:
                return BookTickerEvents(tape, book, name.step_ms)
            case names.DEPTH:
                return DepthEvents(tape, book, name.step_ms, unit_us)
        return PartialDepthEvents(tape, book, name.levels, name.step_ms, unit_us)

    def _tape(self, instrument: Instrument) -> Tape | None:
        key = instrument.market, instrument.symbol
        if key not in self._tapes:
            series = self._exchange.copied_series(instrument)
            if series is None:
                return None
            self._tapes[key] = Tape(series, self._exchange.seed, self._exchange.trades_per_minute)
        return self._tapes[key]
