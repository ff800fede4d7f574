"""The payloads of Binance's streams as types, and the rows that they are.

Numbers are text until the store or a Decimal takes them: canonical, as everywhere. Times become microseconds, whichever
of milliseconds and microseconds they come in. A row has the dataset's columns as far as its stream carries them, in the
order of `columns`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from msgspec import Meta, Struct

from airflow_provider_binance.kline_rows import canonical as plain
from airflow_provider_binance.kline_rows import carried_columns
from airflow_provider_binance.market import INTERVALS, Market

Value = int | str | None
Values = tuple[Value, ...]

#: Of one more digit than milliseconds will have for three thousand years.
LEAST_US = 100_000_000_000_000

#: Prices and quantities come again and again: a third more book tickers a second with this memory (measured).
canonical = lru_cache(32_768)(plain)

#: What the databases can keep: whole numbers of 64 bits (a kline's count of 32), and times in ms or µs, of thirteen
#: digits at least, to the end of the year 9999.
Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Time = Annotated[int, Meta(ge=1_000_000_000_000, le=253_402_300_799_999_999)]

_COLUMNS: dict[str, tuple[str, ...]] = {
    "agg_trades": ("agg_trade_id", "price", "quantity", "normal_quantity", "first_trade_id", "last_trade_id",
                   "trade_time", "is_buyer_maker", "is_best_match"),
    "trades": ("trade_id", "price", "quantity", "trade_time", "is_buyer_maker"),
    "book_tickers": ("update_id", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "event_time",
                     "transaction_time", "received_at"),
    "mark_prices": ("event_time", "mark_price", "index_price", "estimated_settle_price", "funding_rate",
                    "next_funding_time"),
    "liquidations": ("event_time", "side", "order_type", "time_in_force", "quantity", "price", "average_price",
                     "status", "last_filled_quantity", "filled_quantity", "trade_time"),
}  # fmt: skip


def columns(dataset: str, market: Market) -> tuple[str, ...]:
    """The columns that the rows of a dataset's stream have."""
    return carried_columns(market) if dataset == "klines" else _COLUMNS[dataset]


def us(at: int) -> int:
    """A time in milliseconds or microseconds as microseconds."""
    return at if at >= LEAST_US else at * 1000


class Candle(Struct, gc=False):
    """`k` of a kline."""

    t: Time
    T: Time
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741  # Binance's own letters, as in all of these
    v: str
    n: Count
    x: bool
    q: str
    V: str
    Q: str


class KlinePayload(Struct, gc=False):
    """`<s>@kline_<i>`; it has no `st`."""

    E: Time
    s: str
    k: Candle
    st: int | None = None


class AggTradePayload(Struct, gc=False):
    """`<s>@aggTrade`."""

    E: Time
    s: str
    a: Whole
    p: str
    q: str
    f: Whole
    l: Whole  # noqa: E741
    T: Time
    m: bool
    M: bool | None = None
    nq: str | None = None
    st: int | None = None


class TradePayload(Struct, gc=False):
    """`<s>@trade`."""

    E: Time
    s: str
    t: Whole
    p: str
    q: str
    T: Time
    m: bool
    st: int | None = None


class BookTickerPayload(Struct, gc=False):
    """`<s>@bookTicker`; spot's has no time."""

    s: str
    u: Whole
    b: str
    B: str
    a: str
    A: str
    E: Time | None = None
    T: Time | None = None
    st: int | None = None


class MarkPricePayload(Struct, gc=False):
    """`<s>@markPrice`; `T` 0 says that there is no funding."""

    E: Time
    s: str
    p: str
    i: str | None = None
    P: str | None = None
    r: str | None = None
    T: Whole | None = None
    st: int | None = None


class Order(Struct, gc=False):
    """`o` of a liquidation."""

    s: str
    S: str
    o: str
    f: str
    q: str
    p: str
    ap: str
    X: str
    l: str  # noqa: E741
    z: str
    T: Time


class LiquidationPayload(Struct, gc=False):
    """`<s>@forceOrder`."""

    E: Time
    o: Order
    st: int | None = None

    @property
    def s(self) -> str:
        """The symbol, where the others have it."""
        return self.o.s


def kline(payload: KlinePayload, received_us: int) -> Values | None:
    """The row of a closed kline, slot by slot as REST has it; None while it is open."""
    k = payload.k
    if not k.x:
        return None
    opened, interval = us(k.t), INTERVALS[k.i]
    if interval.floor(opened) != opened:
        raise ValueError(f"no kline of {k.i} opens at {k.t}")
    # In microseconds it is …999999: floored to the millisecond, as from every source.
    closed = us(k.T) // 1000 * 1000
    if not opened <= closed < interval.next_open(opened):
        raise ValueError(f"close time {k.T} is none of a kline of {k.t}")
    return (
        opened, canonical(k.o), canonical(k.h), canonical(k.l), canonical(k.c), canonical(k.v), closed, canonical(k.q),
        k.n, canonical(k.V), canonical(k.Q),
    )  # fmt: skip


def agg_trade(payload: AggTradePayload, received_us: int) -> Values:
    """The row of an aggregate trade."""
    nq, best = payload.nq, payload.M
    return (
        payload.a, canonical(payload.p), canonical(payload.q), None if nq is None else canonical(nq), payload.f,
        payload.l, us(payload.T), 1 if payload.m else 0, None if best is None else 1 if best else 0,
    )  # fmt: skip


def trade(payload: TradePayload, received_us: int) -> Values:
    """The row of a trade."""
    return payload.t, canonical(payload.p), canonical(payload.q), us(payload.T), 1 if payload.m else 0


def book_ticker(payload: BookTickerPayload, received_us: int) -> Values:
    """The row of a best bid and ask."""
    return (
        payload.u, canonical(payload.b), canonical(payload.B), canonical(payload.a), canonical(payload.A),
        None if payload.E is None else us(payload.E), None if payload.T is None else us(payload.T), received_us,
    )  # fmt: skip


def mark_price(payload: MarkPricePayload, received_us: int) -> Values:
    """The row of a mark price; without a funding to come both its columns are unknown, not 0."""
    funding = us(payload.T) if payload.T else None
    rate = _known(payload.r) if funding is not None else None
    return us(payload.E), canonical(payload.p), _known(payload.i), _known(payload.P), rate, funding


def liquidation(payload: LiquidationPayload, received_us: int) -> Values:
    """The row of a liquidation order."""
    o = payload.o
    return (
        us(payload.E), o.S, o.o, o.f, canonical(o.q), canonical(o.p), canonical(o.ap), o.X, canonical(o.l),
        canonical(o.z), us(o.T),
    )  # fmt: skip


def _known(text: str | None) -> str | None:
    """A number, None for the empty text that says that there is none."""
    return canonical(text) if text else None


#: By dataset: the type of its payload and what makes its row of it.
PAYLOADS: dict[str, tuple[type[Struct], Callable[[Any, int], Values | None]]] = {
    "klines": (KlinePayload, kline),
    "agg_trades": (AggTradePayload, agg_trade),
    "trades": (TradePayload, trade),
    "book_tickers": (BookTickerPayload, book_ticker),
    "mark_prices": (MarkPricePayload, mark_price),
    "liquidations": (LiquidationPayload, liquidation),
}
