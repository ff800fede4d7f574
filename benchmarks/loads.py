"""Our path, from verified zip to commit, with the download taken out: files come from the disk, all else is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any, cast

from airflow_provider_binance import side_by_side
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


def load(store: Store, *works: Workload, connections: int = 1) -> WriteResult:
    """Load all files of `works`, whatever the ledger says: planned, checked, normalised, written, ledgered."""
    rest = {f"{market}_rest_url": _LOOPBACK for market in ("spot", "um", "cm")}
    config = BinanceConfig(**rest, archive_url=_LOOPBACK, archive_listing_url=_LOOPBACK)
    folder = works[0].folder
    http = cast(ArchiveHttp, _Disk(folder))

    def find(file: ArchiveFile) -> Listed | None:
        path = folder / file.path
        return Listed(path.stat().st_size, "", None) if path.exists() else None

    tasks = [
        SeriesTask(work.series, [Stretch(*work.window_us)], Sources(find, False), work.window_us[1]) for work in works
    ]
    nobody = cast(PageSource, None)
    loader = Loader(store, nobody, partial(fetch, config, http), lambda file: None, run_ref="bench")
    side_by_side.run(loader, tasks, connections)
    return reduce(add, (task.tally.counts for task in tasks))
