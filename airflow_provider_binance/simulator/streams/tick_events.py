"""Events of trades, aggregates and liquidations."""

from __future__ import annotations

import numpy as np

from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.rest_trades import price_texts, quantity_texts
from airflow_provider_binance.simulator.streams.events import Events, origin, quoted
from airflow_provider_binance.simulator.streams.tape import Tape

# One fill in so many is a liquidation, of which the last one of a second is told.
LIQUIDATED_ONE_IN = 300
SALT_LIQUIDATED = 81
SECOND_US = 1_000_000
TRUE_FALSE = ("false", "true")


class AggregateEvents:
    """``aggTrade``: told when the last fill is known."""

    def __init__(self, tape: Tape, unit_us: int) -> None:
        self._tape = tape
        self._unit_us = unit_us

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        tape, unit_us = self._tape, self._unit_us
        instrument = tape.instrument
        found = tape.aggregates(start_us - tape.delay_us, stop_us - tape.delay_us)
        sent_us: Ints = found.last_time_us + tape.delay_us
        head = f',"s":{quoted(instrument.symbol)},"a":'
        tail = f"{origin(instrument.market)}}}" if instrument.market != "spot" else ',"M":true}'
        quantities = quantity_texts(instrument, found.lots)
        if instrument.market == "um":
            normal = quantity_texts(instrument, found.normal_lots)
            quantities = [f'{every}","nq":"{some}' for every, some in zip(quantities, normal, strict=True)]
        return Events(
            sent_us.tolist(),
            [
                f'{{"e":"aggTrade","E":{event}{head}{number},"p":"{price}","q":"{quantity}","f":{first},"l":{last},'
                f'"T":{time},"m":{TRUE_FALSE[maker]}{tail}'
                for event, number, price, quantity, first, last, time, maker in zip(
                    (sent_us // unit_us).tolist(),
                    found.ordinal.tolist(),
                    price_texts(instrument, found.price),
                    quantities,
                    found.first.tolist(),
                    found.last.tolist(),
                    (found.time_us // unit_us).tolist(),
                    found.buyer_maker.tolist(),
                    strict=True,
                )
            ],
        )


class TradeEvents:
    """``trade`` of spot."""

    def __init__(self, tape: Tape, unit_us: int) -> None:
        self._tape = tape
        self._unit_us = unit_us

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        tape, unit_us = self._tape, self._unit_us
        instrument = tape.instrument
        found = tape.trades(start_us - tape.delay_us, stop_us - tape.delay_us)
        sent_us: Ints = found.time_us + tape.delay_us
        head = f',"s":{quoted(instrument.symbol)},"t":'
        return Events(
            sent_us.tolist(),
            [
                f'{{"e":"trade","E":{event}{head}{number},"p":"{price}","q":"{quantity}","T":{time},'
                f'"m":{TRUE_FALSE[maker]},"M":true}}'
                for event, number, price, quantity, time, maker in zip(
                    (sent_us // unit_us).tolist(),
                    tape.ticks.ids(found.ordinal).tolist(),
                    price_texts(instrument, found.price),
                    quantity_texts(instrument, found.lots),
                    (found.time_us // unit_us).tolist(),
                    found.buyer_maker.tolist(),
                    strict=True,
                )
            ],
        )


class LiquidationEvents:
    """``forceOrder``: of each second at most the last one; ``merged`` for the stream of all symbols."""

    def __init__(self, tape: Tape, *, merged: bool) -> None:
        self._tape = tape
        self._merged = merged

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        # Told at the end of its second.
        first = (start_us - self._tape.delay_us - 1) // SECOND_US * SECOND_US
        last = (stop_us - self._tape.delay_us - 1) // SECOND_US * SECOND_US
        found = self._orders(self._tape.trades(first, last))
        sent_us = found.time_us // SECOND_US * SECOND_US + SECOND_US + self._tape.delay_us
        instrument = self._tape.instrument
        prices, quantities = price_texts(instrument, found.price), quantity_texts(instrument, found.lots)
        times_ms = (found.time_us // 1000).tolist()
        pair = f',"ps":{quoted(instrument.pair)}'
        inner = pair if instrument.market == "cm" else ""
        outer = (pair if instrument.market == "um" else "") + origin(instrument.market) if self._merged else ""
        return Events(
            sent_us.tolist(),
            [
                f'{{"e":"forceOrder","E":{sent // 1000},"o":{{"s":{quoted(instrument.symbol)}{inner},"S":"{side}",'
                f'"o":"LIMIT","f":"IOC","q":"{quantity}","p":"{price}","ap":"{price}","X":"FILLED","l":"{quantity}",'
                f'"z":"{quantity}","T":{time}}}{outer}}}'
                for sent, side, quantity, price, time in zip(
                    sent_us.tolist(),
                    ["SELL" if maker else "BUY" for maker in found.buyer_maker.tolist()],
                    quantities,
                    prices,
                    times_ms,
                    strict=True,
                )
            ],
        )

    def _orders(self, trades: Trades) -> Trades:
        forced = trades.keep(self._tape.noise.pick(SALT_LIQUIDATED, trades.ordinal, LIQUIDATED_ONE_IN) == 0)
        if not len(forced):
            return forced
        second = forced.time_us // SECOND_US
        return forced.keep(np.concatenate((second[1:] != second[:-1], [True])))
