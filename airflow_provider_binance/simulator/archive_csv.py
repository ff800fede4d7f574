"""What is written in an archive file: columns, header rows, units and number formats, and some known defects."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import repeat

from airflow_provider_binance.simulator.archive_files import ArchiveFile
from airflow_provider_binance.simulator.candles import BASE_VOLUME_DECIMALS, Row, decimal_texts
from airflow_provider_binance.simulator.clock import from_ms, to_ms
from airflow_provider_binance.simulator.fills import Trades
from airflow_provider_binance.simulator.noise import Ints
from airflow_provider_binance.simulator.rest_trades import amount_texts, price_texts, quantity_texts
from airflow_provider_binance.simulator.ticks import Aggregates, Ticks

KLINES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
AGG_TRADES_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
TRADES_HEADER = {
    "um": "id,price,qty,quote_qty,time,is_buyer_maker\n",
    "cm": "id,price,qty,base_qty,time,is_buyer_maker\n",
}
KLINES_HEADER_SINCE_MS = to_ms("2022-05-01")
TICKS_HEADER_SINCE_MS = to_ms("2022-08-10")
SPOT_MICROSECONDS_SINCE_MS = to_ms("2025-01-01")
# Some of the files of this year were uploaded again later, with a header.
CM_MIXED_YEAR = 2021
# Binance's own: blocks of rows out of order.
DISORDERED = {("um", "monthly", "aggTrades", "2023-05"), ("um", "monthly", "aggTrades", "2023-11")}
BLOCK_ROWS = 500


def header_of(file: ArchiveFile) -> str:
    """The header row, empty in files without one: all of spot, and older ones of futures."""
    market = file.instrument.market
    if market == "spot":
        return ""
    header = {"aggTrades": AGG_TRADES_HEADER, "trades": TRADES_HEADER[market]}.get(file.kind, KLINES_HEADER)
    if file.start_ms >= (KLINES_HEADER_SINCE_MS if file.is_klines else TICKS_HEADER_SINCE_MS):
        return header
    again = market == "cm" and from_ms(file.start_ms).year == CM_MIXED_YEAR and zlib.crc32(file.key.encode()) % 8 == 0
    return header if again else ""


def in_microseconds(file: ArchiveFile) -> bool:
    """Whether the times of the file are microseconds."""
    return file.instrument.market == "spot" and file.start_ms >= SPOT_MICROSECONDS_SINCE_MS


def kline_lines(file: ArchiveFile, rows: Sequence[Row]) -> list[str]:
    """Lines of klines."""
    fine, last = ("000", "999") if in_microseconds(file) else ("", "")
    return [
        f"{row[0]}{fine},{','.join(row[1:6])},{row[6]}{last},{row[7]},{row[8]},{','.join(row[9:])}\n" for row in rows
    ]


def trade_lines(file: ArchiveFile, ticks: Ticks, found: Trades) -> list[str]:
    """Lines of trades."""
    instrument, unit_us = file.instrument, 1 if in_microseconds(file) else 1000
    ids, times = ticks.ids(found.ordinal).tolist(), (found.time_us // unit_us).tolist()
    if instrument.market == "spot":
        columns = (
            ids,
            price_texts(instrument, found.price),
            quantity_texts(instrument, found.lots),
            amount_texts(instrument, found.amount),
            times,
            found.buyer_maker.tolist(),
        )
        return [f"{a},{b},{c},{d},{e},{f},True\n" for a, b, c, d, e, f in zip(*columns, strict=True)]
    amounts = instrument.price_decimals + instrument.quantity_decimals
    columns = (
        ids,
        _short(found.price, instrument.price_decimals),
        _short(found.lots, instrument.quantity_decimals),
        _short(found.amount, BASE_VOLUME_DECIMALS if instrument.market == "cm" else amounts),
        times,
        map(_LOWER.__getitem__, found.buyer_maker.tolist()),
    )
    return [f"{a},{b},{c},{d},{e},{f}\n" for a, b, c, d, e, f in zip(*columns, strict=True)]


def aggregate_lines(file: ArchiveFile, found: Aggregates) -> list[str]:
    """Lines of aggregates."""
    instrument, unit_us = file.instrument, 1 if in_microseconds(file) else 1000
    spot = instrument.market == "spot"
    makers = found.buyer_maker.tolist()
    columns = (
        found.ordinal.tolist(),
        price_texts(instrument, found.price) if spot else _short(found.price, instrument.price_decimals),
        quantity_texts(instrument, found.lots) if spot else _short(found.lots, instrument.quantity_decimals),
        found.first.tolist(),
        found.last.tolist(),
        (found.time_us // unit_us).tolist(),
        makers if spot else map(_LOWER.__getitem__, makers),
        repeat(",True" if spot else ""),
    )
    lines = [f"{a},{b},{c},{d},{e},{f},{g}{h}\n" for a, b, c, d, e, f, g, h in zip(*columns, strict=False)]
    month = f"{from_ms(file.start_ms):%Y-%m}"
    return _out_of_order(lines) if (instrument.market, file.partition, file.kind, month) in DISORDERED else lines


_LOWER = {True: "true", False: "false"}


def _short(values: Ints, decimals: int) -> list[str]:
    """Numbers as futures files have them: without zeros at the end, but for one behind the point."""
    if decimals == 0:
        return [f"{value}.0" for value in values.tolist()]
    texts = (text.rstrip("0") for text in decimal_texts(values, decimals, decimals))
    return [text + "0" if text.endswith(".") else text for text in texts]


def _out_of_order(lines: list[str]) -> list[str]:
    """Every second block of rows comes before the one that it follows."""
    blocks = [lines[first : first + BLOCK_ROWS] for first in range(0, len(lines), BLOCK_ROWS)]
    for first in range(0, len(blocks) - 1, 4):
        blocks[first], blocks[first + 1] = blocks[first + 1], blocks[first]
    return [line for block in blocks for line in block]
