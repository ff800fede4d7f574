"""What Binance calls its streams, and on which path of which host they are served."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market, parse_interval
from airflow_provider_binance.records import Series

_FUTURES = (Market.UM, Market.CM)


@dataclass(frozen=True, slots=True)
class Kind:
    """The streams of one dataset: what follows `<symbol>@`, the markets that have them, um's path, and what tells that
    nothing is missing."""

    suffix: str
    markets: tuple[Market, ...]
    um_path: str = "market"


#: By dataset. um's `@trade` is undocumented and its delivery unconfirmed, so that trades are spot's only.
KINDS: dict[str, Kind] = {
    "klines": Kind("kline_", tuple(Market)),
    "agg_trades": Kind("aggTrade", tuple(Market)),
    "trades": Kind("trade", (Market.SPOT,)),
    "book_tickers": Kind("bookTicker", tuple(Market), "public"),
    "mark_prices": Kind("markPrice@1s", _FUTURES),
    "liquidations": Kind("forceOrder", _FUTURES),
}


def stream_name(series: Series) -> str:
    """The stream of a series, in lower case as Binance wants it: in upper case it is acknowledged and stays silent.

    Raises:
        InputError: the market has no such stream.
    """
    kind, market = _kind(series), Market(series.market)
    if series.dataset == "klines":
        return f"{series.symbol.lower()}@{kind.suffix}{parse_interval(series.interval, market)}"
    return f"{series.symbol.lower()}@{kind.suffix}"


def stream_path(series: Series) -> str:
    """The first part of the path under which the stream is served: um's are routed, the other hosts have none."""
    return _kind(series).um_path if series.market == Market.UM else ""


def encoded(name: str) -> str:
    """A stream's name as it stands in a URL: what is not ASCII goes percent-encoded."""
    return quote(name, safe="@!_+:-.")


def _kind(series: Series) -> Kind:
    kind = KINDS.get(series.dataset)
    if kind is None:
        raise InputError(f"there is no stream of dataset {series.dataset!r}; streams: {' '.join(KINDS)}")
    if series.market not in kind.markets:
        accepted = " ".join(name for name, one in KINDS.items() if series.market in one.markets)
        raise InputError(f"market {series.market} has no stream of {series.dataset}; it has: {accepted}")
    return kind
