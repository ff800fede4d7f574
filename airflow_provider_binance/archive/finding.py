"""`ListedFiles`: whether a file of one series is there, by the listing, or its checksum where that may lag behind."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_binance.archive.folder import Folder, Listed
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, published_by

Find = Callable[[ArchiveFile], Listed | None]


class ListedFiles:
    """`find` for one series over the listing. A published file that the listing lacks is asked once by its checksum,
    as far as that can bring something: after the last listed one up to the first that is not there, a few between."""

    _MOST_BETWEEN = 5

    def __init__(
        self,
        folder_of: Callable[[ArchiveFile], Folder],
        ask: Callable[[ArchiveFile], Listed | None],
        now_us: int,
    ) -> None:
        self._folder_of = folder_of
        self._ask = ask
        self._now_us = now_us
        self._ends_at: dict[Partition, int] = {}
        self._between = self._MOST_BETWEEN

    def __call__(self, file: ArchiveFile) -> Listed | None:
        stamp = file.stamp
        folder = self._folder_of(file)
        if (entry := folder.get(stamp)) is not None:
            return entry
        if published_by(file) > self._now_us or file.start_us >= self._ends_at.get(file.partition, file.end_us):
            return None
        if not folder.since and folder.first is not None and stamp < folder.first:
            return None
        if folder.last is not None and stamp < folder.last:
            self._between -= 1
            return self._ask(file) if self._between >= 0 else None
        if (entry := self._ask(file)) is None:
            self._ends_at[file.partition] = file.start_us
        return entry
