"""How an event of a kline is written."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_binance.simulator.candles import BASE_VOLUME_DECIMALS, SPOT_DECIMALS, decimal_texts
from airflow_provider_binance.simulator.intervals import close_time
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.streams.events import Events, quoted
from airflow_provider_binance.simulator.streams.tape import Tape

# Open, high, low, close, lots, amount, trades, bought lots, bought amount, place of the first trade.
OPEN, HIGH, LOW, CLOSE, LOTS, AMOUNT, COUNT, BOUGHT, BOUGHT_AMOUNT, FIRST = range(10)


def kline_events(
    tape: Tape,
    interval: str,
    unit_us: int,
    sent_us: Ints,
    opens_ms: list[int],
    columns: Sequence[Ints],
    *,
    closed: bool,
    zone_ms: int = 0,
) -> Events:
    """An event per candle that has traded; the columns are those named above."""
    instrument, ids = tape.instrument, tape.ticks.ids
    spot = instrument.market == "spot"
    symbol = quoted(instrument.symbol)
    prices, lots = instrument.price_decimals, instrument.quantity_decimals
    amounts = BASE_VOLUME_DECIMALS if instrument.market == "cm" else prices + lots
    middle = f',"s":{symbol},"i":"{interval}","f":'
    is_closed = "true" if closed else "false"
    ends = {open_ms: close_time(interval, open_ms + zone_ms) - zone_ms for open_ms in opens_ms}

    def texts(slot: int, decimals: int) -> list[str]:
        return decimal_texts(columns[slot], decimals, SPOT_DECIMALS if spot else decimals)

    rows = zip(
        (sent_us // unit_us).tolist(),
        opens_ms,
        ids(columns[FIRST]).tolist(),
        ids(columns[FIRST] + columns[COUNT] - 1).tolist(),
        texts(OPEN, prices),
        texts(CLOSE, prices),
        texts(HIGH, prices),
        texts(LOW, prices),
        texts(LOTS, lots),
        columns[COUNT].tolist(),
        texts(AMOUNT, amounts),
        texts(BOUGHT, lots),
        texts(BOUGHT_AMOUNT, amounts),
        strict=True,
    )
    return Events(
        sent_us.tolist(),
        [
            f'{{"e":"kline","E":{event},"s":{symbol},"k":{{"t":{open_ms * 1000 // unit_us},'
            f'"T":{(ends[open_ms] * 1000 + 999) // unit_us}{middle}{first},"L":{last},"o":"{opened}","c":"{close}",'
            f'"h":"{high}","l":"{low}","v":"{volume}","n":{count},"x":{is_closed},"q":"{amount}","V":"{bought}",'
            f'"Q":"{spent}","B":"0"}}}}'
            for event, open_ms, first, last, opened, close, high, low, volume, count, amount, bought, spent in rows
        ],
    )
