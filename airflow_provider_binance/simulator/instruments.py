"""What can be traded in the simulated world: a symbol of a market, its precision and its life."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.intervals import DAY_MS, HOUR_MS

MARKETS = ("spot", "um", "cm")
DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "cm:BTCUSD_PERP")

# Where Binance's own recorded history begins, roughly.
FIRST_LISTED_MS = {"spot": to_ms("2017-08-17T04:00"), "um": to_ms("2019-12-31"), "cm": to_ms("2020-08-10T07:00")}
PERPETUAL_DELIVERY_MS = 4133404800000
# A quarterly contract trades for the two quarters before its delivery at 08:00.
QUARTERLY_LIFE_MS = 182 * DAY_MS
# A delisted futures contract is still in exchangeInfo for a while, as SETTLING, and then vanishes.
SETTLING_MS = 30 * DAY_MS
# A futures contract is announced before it trades, as PENDING_TRADING.
PENDING_MS = 3 * DAY_MS

# What a request may ask for; END_OF_DAY and CANCEL_ONLY are states, but no filters.
SPOT_STATUSES = ("TRADING", "HALT", "BREAK")

QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY")

# base asset: middle price, price decimals (spot, um, cm), quantity decimals (spot, um)
_KNOWN: dict[str, tuple[str, tuple[int, int, int], tuple[int, int]]] = {
    "BTC": ("60000", (2, 2, 1), (5, 3)),
    "ETH": ("3000", (2, 2, 2), (4, 3)),
    "BNB": ("500", (2, 2, 3), (3, 2)),
    "SOL": ("150", (2, 3, 3), (3, 2)),
    "XRP": ("0.6", (4, 4, 4), (1, 1)),
    "ADA": ("0.5", (4, 4, 5), (1, 0)),
    "DOGE": ("0.12", (5, 5, 5), (0, 0)),
    "FIL": ("5", (3, 3, 3), (2, 1)),
    "LINK": ("15", (3, 3, 3), (2, 2)),
}


@dataclass(frozen=True)
class Instrument:
    """A symbol of one market; ``middle`` is the middle of its price range in units of the last price decimal."""

    market: str
    symbol: str
    base_asset: str
    quote_asset: str
    listed_ms: int
    delisted_ms: int | None
    price_decimals: int
    quantity_decimals: int
    middle: int
    contract_size: int = 0

    @property
    def pair(self) -> str:
        """The underlying: the symbol without ``_PERP`` or a delivery date."""
        return self.symbol.partition("_")[0]

    @property
    def delivery_date(self) -> str | None:
        """``YYMMDD`` of a contract with delivery."""
        suffix = self.symbol.partition("_")[2]
        return suffix if suffix.isdigit() else None

    def spot_status(self, now_ms: int) -> str:
        """What exchangeInfo of spot says of it."""
        return "TRADING" if self.is_listed(now_ms) else "BREAK"

    def is_listed(self, now_ms: int) -> bool:
        """Whether it trades at that moment."""
        return self.listed_ms <= now_ms and (self.delisted_ms is None or now_ms < self.delisted_ms)


def parse_symbols(spec: str) -> list[Instrument]:
    """The instruments of one ``--symbols`` word: ``[MARKET:]SYMBOL[@LISTED..[DELISTED]]``.

    Without a market, contracts with ``_`` go where they belong, all others to spot and um.

    Raises:
        ValueError: the word does not have that form.
    """
    name, _, life = spec.partition("@")
    market, _, symbol = name.rpartition(":")
    if market and market not in MARKETS:
        raise ValueError(f"market {market!r} in {spec!r} is none of {', '.join(MARKETS)}")
    if not symbol or re.search(r"[\s/a-z]", symbol):
        raise ValueError(f"{spec!r} is not [MARKET:]SYMBOL[@LISTED..DELISTED] with an upper-case symbol")
    listed, _, delisted = life.partition("..")
    markets = [market] if market else _markets_of(symbol)
    return [make_instrument(each, symbol, listed or None, delisted or None) for each in markets]


def make_instrument(
    market: str, symbol: str, listed: str | int | None = None, delisted: str | int | None = None
) -> Instrument:
    """One instrument with the precision of its asset; life as given, else as its name and market suggest."""
    base, quote = split_assets(symbol)
    digest = hashlib.sha256(f"{base}".encode()).digest()
    fallback = (str(1 + digest[0] % 40), (4, 4, 4), (2, 1))
    price, price_decimals, quantity_decimals = _KNOWN.get(base, fallback)
    decimals = price_decimals[MARKETS.index(market)]
    whole, _, fraction = price.partition(".")
    middle = int(whole + fraction) * 10 ** (decimals - len(fraction))
    listed_ms = to_ms(listed) if listed is not None else None
    delisted_ms = to_ms(delisted) if delisted is not None else None
    suffix = symbol.partition("_")[2]
    if suffix.isdigit() and len(suffix) == len("261225"):
        delivery_ms = to_ms(f"20{suffix[:2]}-{suffix[2:4]}-{suffix[4:]}") + 8 * HOUR_MS
        delisted_ms = delivery_ms if delisted_ms is None else delisted_ms
        listed_ms = delivery_ms - QUARTERLY_LIFE_MS if listed_ms is None else listed_ms
    return Instrument(
        market,
        symbol,
        base,
        quote,
        FIRST_LISTED_MS[market] if listed_ms is None else listed_ms,
        delisted_ms,
        decimals,
        0 if market == "cm" else quantity_decimals[MARKETS.index(market)],
        middle,
        contract_size=(100 if base == "BTC" else 10) if market == "cm" else 0,
    )


def split_assets(symbol: str) -> tuple[str, str]:
    """Base and quote asset as far as the name tells."""
    pair = symbol.partition("_")[0]
    for quote in QUOTE_ASSETS:
        if pair.endswith(quote) and pair != quote:
            return pair.removesuffix(quote), quote
    return pair, "USDT"


def _markets_of(symbol: str) -> list[str]:
    pair, _, contract = symbol.partition("_")
    if not contract:
        return ["spot", "um"]
    return ["cm"] if pair.endswith("USD") else ["um"]
