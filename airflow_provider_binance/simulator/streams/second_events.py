"""Events of the one-second klines of spot: each second in which something was traded, once, closed."""

from __future__ import annotations

import numpy as np

from airflow_provider_binance.simulator.streams.events import NOTHING, Events
from airflow_provider_binance.simulator.streams.kline_payloads import kline_events
from airflow_provider_binance.simulator.streams.tape import Tape

SECOND_US = 1_000_000
# After the end of the second.
CLOSING_US = 8_000


class SecondEvents:
    """``kline_1s`` of one instrument."""

    def __init__(self, tape: Tape, unit_us: int) -> None:
        self._tape = tape
        self._unit_us = unit_us

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        first = (start_us - CLOSING_US - 1) // SECOND_US * SECOND_US
        last = (stop_us - CLOSING_US - 1) // SECOND_US * SECOND_US
        trades = self._tape.trades(first, last)
        if not len(trades):
            return NOTHING
        second = trades.time_us // SECOND_US
        begin = np.concatenate(([0], np.flatnonzero(np.diff(second)) + 1))
        end = np.concatenate((begin[1:], [len(trades)])) - 1
        bought = ~trades.buyer_maker
        columns = [
            trades.price[begin],
            np.maximum.reduceat(trades.price, begin),
            np.minimum.reduceat(trades.price, begin),
            trades.price[end],
            np.add.reduceat(trades.lots, begin),
            np.add.reduceat(trades.amount, begin),
            end - begin + 1,
            np.add.reduceat(trades.lots * bought, begin),
            np.add.reduceat(trades.amount * bought, begin),
            trades.ordinal[begin],
        ]
        opens_us = second[begin] * SECOND_US
        sent_us = opens_us + SECOND_US + CLOSING_US
        opens_ms = (opens_us // 1000).tolist()
        return kline_events(self._tape, "1s", self._unit_us, sent_us, opens_ms, columns, closed=True)
