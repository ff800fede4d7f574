"""The registry of datasets: columns, key, sources and layout, said once and read by planner, normaliser, store and CLI.

Adding a dataset is one entry here and its normaliser in `normalize.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, Market


class Kind(StrEnum):
    """The type of a column: what the two stores make of it is theirs."""

    DECIMAL = "decimal"
    TIME = "time"
    INTEGER = "integer"
    SMALL_INTEGER = "small_integer"  # 32 bit in the physical table, bigint to the reader
    BOOLEAN = "boolean"
    TEXT = "text"


class Continuity(StrEnum):
    """How rows tell that none is missing: every grid instant has one, ids run without a hole, or they do not tell."""

    GRID = "grid"
    ID = "id"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a dataset, after market, symbol and (if the dataset has one) interval."""

    name: str
    kind: Kind
    nullable: bool = False
    #: NULL in PostgreSQL's physical table says the regular close there, the last millisecond before the next open time.
    #: Readers never see that; it saves a twentieth of the bytes and a sixth of COPY's work (measured).
    implied: bool = False
    #: The markets that have it: in the rows of the others it is NULL, in theirs it never is, unless it is `partial`:
    #: then not all of its sources say it.
    markets: tuple[Market, ...] = tuple(Market)
    partial: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether rows of its markets must have a value, though rows of others have none."""
        return self.markets != tuple(Market) and not self.partial


@dataclass(frozen=True, slots=True)
class Rule:
    """What is true of every sound row: `left` ≤ `right`, where None is 0; or, with `together`, both are 0 or neither.

    Where one of the two is NULL the rule says nothing.
    """

    left: str | None
    right: str
    together: bool = False

    def __str__(self) -> str:
        return f"{self.left} = 0 ⇔ {self.right} = 0" if self.together else f"{self.left or 0} ≤ {self.right}"


@dataclass(frozen=True, slots=True)
class Rollup:
    """How rows of a short interval make one of a longer: the columns that are first, highest, lowest and last.

    Every other column but times is a sum. A row whose `traded` is 0 has no part in the first three.
    """

    first: str
    highest: str
    lowest: str
    last: str
    traded: str


@dataclass(frozen=True, slots=True)
class RestPaging:
    """How one market's REST route is paged: path, the limits worth asking for, and the width of its window.

    `limits` ascend; what each weighs is in `rest/costs.py`.
    """

    path: str
    limits: tuple[int, ...]
    newest_first: bool = False
    max_window_days: int | None = None


@dataclass(frozen=True, slots=True)
class IdPaging:
    """How one market's REST route is paged by id: every page but the first is asked for by `fromId`.

    `fields` names the JSON fields of a row and the columns that they fill. `reach_us` is how far back the route goes,
    None: all the way. `newest` is the route whose newest rows tell where history ends. `is_dear`: a row weighs so much
    that only what the archive lacks is asked for, unless REST is forced.
    """

    path: str
    limit: int
    fields: Mapping[str, str]
    newest: str
    reach_us: int | None = None
    needs_key: bool = False
    is_dear: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """One dataset: its table is called as it is.

    `by_id` says how REST is paged where that goes by id, `archive_fields` what the fields of an archive line are where
    they differ from market to market (None: not kept). `contiguous` names the markets whose ids have no holes.
    `day_column` is the UTC day of the time column: PostgreSQL partitions the table by it, and there it joins the key.
    `first_stays`: the row that came first under a key is never changed.
    """

    name: str
    number: int
    markets: tuple[Market, ...]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time_column: str
    continuity: Continuity
    has_interval: bool
    archive_folder: str | None = None
    rest: Mapping[Market, RestPaging] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    rollup: Rollup | None = None
    by_id: Mapping[Market, IdPaging] = field(default_factory=dict)
    archive_fields: Mapping[Market, tuple[str | None, ...]] = field(default_factory=dict)
    contiguous: frozenset[Market] = frozenset()
    day_column: str | None = None
    first_stays: bool = False

    @property
    def is_streamed_only(self) -> bool:
        """Whether nothing but streams brings it."""
        return not (self.archive_folder or self.rest or self.by_id)

    def refuse_streamed(self, verb: str) -> None:
        """Raise InputError for a dataset that only streams bring: there is nothing to `verb` it from."""
        if self.is_streamed_only:
            raise InputError(
                f"dataset {self.name} comes from streams only, so that there is nothing to {verb} it from: use "
                f"`binance-ingest stream`. It takes: {' '.join(loadable())}",
                argument="dataset",
            )

    def rest_path(self, market: Market) -> str:
        """The route that brings rows of `market`."""
        return self.by_id[market].path if market in self.by_id else self.rest[market].path

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in table order, without market, symbol, interval."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)

    def columns_of(self, market: str) -> tuple[Column, ...]:
        """The columns that rows of `market` have a value in."""
        return tuple(column for column in self.columns if market in column.markets)


_QUOTED = (Market.SPOT, Market.UM)
_IN_CONTRACTS = (Market.CM,)
_PRICE = tuple(Column(name, Kind.DECIMAL) for name in ("open", "high", "low", "close"))

KLINES = Dataset(
    name="klines",
    number=1,
    markets=tuple(Market),
    columns=(
        Column("open_time", Kind.TIME),
        *_PRICE,
        Column("volume", Kind.DECIMAL),
        Column("close_time", Kind.TIME, implied=True),
        Column("quote_volume", Kind.DECIMAL, nullable=True, markets=_QUOTED),
        Column("trade_count", Kind.SMALL_INTEGER),
        Column("taker_buy_base_volume", Kind.DECIMAL),
        Column("taker_buy_quote_volume", Kind.DECIMAL, nullable=True, markets=_QUOTED),
        Column("contracts", Kind.DECIMAL, nullable=True, markets=_IN_CONTRACTS),
        Column("taker_buy_contracts", Kind.DECIMAL, nullable=True, markets=_IN_CONTRACTS),
    ),
    key=("open_time",),
    time_column="open_time",
    continuity=Continuity.GRID,
    has_interval=True,
    archive_folder="klines",
    rest={
        # The highest limit of each weight, below the edges of the bands, where documentation and measurement agree (99
        # and 499, not 100 and 500). Per unit of weight a page of 499 carries 1.7 × the rows of one of 1500.
        Market.SPOT: RestPaging("/api/v3/klines", (1000,)),
        Market.UM: RestPaging("/fapi/v1/klines", (99, 499, 1000, 1500)),
        Market.CM: RestPaging("/dapi/v1/klines", (99, 499, 1000, 1500), newest_first=True, max_window_days=200),
    },
    # Each holds in all 216,000 recorded klines of the archive, the truncated one before the halt of 2023 included.
    rules=(
        *(Rule("low", name) for name in ("open", "close", "high")),
        *(Rule(name, "high") for name in ("open", "close")),
        *(Rule(None, name) for name in ("low", "volume", "quote_volume", "trade_count", "taker_buy_base_volume",
                                        "taker_buy_quote_volume", "contracts", "taker_buy_contracts")),
        Rule("taker_buy_base_volume", "volume"),
        Rule("taker_buy_quote_volume", "quote_volume"),
        Rule("taker_buy_contracts", "contracts"),
        Rule("trade_count", "volume", together=True),
    ),
    rollup=Rollup("open", "high", "low", "close", "trade_count"),
)  # fmt: skip

#: Futures' aggregates are served so far back, by time and by id (measured: −4166 beyond it).
_AGGREGATES_REACH_US = 2 * DAY_US

_SPOT_AGGREGATE = {
    "a": "agg_trade_id", "p": "price", "q": "quantity", "f": "first_trade_id", "l": "last_trade_id", "T": "trade_time",
    "m": "is_buyer_maker", "M": "is_best_match",
}  # fmt: skip
_CM_AGGREGATE = {name: column for name, column in _SPOT_AGGREGATE.items() if name != "M"}
_UM_AGGREGATE = {**_CM_AGGREGATE, "nq": "normal_quantity"}

AGG_TRADES = Dataset(
    name="agg_trades",
    number=2,
    markets=tuple(Market),
    columns=(
        Column("agg_trade_id", Kind.INTEGER),
        Column("price", Kind.DECIMAL),
        Column("quantity", Kind.DECIMAL),
        # Not in the archive.
        Column("normal_quantity", Kind.DECIMAL, nullable=True, markets=(Market.UM,), partial=True),
        Column("first_trade_id", Kind.INTEGER),
        Column("last_trade_id", Kind.INTEGER),
        Column("trade_time", Kind.TIME),
        Column("is_buyer_maker", Kind.BOOLEAN),
        # A stream need not say it.
        Column("is_best_match", Kind.BOOLEAN, nullable=True, markets=(Market.SPOT,), partial=True),
    ),
    key=("agg_trade_id",),
    time_column="trade_time",
    continuity=Continuity.ID,
    has_interval=False,
    archive_folder="aggTrades",
    by_id={
        Market.SPOT: IdPaging("/api/v3/aggTrades", 1000, _SPOT_AGGREGATE, newest="/api/v3/aggTrades"),
        Market.UM: IdPaging(
            "/fapi/v1/aggTrades", 1000, _UM_AGGREGATE, newest="/fapi/v1/aggTrades", reach_us=_AGGREGATES_REACH_US
        ),
        Market.CM: IdPaging(
            "/dapi/v1/aggTrades", 1000, _CM_AGGREGATE, newest="/dapi/v1/aggTrades", reach_us=_AGGREGATES_REACH_US
        ),
    },
    archive_fields={
        Market.SPOT: tuple(_SPOT_AGGREGATE.values()),
        Market.UM: tuple(_CM_AGGREGATE.values()),
        Market.CM: tuple(_CM_AGGREGATE.values()),
    },
    # Aggregates that spot has withdrawn stay, with price and quantity 0 and trade ids −1.
    rules=(Rule(None, "price"), Rule(None, "quantity"), Rule("first_trade_id", "last_trade_id")),
    contiguous=frozenset(Market),
    day_column="trade_day",
)

_SPOT_TRADE = {
    "id": "trade_id", "price": "price", "qty": "quantity", "quoteQty": "quote_quantity", "time": "trade_time",
    "isBuyerMaker": "is_buyer_maker",
}  # fmt: skip
_CM_TRADE = {"baseQty" if name == "quoteQty" else name: column for name, column in _SPOT_TRADE.items()}
_CM_TRADE["baseQty"] = "base_quantity"

TRADES = Dataset(
    name="trades",
    number=3,
    markets=tuple(Market),
    columns=(
        Column("trade_id", Kind.INTEGER),
        Column("price", Kind.DECIMAL),
        Column("quantity", Kind.DECIMAL),
        # Streams do not say it.
        Column("quote_quantity", Kind.DECIMAL, nullable=True, markets=_QUOTED, partial=True),
        Column("base_quantity", Kind.DECIMAL, nullable=True, markets=_IN_CONTRACTS),
        Column("trade_time", Kind.TIME),
        Column("is_buyer_maker", Kind.BOOLEAN),
    ),
    key=("trade_id",),
    time_column="trade_time",
    continuity=Continuity.ID,
    has_interval=False,
    archive_folder="trades",
    by_id={
        Market.SPOT: IdPaging("/api/v3/historicalTrades", 1000, _SPOT_TRADE, newest="/api/v3/trades"),
        # The route goes back a month; where in it a time lies, only the aggregates tell.
        Market.UM: IdPaging(
            "/fapi/v1/historicalTrades", 500, _SPOT_TRADE, newest="/fapi/v1/trades", reach_us=_AGGREGATES_REACH_US,
            needs_key=True, is_dear=True,
        ),
        Market.CM: IdPaging(
            "/dapi/v1/historicalTrades", 500, _CM_TRADE, newest="/dapi/v1/trades", reach_us=_AGGREGATES_REACH_US,
            needs_key=True, is_dear=True,
        ),
    },
    archive_fields={
        Market.SPOT: (*_SPOT_TRADE.values(), None),
        Market.UM: tuple(_SPOT_TRADE.values()),
        Market.CM: tuple(_CM_TRADE.values()),
    },
    rules=tuple(Rule(None, name) for name in ("price", "quantity", "quote_quantity", "base_quantity")),
    # On futures ids are burnt by the prevention of self-trades, 20,000 on a day of one symbol.
    contiguous=frozenset({Market.SPOT}),
    day_column="trade_day",
)  # fmt: skip

_FUTURES = (Market.UM, Market.CM)

BOOK_TICKERS = Dataset(
    name="book_tickers",
    number=4,
    markets=tuple(Market),
    columns=(
        Column("update_id", Kind.INTEGER),
        Column("bid_price", Kind.DECIMAL),
        Column("bid_quantity", Kind.DECIMAL),
        Column("ask_price", Kind.DECIMAL),
        Column("ask_quantity", Kind.DECIMAL),
        # Spot says neither.
        Column("event_time", Kind.TIME, nullable=True),
        Column("transaction_time", Kind.TIME, nullable=True),
        Column("received_at", Kind.TIME),
    ),
    key=("update_id",),
    time_column="received_at",
    continuity=Continuity.NONE,
    has_interval=False,
    rules=tuple(Rule(None, name) for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")),
    day_column="received_day",
    first_stays=True,
)

MARK_PRICES = Dataset(
    name="mark_prices",
    number=5,
    markets=_FUTURES,
    columns=(
        Column("event_time", Kind.TIME),
        Column("mark_price", Kind.DECIMAL),
        Column("index_price", Kind.DECIMAL, nullable=True),
        Column("estimated_settle_price", Kind.DECIMAL, nullable=True),
        Column("funding_rate", Kind.DECIMAL, nullable=True),
        Column("next_funding_time", Kind.TIME, nullable=True),
    ),
    key=("event_time",),
    time_column="event_time",
    continuity=Continuity.NONE,
    has_interval=False,
    rules=(Rule(None, "mark_price"),),
    day_column="trade_day",
)

LIQUIDATIONS = Dataset(
    name="liquidations",
    number=6,
    markets=_FUTURES,
    columns=(
        Column("event_time", Kind.TIME),
        Column("side", Kind.TEXT),
        Column("order_type", Kind.TEXT),
        Column("time_in_force", Kind.TEXT),
        Column("quantity", Kind.DECIMAL),
        Column("price", Kind.DECIMAL),
        Column("average_price", Kind.DECIMAL),
        Column("status", Kind.TEXT),
        Column("last_filled_quantity", Kind.DECIMAL),
        Column("filled_quantity", Kind.DECIMAL),
        Column("trade_time", Kind.TIME),
    ),
    # Two orders of one instant are told apart by all that the exchange says of the order itself.
    key=("event_time", "side", "price", "quantity"),
    time_column="event_time",
    continuity=Continuity.NONE,
    has_interval=False,
    rules=(Rule(None, "quantity"), Rule("last_filled_quantity", "filled_quantity")),
    day_column="trade_day",
)

_DATASETS: dict[str, Dataset] = {
    entry.name: entry for entry in (KLINES, AGG_TRADES, TRADES, BOOK_TICKERS, MARK_PRICES, LIQUIDATIONS)
}


def datasets() -> tuple[Dataset, ...]:
    """All registered datasets, in the order of their numbers."""
    return tuple(sorted(_DATASETS.values(), key=lambda dataset: dataset.number))


def loadable() -> tuple[str, ...]:
    """The names of those that archive or REST bring."""
    return tuple(entry.name for entry in datasets() if not entry.is_streamed_only)


def dataset(name: str) -> Dataset:
    """The dataset called `name`; raises InputError with the registered names."""
    try:
        return _DATASETS[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown dataset {name!r}; this version has: {' '.join(sorted(_DATASETS))}") from None


def register(entry: Dataset) -> None:
    """Add a dataset; its name and number must be new."""
    if any(entry.name == d.name or entry.number == d.number for d in _DATASETS.values()):
        raise InputError(f"dataset {entry.name!r} (number {entry.number}) is registered already")
    _DATASETS[entry.name] = entry


def unregister(name: str) -> None:
    """Take a dataset out again (tests register their own)."""
    _DATASETS.pop(name, None)
