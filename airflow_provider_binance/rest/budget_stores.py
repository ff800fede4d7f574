"""Where the weight budget lives, so that all who share an IP address share it: in this process, or in a file.

A store does one atomic step, `transact`, and keeps a small cache beside it (exchangeInfo, listings, first candles).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from airflow_provider_binance.errors import ConfigError, ThrottledError
from airflow_provider_binance.masking import mask_url

log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[dict[str, Any] | None], tuple[dict[str, Any], T]]

#: What a step is given when the value was there and is lost: no state, hence a suspect one.
LOST: dict[str, Any] = {"lost": True}
# A local file answers in under a millisecond; who holds the lock for this long was stopped, not busy.
LOCK_TIMEOUT_SECONDS = 30.0
# A corrupted file is distrusted for the longest window, so that every pool starts in a fresh one.
DISTRUST_SECONDS = 300.0
# Each simulator on its own port has keys of its own; only the most recent ones are worth keeping.
MOST_KEYS = 64


class BudgetStore(ABC):
    """The shared memory of the weight budget."""

    @abstractmethod
    def transact(self, key: str, step: Step[T]) -> T:
        """Replace the value under `key` by what `step` makes of it (None: no value yet), and return step's result.

        Atomic among all who use the store; a step that raises changes nothing. `step` must be quick.
        """

    @abstractmethod
    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        """What was put under `key`, unless it is older."""

    @abstractmethod
    def cache_put(self, key: str, value: bytes) -> None:
        """Keep `value`; a cache that cannot be written costs time and nothing else."""


class MemoryBudgetStore(BudgetStore):
    """The budget of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, Any]] = {}
        self._cache: dict[str, tuple[float, bytes]] = {}

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
            self._cache[key] = (time.monotonic(), value)


class FileBudgetStore(BudgetStore):
    """The budget of one host: a JSON file, replaced whole under a lock file that the kernel frees when a holder dies.

    Raises:
        ConfigError: the directory cannot be made or written.
    """

    def __init__(self, path: str | Path) -> None:
        from filelock import FileLock  # here, so that importing the package stays cheap

        self.path = Path(path).expanduser().absolute()
        self._thread_lock = threading.Lock()
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
            with self._thread_lock, self._file_lock:
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
                return path.read_bytes()
        except OSError:
            pass  # not there
        return None

    def cache_put(self, key: str, value: bytes) -> None:
        try:
            self._cache_directory.mkdir(exist_ok=True)
            _replace(self._cache_path(key), value)
        except OSError as error:
            log.warning("cannot write the cache beside the weight budget: path=%s: %s", self._cache_directory, error)

    def _cache_path(self, key: str) -> Path:
        return self._cache_directory / hashlib.sha256(key.encode()).hexdigest()

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_bytes())
            if isinstance(document["values"], dict) and all(
                isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict)
                for entry in document["values"].values()
            ):
                return dict(document)
        except FileNotFoundError:
            return {"values": {}}
        except (ValueError, KeyError, TypeError):
            pass  # told below, for every way of being broken
        log.warning("the weight budget's file is corrupted and starts anew: path=%s", self.path)
        return {"values": {}, "lost_at": time.time()}

    def _write(self, document: dict[str, Any]) -> None:
        values = document["values"]
        if len(values) > MOST_KEYS:
            newest = sorted(values, key=lambda key: values[key][0], reverse=True)[:MOST_KEYS]
            document["values"] = {key: values[key] for key in newest}
        _replace(self.path, json.dumps(document, separators=(",", ":")).encode())

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"cannot write the weight budget's file {self.path}: {error.strerror or error}. Set rate_limit_store "
            f"(BINANCE_RATE_LIMIT_STORE) to file:///path of a writable directory, or to memory:// if this process is "
            f"alone behind its IP address",
            field="rate_limit_store",
        )


def default_budget_path() -> Path:
    """Where `auto` keeps the budget: `airflow-provider-binance/budget.json` in `~/.cache`, or in `$XDG_CACHE_HOME`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base and Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "airflow-provider-binance" / "budget.json"


_process_store = MemoryBudgetStore()


def open_budget_store(url: str) -> BudgetStore:
    """The store that `rate_limit_store` names; `memory://` is one for the whole process.

    Raises:
        ConfigError: not `auto`, `memory://` or `file:///path`, or not writable.
    """
    if url == "auto":
        return FileBudgetStore(default_budget_path())
    if url in {"memory", "memory://"}:
        return _process_store
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return FileBudgetStore(unquote(parts.path))
    raise ConfigError(
        f"rate_limit_store={mask_url(url)!r} is not supported; use auto, memory:// or file:///absolute/path",
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
