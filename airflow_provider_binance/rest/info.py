"""Reading exchangeInfo, megabytes of JSON, without holding up other threads for as long as that takes."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

_SYMBOLS = re.compile(r'"symbols"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def parse_info(body: bytes) -> dict[str, Any]:
    """The JSON object of an exchangeInfo answer, decoded symbol by symbol.

    The decoder does not let go of the interpreter before it is through: one symbol takes microseconds, all of them
    take a tenth of a second. Raises ValueError for what is no such object.
    """
    text = body.decode("utf-8")
    decoder = json.JSONDecoder(parse_float=Decimal)
    found = _SYMBOLS.search(text)
    if found is None:
        raise ValueError("no list of symbols")
    symbols: list[Any] = []
    at = _end(_BETWEEN, text, found.end())
    while text[at : at + 1] == "{":
        symbol, at = decoder.raw_decode(text, at)
        symbols.append(symbol)
        at = _end(_BETWEEN, text, at)
    if text[at : at + 1] != "]":
        raise ValueError(f"the list of symbols breaks off: {text[at : at + 40]!r}")
    info = decoder.decode(text[: found.end()] + text[at:])
    if not isinstance(info, dict) or not isinstance(info.get("rateLimits"), list):
        raise ValueError("no JSON object with rateLimits")
    info["symbols"] = symbols
    return info


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
