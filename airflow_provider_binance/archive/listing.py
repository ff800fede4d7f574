"""What the archive has: its S3 listing, paged, cached, and second-guessed where it is known to go stale."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol
from xml.etree import ElementTree

from airflow_provider_binance.archive.folder import Folder, Listed
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import (
    ArchiveFile,
    Partition,
    file_stem,
    folder,
    period_of,
    symbol_folder,
)
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ArchiveFileMissingError, UnreachableError
from airflow_provider_binance.market import Market, grid_of, to_us
from airflow_provider_binance.records import Series

log = logging.getLogger(__name__)
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_MOST_PAGES = 200
_MOST_KEYS = 1000
_CACHE_SECONDS = 3600.0


class Cache(Protocol):
    """The small cache beside the weight budget."""

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None: ...

    def cache_put(self, key: str, value: bytes) -> None: ...


class ArchiveListing:
    """Which files the archive has. Answers are kept for an hour; a loopback archive's only within this object, since
    a simulator may be another one by then.

    Monthly files are listed from the first on, daily ones from the month on that is asked for, a page at a time: of
    1,800 days a load looks at the last few. Threads may share it, each with series of its own.
    """

    def __init__(self, config: BinanceConfig, http: ArchiveHttp, cache: Cache | None) -> None:
        self._config = config
        self._http = http
        self._cache = cache if config.environment != "simulator" else None
        self._folders: dict[str, list[Folder]] = {}
        self._asked: dict[str, Listed | None] = {}

    def folder(self, series: Series, file: ArchiveFile) -> Folder:
        """What is listed around `file`."""
        is_daily = file.partition is Partition.DAILY
        return self._folder(series, file.partition, file.stamp, f"{file.stamp[:7]}-01" if is_daily else "")

    def ask(self, file: ArchiveFile) -> Listed | None:
        """Whether the archive serves a file that its listing lacks: asked once, by the file's checksum."""
        if file.path not in self._asked:
            self._asked[file.path] = self._ask(file)
        return self._asked[file.path]

    def forget(self, file: ArchiveFile) -> None:
        """The file answered 404: it is not there, whatever the listing says."""
        prefix = file.path.rpartition("/")[0] + "/"
        self._folders[prefix] = [known.without(file.stamp) for known in self._folders.get(prefix, ())]
        self._asked[file.path] = None

    def first_month(self, series: Series) -> tuple[int, int] | None:
        """The period of the first monthly file, or None if there is none."""
        return _period(series, self._folder(series, Partition.MONTHLY, "", "").first)

    def first_file(self, series: Series) -> tuple[int, int] | None:
        """The period of the file that ends first, or None if no file is listed."""
        periods = [self.first_month(series)]
        if grid_of(series.interval).has_daily_files:
            # A file and its checksum, and one more: it is only the first that matters.
            periods.append(_period(series, self._folder(series, Partition.DAILY, "", "", most=3).first))
        return min((period for period in periods if period), key=lambda period: period[1], default=None)

    def last_file(self, series: Series) -> tuple[int, int] | None:
        """The period of the file that ends last, or None if no file is listed."""
        last = self._folder(series, Partition.MONTHLY, "", "").last
        daily = None
        if grid_of(series.interval).has_daily_files:
            # The days of the last month end with it at the latest; those after it sort behind `2024-01-32`.
            daily = self._rest(series, f"{last}-32" if last else "").last
        return _period(series, daily or last)

    def knows(self, market: Market, dataset_name: str, symbol: str) -> bool:
        """Whether the archive has a folder of this symbol."""
        return any(
            bool(self._page(symbol_folder(market, dataset_name, symbol, partition), "", most=1)[2])
            for partition in Partition
        )

    def _ask(self, file: ArchiveFile) -> Listed | None:
        if not is_served(self._http, self._config, file.path):
            return None
        log.info("archive %s: served although the listing lacks it", file.path)
        return Listed(0, "", None)

    def _folder(self, series: Series, partition: Partition, stamp: str, since: str, most: int = _MOST_KEYS) -> Folder:
        """A folder that knows `stamp`; if there is none yet, it is listed from `since` on."""
        known = self._folders.setdefault(folder(series, partition), [])
        for one in known:
            if one.knows(stamp):
                return one
        found = self._listed(series, partition, since, most, whole=partition is Partition.MONTHLY)
        known.append(found)
        return found if found.knows(stamp) else self._folder(series, partition, stamp, found.upto or "", _MOST_KEYS)

    def _rest(self, series: Series, since: str) -> Folder:
        """All daily files from `since` on."""
        return self._listed(series, Partition.DAILY, since, _MOST_KEYS, whole=True)

    def _listed(self, series: Series, partition: Partition, since: str, most: int, *, whole: bool) -> Folder:
        """The files from `since` on, of all pages or of one, as they were kept or as they are listed now."""
        prefix, stem = folder(series, partition), file_stem(series)
        key = f"listing {self._config.archive_listing_url} {prefix} {since} {most} {whole}"
        if self._cache is not None and (kept := self._cache.cache_get(key, _CACHE_SECONDS)) is not None:
            if (parsed := Folder.parse(since, kept)) is not None:
                return parsed
            log.warning("a kept listing cannot be read, listing anew: prefix=%s", prefix)
        found: dict[str, Listed] = {}
        marker = f"{prefix}{stem}{since}" if since else ""
        for _ in range(_MOST_PAGES):
            files, marker, _some = self._page(prefix, marker, most)
            found.update(files)
            if not (marker and whole):
                break
        files_by_stamp = ((name.removeprefix(stem).removesuffix(".zip"), listed) for name, listed in found.items())
        upto = marker.rpartition("/")[2].removeprefix(stem).partition(".zip")[0] or None
        made = Folder.of(since, upto, files_by_stamp)
        if self._cache is not None:
            self._cache.cache_put(key, made.pack())
        return made

    def _page(self, prefix: str, marker: str, most: int = _MOST_KEYS) -> tuple[dict[str, Listed], str, bool]:
        """One page: files by name, the next marker or '', and whether anything lies below the prefix."""
        params = {"delimiter": "/", "prefix": prefix, "max-keys": str(most)}
        if marker:
            params["marker"] = marker
        return self._http.get(
            self._config.archive_listing_url,
            lambda answer: _read_answer(answer.content, prefix),
            params=params,
            ref=f"listing {prefix}",
        )


def is_served(http: ArchiveHttp, config: BinanceConfig, path: str) -> bool:
    """Whether the archive has the file at `path`, whatever its listing says: asked by the file's checksum."""
    try:
        http.get(f"{config.archive_url}/{_quoted(path)}.CHECKSUM", lambda answer: answer.content, ref=path)
    except ArchiveFileMissingError:
        return False
    return True


_Page = tuple[dict[str, Listed], str, bool]


def _read_answer(body: bytes, prefix: str) -> _Page:
    """A page of the listing; raises UnreachableError for what is none, such as a maintenance page: it may pass."""
    try:
        return _read_page(body)
    except (ElementTree.ParseError, ValueError, TypeError, LookupError) as error:
        raise UnreachableError(f"the archive's listing of {prefix} is not S3's ({error}): {body[:60]!r}") from error


def _read_page(body: bytes) -> _Page:
    root = ElementTree.fromstring(body)  # noqa: S314  # expat limits entity expansion itself
    if root.tag != _NAMESPACE + "ListBucketResult":
        raise ValueError(f"its root is {root.tag[:60]!r}")
    get: Callable[[ElementTree.Element, str], str] = lambda node, tag: node.findtext(_NAMESPACE + tag) or ""  # noqa: E731
    files: dict[str, Listed] = {}
    last = ""
    contents = root.findall(_NAMESPACE + "Contents")
    for entry in contents:
        last = get(entry, "Key")
        if last.endswith(".zip"):
            modified = datetime.fromisoformat(get(entry, "LastModified"))
            files[last.rpartition("/")[2]] = Listed(
                int(get(entry, "Size")), get(entry, "ETag").strip('"'), to_us(modified)
            )
    prefixes = root.findall(_NAMESPACE + "CommonPrefixes")
    is_cut = get(root, "IsTruncated") == "true"
    following = (get(root, "NextMarker") or last) if is_cut else ""
    return files, following, bool(contents or prefixes)


def _period(series: Series, stamp: str | None) -> tuple[int, int] | None:
    return period_of(f"{file_stem(series)}{stamp}.zip") if stamp else None


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
