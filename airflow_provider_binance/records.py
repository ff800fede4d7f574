"""The records users meet, and the small values that travel between the rooms of the core."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol

from airflow_provider_binance.registry import Dataset


class Kline(NamedTuple):
    """One closed kline, in the column order of the table `klines`.

    Times are aware UTC; prices and quantities are exact. `volume` is always in base asset. cm leaves the quote columns
    None, spot and um the contract columns.
    """

    market: str
    symbol: str
    interval: str
    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    close_time: datetime
    quote_volume: Decimal | None
    trade_count: int
    taker_buy_base_volume: Decimal
    taker_buy_quote_volume: Decimal | None
    contracts: Decimal | None = None
    taker_buy_contracts: Decimal | None = None


class AggTrade(NamedTuple):
    """One aggregate trade, in the column order of the table `agg_trades`.

    Quantities of cm are contracts. `normal_quantity` is what um's REST and streams say (the archive does not), and
    `is_best_match` is of spot. An aggregate that spot has withdrawn has price and quantity 0 and trade ids −1.
    """

    market: str
    symbol: str
    agg_trade_id: int
    price: Decimal
    quantity: Decimal
    normal_quantity: Decimal | None
    first_trade_id: int
    last_trade_id: int
    trade_time: datetime
    is_buyer_maker: bool
    is_best_match: bool | None = None


class Trade(NamedTuple):
    """One trade, in the column order of the table `trades`. cm has its quantity in contracts, and `base_quantity`."""

    market: str
    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal | None
    base_quantity: Decimal | None
    trade_time: datetime
    is_buyer_maker: bool


class BookTicker(NamedTuple):
    """The best bid and ask, in the column order of the table `book_tickers`.

    Spot's stream says neither when the event was sent nor when it happened. `received_at` is this machine's time.
    """

    market: str
    symbol: str
    update_id: int
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    event_time: datetime | None
    transaction_time: datetime | None
    received_at: datetime


class MarkPrice(NamedTuple):
    """The mark price of a futures contract, in the column order of the table `mark_prices`.

    `funding_rate` is a fraction; without a funding to come it is None, as is `next_funding_time`.
    """

    market: str
    symbol: str
    event_time: datetime
    mark_price: Decimal
    index_price: Decimal | None
    estimated_settle_price: Decimal | None
    funding_rate: Decimal | None
    next_funding_time: datetime | None


class Liquidation(NamedTuple):
    """A liquidation order, in the column order of the table `liquidations`. Binance tells of the last one a second."""

    market: str
    symbol: str
    event_time: datetime
    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    average_price: Decimal
    status: str
    last_filled_quantity: Decimal
    filled_quantity: Decimal
    trade_time: datetime


class Series(NamedTuple):
    """What is loaded as one line through time: `(market, dataset, symbol, interval)`, interval `''` if it has none."""

    market: str
    dataset: str
    symbol: str
    interval: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.market, self.dataset, self.symbol, self.interval) if part)


class Source(StrEnum):
    """Where rows come from, as the ledger spells it."""

    ARCHIVE = "archive"
    REST = "rest"
    STREAM = "stream"


class State(StrEnum):
    """What the ledger says of a range."""

    COMPLETE = "complete"
    EXCHANGE_GAP = "exchange_gap"
    NOT_LISTED = "not_listed"
    UNPUBLISHED = "unpublished"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    RETIRED = "retired"


#: States that need no further try: the rows are there, or it is known why they never will be.
EXPLAINED = frozenset({State.EXCHANGE_GAP, State.NOT_LISTED, State.UNAVAILABLE, State.RETIRED})
SETTLED = EXPLAINED | {State.COMPLETE}


@dataclass(frozen=True, slots=True)
class CoverageRange:
    """One line of the table `coverage`, without its series: what is known of `[start_us, end_us)`.

    `confirmed_by` is the SHA-256 of the archive file that confirmed the range (None: provisional). `evidence` is JSON
    text or ''. `next_check_at_us` is when an unpublished piece may be asked again.
    """

    start_us: int
    end_us: int
    state: State
    row_count: int = 0
    first_id: int | None = None
    last_id: int | None = None
    confirmed_by: str | None = None
    evidence: str = ""
    checked_at_us: int = 0
    next_check_at_us: int | None = None

    @property
    def is_provisional(self) -> bool:
        """Whether it is complete, and no archive file has confirmed it."""
        return self.state is State.COMPLETE and not self.confirmed_by


#: A row in the order of the columns that it has: times in µs, decimals as canonical text, integers and booleans as int.
Row = tuple[int | str | None, ...]


class Image(NamedTuple):
    """So many rows as the bytes of an SQLite database, in its table `rows`. `columns` says in SQL what the columns of
    the rows are there."""

    data: bytes
    rows: int
    columns: tuple[str, ...]


class Rows(Protocol):
    """Normalised rows of one series in the forms that stores take. Ascending by the time column, no duplicate keys.

    `columns` names the columns carried, in the order of both forms (a source never touches a column that it does not
    carry); the first ones are the dataset's key. COPY text has `copy_columns`: those without any that `Column.implied`
    lets it leave out.
    """

    columns: tuple[str, ...]

    @property
    def copy_columns(self) -> tuple[str, ...]:
        """The columns of `copy_chunks`; the day column is one of them, where the dataset has one."""

    def __len__(self) -> int: ...

    @property
    def first_us(self) -> int:
        """Time of the first row (there is at least one)."""

    @property
    def last_us(self) -> int:
        """Time of the last row."""

    def times_us(self) -> Sequence[int]:
        """The time of every row, ascending."""

    def key_bounds(self) -> tuple[int, int]:
        """Least and greatest value of the first column of the key."""

    def copy_chunks(self, series_id: int) -> Iterator[bytes]:
        """COPY text (delimiter `,`, newline at each end): `series_id`, then `copy_columns`; times as ISO text and
        offset."""

    def sqlite_chunks(self, *, images: int) -> Generator[Image | list[Row]]:
        """The rows of `tuples`, a few thousand at a time; as images where these can be made, at most so many."""

    def tuples(self) -> Iterable[Row]:
        """A tuple per row in `columns` order."""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """The line of `ingest_log` that commits with a batch; `published_us` and `etag` are those of an archive file."""

    source: Source
    source_ref: str
    started_at_us: int
    run_ref: str = ""
    sha256: str | None = None
    part: int = 1
    parts: int = 1
    published_us: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of one transaction: rows of one series, the ledger line, and what the ledger then knows of the window.

    `rows` None or empty writes no row: the line and the coverage still say that the source was asked.
    """

    dataset: Dataset
    series: Series
    start_us: int
    end_us: int
    rows: Rows | None
    line: LedgerLine
    coverage: Sequence[CoverageRange] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a batch did to the table, counted by the database. `kept` rows differed, but a source of higher rank won."""

    rows_read: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0
    rows_kept: int = 0

    def __add__(self, other: WriteResult) -> WriteResult:
        return WriteResult(
            self.rows_read + other.rows_read,
            self.rows_inserted + other.rows_inserted,
            self.rows_updated + other.rows_updated,
            self.rows_unchanged + other.rows_unchanged,
            self.rows_kept + other.rows_kept,
        )
