"""Where the weight budget lives, so that all who share an IP address share it: in this process, or in a file; see
`budget_postgres` and `budget_redis` for what several hosts share.

A store does one atomic step, `transact`, and keeps a small cache beside it (exchangeInfo, listings, first candles).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow_provider_binance.errors import ConfigError, IngestError, StoreUnavailableError, ThrottledError
from airflow_provider_binance.masking import mask_url

log = logging.getLogger(__name__)

# What a budget's file begins with; one that was broken by a power cut may be any part of it.
_BEGINNING = b'{"values":'
_FILE_URL = re.compile(r"file://(?:localhost)?(/[^?#\0]*)")

T = TypeVar("T")
Step = Callable[[dict[str, Any] | None], tuple[dict[str, Any], T]]

#: What a step is given when the value was there and is lost: no state, hence a suspect one.
LOST: dict[str, Any] = {"lost": True}
# A local file answers in under a millisecond; who holds the lock for this long was stopped, not busy.
LOCK_TIMEOUT_SECONDS = 30.0
# A step takes about a millisecond; filelock's own pause of 50 would be most of what a request waits.
LOCK_POLL_SECONDS = 0.002
# A corrupted file is distrusted for the longest window, so that every pool starts in a fresh one.
DISTRUST_SECONDS = 300.0
# Each simulator on its own port has keys of its own; only the most recent ones are worth keeping.
MOST_KEYS = 64
# The cache: nobody asks for what is older than 30 days, and listings of some thousand series fit.
CACHE_SECONDS = 31 * 86_400.0
CACHE_ENTRIES = 10_000
CACHE_BYTES = 256 << 20
# What a full disk, a quota, or too many open files say: it may pass.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO})
# So often who writes to the cache cleans it first.
CLEAN_SECONDS = 3600.0


class BudgetStore(ABC):
    """The shared memory of the weight budget."""

    @abstractmethod
    def transact(self, key: str, step: Step[T]) -> T:
        """Replace the value under `key` by what `step` makes of it (None: no value yet), and return step's result.

        Atomic among all who use the store; a step that raises changes nothing. `step` must be quick, and may be called
        again when somebody else was faster: only its last result counts.

        Raises:
            StoreUnavailableError: the store cannot be reached now; nothing is known to have changed.
        """

    @abstractmethod
    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        """What was put under `key`, unless it is older."""

    @abstractmethod
    def cache_put(self, key: str, value: bytes) -> None:
        """Keep `value`; a cache that cannot be written costs time and nothing else."""

    def close(self) -> None:
        """Let go of connections; they are opened again when needed."""
        return


class MemoryBudgetStore(BudgetStore):
    """The budget of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, Any]] = {}
        self._cache: dict[str, tuple[float, bytes]] = {}  # the oldest first
        self._cache_bytes = 0

    def transact(self, key: str, step: Step[T]) -> T:
        with self._lock:
            value, result = step(self._values.get(key))
            self._values[key] = value
            return result

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        with self._lock:
            put_at, value = self._cache.get(key, (float("-inf"), b""))
        return value if time.monotonic() - put_at <= max_age_seconds else None

    def cache_put(self, key: str, value: bytes) -> None:
        with self._lock:
            self._drop(key)
            self._cache[key] = (time.monotonic(), value)
            self._cache_bytes += len(value)
            while len(self._cache) > CACHE_ENTRIES or (self._cache_bytes > CACHE_BYTES and len(self._cache) > 1):
                self._drop(next(iter(self._cache)))

    def _drop(self, key: str) -> None:
        self._cache_bytes -= len(self._cache.pop(key, (0.0, b""))[1])


class FileBudgetStore(BudgetStore):
    """The budget of one host: a JSON file, replaced whole under a lock file that the kernel frees when a holder dies.

    A file of somebody else is never replaced.

    Raises:
        ConfigError: the directory cannot be made or written; later, that the file is none of a weight budget.
    """

    def __init__(self, path: str | Path) -> None:
        from filelock import FileLock  # here, so that importing the package stays cheap

        self.path = Path(path).expanduser().absolute()
        self._thread_lock = threading.Lock()
        self._cleaned = float("-inf")
        self._cache_directory = self.path.with_name(self.path.name + ".cache")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path.parent, os.W_OK | os.X_OK) or self.path.is_dir():
                raise PermissionError(f"no right to write {self.path}")
        except OSError as error:
            raise self._unwritable(error) from error
        self._file_lock = FileLock(f"{self.path}.lock", timeout=LOCK_TIMEOUT_SECONDS)

    def transact(self, key: str, step: Step[T]) -> T:
        from filelock import Timeout

        try:
            with self._thread_lock, self._file_lock.acquire(poll_interval=LOCK_POLL_SECONDS):
                document = self._read()
                entry = document["values"].get(key)
                lost = document.get("lost_at", 0.0) > time.time() - DISTRUST_SECONDS
                value, result = step(entry[1] if entry else (LOST if lost else None))
                document["values"][key] = [time.time(), value]
                self._write(document)
                return result
        except Timeout as error:
            raise ThrottledError(
                f"the weight budget's file {self.path} stayed locked for {LOCK_TIMEOUT_SECONDS:.0f} s",
                retry_after=LOCK_TIMEOUT_SECONDS,
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        path = self._cache_path(key)
        try:
            if time.time() - path.stat().st_mtime <= max_age_seconds:
                return unpacked(path.read_bytes())
        except OSError:
            pass  # not there
        return None

    def cache_put(self, key: str, value: bytes) -> None:
        try:
            self._cache_directory.mkdir(exist_ok=True)
            self._clean()
            _replace(self._cache_path(key), packed(value))
        except OSError as error:
            log.warning("cannot write the cache beside the weight budget: path=%s: %s", self._cache_directory, error)

    def _clean(self) -> None:
        """Remove what is too old or too much, the oldest first, and what a killed process left half written."""
        if time.monotonic() - self._cleaned < CLEAN_SECONDS:
            return
        self._cleaned = time.monotonic()
        found = []
        for entry in os.scandir(self._cache_directory):
            try:
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
            except OSError:
                pass  # another process cleans too
        entries = total = 0
        for modified, size, path in sorted(found, reverse=True):
            entries, total = entries + 1, total + size
            half_written = Path(path).name.startswith(".") and modified < time.time() - CLEAN_SECONDS
            too_old = modified < time.time() - CACHE_SECONDS
            if half_written or too_old or entries > CACHE_ENTRIES or total > CACHE_BYTES:
                Path(path).unlink(missing_ok=True)

    def _cache_path(self, key: str) -> Path:
        return self._cache_directory / hashlib.sha256(key.encode()).hexdigest()

    def _read(self) -> dict[str, Any]:
        content = b""
        try:
            content = self.path.read_bytes()
            document = json.loads(content)
            if isinstance(document["values"], dict) and all(
                isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict)
                for entry in document["values"].values()
            ):
                return dict(document)
        except FileNotFoundError:
            return {"values": {}}
        except (ValueError, KeyError, TypeError):
            pass  # told below, for every way of being broken
        if not _was_budget(content):
            raise ConfigError(
                f"rate_limit_store: {self.path} is no file of a weight budget, and is left alone. Name another one "
                f"(BINANCE_RATE_LIMIT_STORE=file:///path), or remove this one if nobody needs it",
                field="rate_limit_store",
            )
        log.warning("the weight budget's file is corrupted and starts anew: path=%s", self.path)
        return {"values": {}, "lost_at": time.time()}

    def _write(self, document: dict[str, Any]) -> None:
        values = document["values"]
        if len(values) > MOST_KEYS:
            newest = sorted(values, key=lambda key: values[key][0], reverse=True)[:MOST_KEYS]
            document["values"] = {key: values[key] for key in newest}
        _replace(self.path, json.dumps(document, separators=(",", ":")).encode())

    def _unwritable(self, error: OSError) -> IngestError:
        if error.errno in _PASSING:
            return StoreUnavailableError(
                f"the weight budget's file {self.path} cannot be written now: {error.strerror}. Make room there, or "
                f"name another place in rate_limit_store (BINANCE_RATE_LIMIT_STORE)"
            )
        return ConfigError(
            f"cannot write the weight budget's file {self.path}: {error.strerror or error}. Set rate_limit_store "
            f"(BINANCE_RATE_LIMIT_STORE) to file:///path of a writable directory, or to memory:// if this process is "
            f"alone behind its IP address",
            field="rate_limit_store",
        )


def _was_budget(content: bytes) -> bool:
    """Whether a file that cannot be read as a budget may have been one: empty, zeros, or with its beginning."""
    beginning = b"".join(content[:64].strip(b"\0").split())[: len(_BEGINNING)]
    return _BEGINNING.startswith(beginning)


def default_budget_path() -> Path:
    """Where `auto` keeps the budget: `airflow-provider-binance/budget.json` in `~/.cache`, or in `$XDG_CACHE_HOME`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base and Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "airflow-provider-binance" / "budget.json"


def packed(value: bytes) -> bytes:
    """A cached value as it is kept: exchangeInfo is megabytes, and shrinks to a tenth."""
    return zlib.compress(value, 1)


def unpacked(kept: bytes) -> bytes | None:
    """The value that `packed` was given; None for anything else."""
    try:
        return zlib.decompress(kept)
    except zlib.error:
        return None


_process_store = MemoryBudgetStore()
POSTGRES_SCHEMES = ("postgresql://", "postgresql+psycopg://")
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_budget_store(url: str, store_url: str = "") -> BudgetStore:
    """The store that `rate_limit_store` names; `memory://` is one for the whole process. Connects to nothing yet.

    Args:
        url: the setting. `auto` is the ingest database's own server if that is PostgreSQL, else a file.
        store_url: the ingest database.

    Raises:
        ConfigError: not one of the accepted forms, its driver is missing, or the file cannot be written.
    """
    url = url.strip()
    if url == "auto":
        url = store_url if store_url.startswith(POSTGRES_SCHEMES) else default_budget_path().as_uri()
    if url in {"memory", "memory://"}:
        return _process_store
    if url.startswith(POSTGRES_SCHEMES):
        return _postgres(url)
    if url.startswith(_REDIS_SCHEMES):
        return _redis(url)
    if (named := _FILE_URL.fullmatch(url)) is not None:
        return FileBudgetStore(unquote(named[1]))
    raise ConfigError(
        f"rate_limit_store={mask_url(url)!r} is not supported; use auto, memory://, file:///absolute/path, "
        f"postgresql://user:password@host/database or redis://host",
        field="rate_limit_store",
    )


def _postgres(url: str) -> BudgetStore:
    try:
        from airflow_provider_binance.rest.budget_postgres import PostgresBudgetStore
    except ImportError as error:
        raise _lacks("PostgreSQL", "psycopg", "postgres") from error
    return PostgresBudgetStore(url)


def _redis(url: str) -> BudgetStore:
    try:
        from airflow_provider_binance.rest.budget_redis import RedisBudgetStore
    except ImportError as error:
        raise _lacks("Redis", "redis", "redis") from error
    return RedisBudgetStore(url)


def _lacks(where: str, driver: str, extra: str) -> ConfigError:
    return ConfigError(
        f"the weight budget in {where} needs the driver {driver}: pip install 'airflow-provider-binance[{extra}]'",
        field="rate_limit_store",
    )


def _replace(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all. No fsync: after a power cut the file may be broken, which is then seen."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
