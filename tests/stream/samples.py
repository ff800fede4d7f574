"""Frames as Binance sends them, field by field as documented."""

from __future__ import annotations

import json
from typing import Any


def frame(stream: str, data: Any) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":"), ensure_ascii=False).encode()


def kline_frame(symbol: str, interval: str, slots: list[Any], *, closed: bool = True, sent_ms: int | None = None,
                **odd: Any) -> bytes:  # fmt: skip
    """The event of a kline, from the twelve slots that REST has."""
    opened, o, h, l, c, v, close, q, n, base, quote, _ = slots  # noqa: E741
    k = {
        "t": opened, "T": close, "s": symbol, "i": interval, "f": 100, "L": 200, "o": o, "c": c, "h": h, "l": l, "v": v,
        "n": n, "x": closed, "q": q, "V": base, "Q": quote, "B": "0", **odd,
    }  # fmt: skip
    return frame(f"{symbol.lower()}@kline_{interval}", {"e": "kline", "E": sent_ms or close + 5, "s": symbol, "k": k})


def agg_trade_frame(symbol: str, agg_trade_id: int, **more: Any) -> bytes:
    data = {
        "e": "aggTrade", "E": 1_700_000_000_100, "s": symbol, "a": agg_trade_id, "p": "42000.10000000",
        "q": "0.01000000", "f": 5, "l": 6, "T": 1_700_000_000_099, "m": True, **more,
    }  # fmt: skip
    return frame(f"{symbol.lower()}@aggTrade", data)
