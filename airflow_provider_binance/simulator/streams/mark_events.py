"""Events of mark prices: one per second or three, for one symbol or, in one frame per market, for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from airflow_provider_binance.simulator.candles import decimal_texts
from airflow_provider_binance.simulator.intervals import HOUR_MS
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.streams.events import NOTHING, Events, origin, quoted
from airflow_provider_binance.simulator.streams.tape import Tape

DECIMALS = 8
FUNDING_MS = 8 * HOUR_MS
# Of a hundred million; the index lies so far from the mark price at most, in millionths of it.
HIGHEST_RATE = 30_000
FARTHEST_INDEX = 500
SALT_RATE, SALT_INDEX = 85, 86


class MarkPriceEvents:
    """``markPrice`` of one instrument: it follows the last trade."""

    def __init__(self, tape: Tape, step_ms: int) -> None:
        self._tape = tape
        self._step_us = step_ms * 1000

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        moments = moments_between(self._step_us, start_us, stop_us)
        found = self._tape.prices_at(moments) if len(moments) else None
        if found is None:
            return NOTHING
        return Events(moments.tolist(), self._payloads(moments // 1000, found[0]))

    def _payloads(self, moments_ms: Ints, prices: Ints) -> list[str]:
        instrument, noise = self._tape.instrument, self._tape.noise
        marks = prices * 10 ** (DECIMALS - instrument.price_decimals)
        away = noise.pick(SALT_INDEX, moments_ms, 2 * FARTHEST_INDEX + 1) - FARTHEST_INDEX
        index = marks + marks // 1_000_000 * away
        perpetual = instrument.delivery_date is None
        rates, fundings = self._funding(moments_ms)
        um = instrument.market == "um"
        without = "0.00000000" if um else ""
        symbol, tail = quoted(instrument.symbol), f"{origin(instrument.market)}}}"
        texts = [decimal_texts(column, DECIMALS, DECIMALS) for column in (marks, index)]
        return [
            f'{{"e":"markPriceUpdate","E":{moment},"s":{symbol},"p":"{mark}",'
            + (f'"i":"{at}","P":"{mark}"' if um else f'"P":"{mark}","i":"{at}"')
            + f',"r":"{rate if perpetual else without}"'
            + (f',"ap":"{mark}"' if um else "")
            + f',"T":{funding if perpetual else 0}{tail}'
            for moment, mark, at, rate, funding in zip(moments_ms.tolist(), *texts, rates, fundings, strict=True)
        ]

    def _funding(self, moments_ms: Ints) -> tuple[list[str], list[int]]:
        """The rate of the period that a moment lies in, and when it ends."""
        period = moments_ms // FUNDING_MS
        rates = self._tape.noise.pick(SALT_RATE, period, 2 * HIGHEST_RATE + 1) - HIGHEST_RATE
        sizes = decimal_texts(np.abs(rates), DECIMALS, DECIMALS)
        texts = [f"-{size}" if rate < 0 else size for rate, size in zip(rates.tolist(), sizes, strict=True)]
        return texts, ((period + 1) * FUNDING_MS).tolist()


class MarkPriceArrays:
    """``!markPrice@arr``: the rows of all instruments, in a frame per market."""

    def __init__(self, markets: Sequence[Sequence[MarkPriceEvents]]) -> None:
        self._markets = markets

    def between(self, start_us: int, stop_us: int) -> Events:
        """See :class:`Source`."""
        rows: dict[tuple[int, int], list[str]] = {}
        for number, market in enumerate(self._markets):
            for source in market:
                for moment_us, payload in zip(*source.between(start_us, stop_us), strict=True):
                    rows.setdefault((moment_us, number), []).append(payload)
        frames = sorted(rows.items())
        return Events([key[0] for key, _ in frames], [f"[{','.join(payloads)}]" for _, payloads in frames])


def moments_between(step_us: int, start_us: int, stop_us: int) -> Ints:
    """The multiples of a step in ``[start_us, stop_us)``."""
    return np.arange(-(-start_us // step_us), -(-stop_us // step_us), dtype=np.int64) * step_us
