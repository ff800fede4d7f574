"""Our path, from verified zip to commit, with the download taken out: files come from the disk, all else is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow_provider_binance.archive.files import fetch
from airflow_provider_binance.archive.folder import Listed
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.loading import Loader, SeriesTask
from airflow_provider_binance.planner import Sources
from airflow_provider_binance.records import WriteResult
from airflow_provider_binance.rest.fetching import PageSource
from airflow_provider_binance.store import Store
from benchmarks.workload import Workload

ENVIRONMENT = "simulator"
_LOOPBACK = "http://127.0.0.1:9"  # nobody is asked


class _Answer:
    """As much of a response as the archive's reader looks at."""

    status_code = 200

    def __init__(self, path: Path) -> None:
        self._path = path
        self.headers = {"Content-Length": str(path.stat().st_size)}

    @property
    def content(self) -> bytes:
        return self._path.read_bytes()

    def iter_content(self, size: int) -> Any:
        with self._path.open("rb") as file:
            yield from iter(partial(file.read, size), b"")


class _Disk:
    """`ArchiveHttp` over a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(
        self, url: str, read: Callable[[Any], Any], *, headers: Mapping[str, str] | None = None, ref: str = ""
    ) -> Any:
        return read(_Answer(self._folder / url.removeprefix(_LOOPBACK + "/")))


def load(store: Store, work: Workload) -> WriteResult:
    """Load all files of `work`, whatever the ledger says: planned, checked, normalised, written, ledgered."""
    rest = {f"{market}_rest_url": _LOOPBACK for market in ("spot", "um", "cm")}
    config = BinanceConfig(**rest, archive_url=_LOOPBACK, archive_listing_url=_LOOPBACK)
    http = cast(ArchiveHttp, _Disk(work.folder))
    start_us, end_us = work.window_us

    def find(file: ArchiveFile) -> Listed | None:
        path = work.folder / file.path
        return Listed(path.stat().st_size, "", None) if path.exists() else None

    task = SeriesTask(work.series, [Stretch(start_us, end_us)], Sources(find, False), end_us)
    nobody = cast(PageSource, None)
    Loader(store, nobody, partial(fetch, config, http), lambda file: None, run_ref="bench").run([task])
    return task.tally.counts
