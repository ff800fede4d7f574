"""`Store`, the contract that both databases keep, and `open_store`, which picks one by URL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Row, Series, WriteResult
from airflow_provider_binance.registry import Dataset
from airflow_provider_binance.rows import ManyRows
from airflow_provider_binance.store.inspection import Inspection
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Progress, Sidecar

ACCEPTED = (
    "accepted are postgresql+psycopg://user:password@host:5432/database, sqlite:///relative/path.db, "
    "sqlite:////absolute/path.db and a pathlib.Path"
)


class ArchiveLine(NamedTuple):
    """One line of `ingest_log` whose source is an archive file: which file gave (or lacked) what range.

    `published_us` and `etag` are None in lines of before migration 0002. `started_us`: when whoever read it began.
    """

    source_ref: str
    sha256: str | None
    start_us: int
    end_us: int
    part: int
    parts: int
    published_us: int | None = None
    etag: str | None = None
    started_us: int = 0


class StoreState(NamedTuple):
    """A store as it is found: its tables, the migrations it lacks, whose data it holds, and the rights that loading
    needs and this role lacks, in words."""

    has_tables: bool
    lacking: tuple[str, ...]
    environment: str | None
    refused: tuple[str, ...]


class Store(Inspection):
    """An ingest database. Opening is free: the first call that needs the database connects.

    Reading never creates anything: on a missing or empty database it finds nothing. Every method raises StoreError or
    one of its kinds (ConfigError where the URL can name no database), never the driver's own error, and a connection
    that was lost is made anew by the next call. One object serves one thread at a time (others wait).
    """

    #: How to call this store in print: passwords masked, a SQLite path absolute.
    url: str
    #: The time, in µs, for `finished_at` and `corrected_at`: this machine's, unless the caller puts its own here.
    clock: Callable[[], int]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def server_url(self) -> str:
        """The server that keeps it, password included, for what shall live beside it; '' for a store without one."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection. The store may be used again."""

    def another(self) -> Store | None:
        """A store over the same database with a connection of its own; None where only one can write at a time."""
        return None

    @abstractmethod
    def exists(self) -> bool:
        """Whether the tables are there."""

    @abstractmethod
    def migrate(self) -> list[str]:
        """Apply the migrations that are lacking and return their names. Safe when many processes start at once."""

    @abstractmethod
    def inspect(self) -> StoreState:
        """The store as it is found; changes nothing. Raises StoreVersionError if its tables are too new."""

    @abstractmethod
    def environment(self) -> str | None:
        """The environment recorded at the first load, None before it."""

    @abstractmethod
    def ensure_environment(self, environment: str) -> None:
        """Record `environment` at the first load; raises EnvironmentMismatchError if another one is recorded.

        Makes the tables of an empty database, unless the store was opened with `create=False`.
        """

    @abstractmethod
    def coverage(
        self, dataset: str, series: Iterable[Series], start_us: int, end_us: int
    ) -> dict[Series, list[CoverageRange]]:
        """For each of `series` the ranges that overlap the window, ascending, not clipped to it."""

    @abstractmethod
    def series(self, dataset: str | None = None) -> list[Series]:
        """Every series that the ledger knows, in order."""

    @abstractmethod
    def row_counts(self, dataset: str, series: Series, windows: Sequence[tuple[int, int]]) -> list[int]:
        """The number of rows in each of `windows`, counted in the table."""

    @abstractmethod
    def rows(self, dataset: str, series: Series, start_us: int, end_us: int) -> Iterator[Row]:
        """The rows of a window, ascending, in the dataset's column order: times in µs, decimals as canonical text.

        Ascending is by time; where a table has days, by these and the ids.
        """

    @abstractmethod
    def id_time(self, series: Series, row_id: int, start_us: int, end_us: int) -> int | None:
        """The time of the row with this id, if it lies in the window; for datasets keyed by ids."""

    @abstractmethod
    def archive_lines(self, series: Series, start_us: int, end_us: int) -> list[ArchiveLine]:
        """The archive files consulted for a window, in the order in which they were."""

    @abstractmethod
    def archive_lines_of(self, series: Iterable[Series], start_us: int, end_us: int) -> dict[Series, list[ArchiveLine]]:
        """As `archive_lines`, for each of many series of one dataset."""

    @abstractmethod
    def made_us(self) -> int | None:
        """When the tables were made, by which one store can be told from another; None if they are not there."""

    @abstractmethod
    def lines_after(self, series: Series, line: int) -> list[tuple[int, int, int]]:
        """The lines of `ingest_log` of a series with a number above `line`, ascending: number, start and end.

        Of one series, whatever was committed later has the higher number.
        """

    @abstractmethod
    def corrected(self, dataset: str, since_us: int) -> list[tuple[str, int, bool]]:
        """The rows that were corrected since: key, when last, and whether a value was taken away (as of a row that is
        gone)."""

    @abstractmethod
    def write(self, batch: Batch) -> WriteResult:
        """Write rows, ledger line and coverage in one transaction: after any end, all are there or none is."""

    @abstractmethod
    def held(self) -> AbstractContextManager[Callable[[], None]]:
        """Where `write` may hold batches of one series back, to commit them together: at the latest when it is left, by
        an error too, or when what it gives is called. Who waits for anything else calls that."""

    @abstractmethod
    def write_flush(self, batches: Sequence[Batch], line: LedgerLine, many: Sequence[ManyRows] = ()) -> WriteResult:
        """Write what a stream brought of many series, in one transaction with one line for each dataset (that of each
        batch is passed over). `many` is rows alone, of which batches may tell the coverage."""

    @abstractmethod
    def beat(self, sidecar: Sidecar, progress: Sequence[Progress] = (), *, ttl_seconds: float) -> bool:
        """Say that a sidecar lives, at the database's time; makes the tables of an older store.

        False if its last beat is longer ago than `ttl_seconds`, or there is none: its leases may be another's.
        """

    @abstractmethod
    def sidecars(self) -> list[Sidecar]:
        """The sidecars that did not say goodbye, the youngest beat first."""

    @abstractmethod
    def progress(self) -> list[Progress]:
        """How far the streams of each sidecar came."""

    @abstractmethod
    def leases(self) -> list[Lease]:
        """Which series is whose."""

    @abstractmethod
    def change_leases(self, instance: str, choose: Callable[[list[Lease], list[Sidecar]], LeaseChange]) -> LeaseChange:
        """Do what `choose` says of the leases and sidecars as they are, in one transaction that no other joins."""

    @abstractmethod
    def forget_sidecars(self, instances: Sequence[str]) -> None:
        """Take out sidecars that end, with their leases."""

    @abstractmethod
    def roll_up(self) -> int:
        """Make one line of all those that flushes left in an hour, of one dataset and `run_ref`, once it is over.

        Counts are summed; range and times go from the first to the last. Each hour is one transaction; several
        processes may do it at once. Returns how many lines went.
        """

    @abstractmethod
    def record_coverage(self, dataset: Dataset | str, series: Series, ranges: Iterable[CoverageRange]) -> None:
        """Lay `ranges` over the coverage of a series, without rows and without a line of `ingest_log`."""


def open_store(url: str | Path, *, schema: str | None = None, create: bool = True) -> Store:
    """The store that `url` names, not connected yet; raises ConfigError for any other form of URL.

    Args:
        url: `postgresql+psycopg://…` (or `postgresql://…`), `sqlite:///relative`, `sqlite:////absolute`, or a path.
        schema: the PostgreSQL schema of the tables; default: the role's search path decides. SQLite has none.
        create: whether the first write to an empty database makes the tables.
    """
    if isinstance(url, Path):
        return _sqlite(url, create)
    text = url.strip()
    if text.startswith("sqlite:///"):
        path = text.removeprefix("sqlite:///")
        if not path or path == ":memory:" or "?" in path:
            raise ConfigError(
                f"{text!r} names no SQLite file (parameters are not taken): {ACCEPTED}", field="store_url"
            )
        return _sqlite(Path(path), create)
    if text.startswith(("postgresql+psycopg://", "postgresql://")):
        return _postgres(text, schema, create)
    raise ConfigError(f"store URL {mask_url(text)!r} is none that this package knows: {ACCEPTED}", field="store_url")


def _sqlite(path: Path, create: bool) -> Store:
    from airflow_provider_binance.store.sqlite import SqliteStore

    return SqliteStore(path, create=create)


def _postgres(url: str, schema: str | None, create: bool) -> Store:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        from airflow_provider_binance.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs the driver psycopg: pip install 'airflow-provider-binance[postgres]'", field="store_url"
        ) from error
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause: that one repeats the URL, with the password.
        raise ConfigError(f"store URL {mask_url(url)!r} cannot be read: {ACCEPTED}", field="store_url") from None
    settings: dict[str, str] = {}
    named = {"host": parsed.host, "port": parsed.port, "user": parsed.username, "password": parsed.password,
             "dbname": parsed.database}  # fmt: skip
    for name, value in {**named, **parsed.query}.items():
        if value is not None:
            settings[name] = ",".join(value) if isinstance(value, tuple) else str(value)
    return PostgresStore(settings, url=mask_url(url), schema=schema, create=create)
