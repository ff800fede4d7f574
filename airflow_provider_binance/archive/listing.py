"""What the archive has: its S3 listing, paged, cached, and second-guessed where it is known to go stale."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from xml.etree import ElementTree

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, folder, period_of, symbol_folder
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ArchiveFileMissingError, UnreachableError
from airflow_provider_binance.market import Market, to_us
from airflow_provider_binance.records import Series

log = logging.getLogger(__name__)
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_MOST_PAGES = 200
_CACHE_SECONDS = 3600.0


class Cache(Protocol):
    """The small cache beside the weight budget."""

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None: ...

    def cache_put(self, key: str, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listing says of one file; size 0 and no ETag when only its checksum answered."""

    size: int
    etag: str
    last_modified_us: int | None


class ArchiveListing:
    """Which files the archive has. Answers are kept for an hour; a loopback archive's only within this object, since
    a simulator may be another one by then."""

    def __init__(self, config: BinanceConfig, http: ArchiveHttp, cache: Cache | None) -> None:
        self._config = config
        self._http = http
        self._cache = cache if config.environment != "simulator" else None
        self._folders: dict[str, dict[str, Listed]] = {}
        self._asked: dict[str, Listed | None] = {}

    def files(self, series: Series, partition: Partition) -> dict[str, Listed]:
        """Name → what is listed, of all zip files of the series in this partition."""
        prefix = folder(series, partition)
        if prefix not in self._folders:
            known = self._remembered(prefix)
            self._folders[prefix] = self._fetched(prefix) if known is None else known
        return self._folders[prefix]

    def find(self, series: Series, file: ArchiveFile, *, ask: bool) -> Listed | None:
        """What is known of `file`, or None. With `ask`, a file that the listing lacks is asked once by its checksum."""
        if (listed := self.files(series, file.partition).get(file.name)) is not None or not ask:
            return listed
        if file.path not in self._asked:
            self._asked[file.path] = self._ask(file)
        return self._asked[file.path]

    def forget(self, file: ArchiveFile) -> None:
        """The file answered 404: it is not there, whatever the listing says."""
        self._folders.setdefault(file.path.rpartition("/")[0] + "/", {}).pop(file.name, None)
        self._asked[file.path] = None

    def first_file(self, series: Series) -> tuple[int, int] | None:
        """The period of the file that ends first, or None if no file is listed."""
        return min(self._periods(series), key=lambda period: period[1], default=None)

    def last_file(self, series: Series) -> tuple[int, int] | None:
        """The period of the file that ends last, or None if no file is listed."""
        return max(self._periods(series), key=lambda period: period[1], default=None)

    def _periods(self, series: Series) -> list[tuple[int, int]]:
        names = [name for partition in Partition for name in self.files(series, partition)]
        return [period for name in names if (period := period_of(name)) is not None]

    def knows(self, market: Market, dataset_name: str, symbol: str) -> bool:
        """Whether the archive has a folder of this symbol."""
        return any(
            bool(self._page(symbol_folder(market, dataset_name, symbol, partition), "", most=1)[2])
            for partition in Partition
        )

    def _ask(self, file: ArchiveFile) -> Listed | None:
        try:
            self._http.get(
                f"{self._config.archive_url}/{_quoted(file.path)}.CHECKSUM", lambda a: a.content, ref=file.path
            )
        except ArchiveFileMissingError:
            return None
        log.info("archive %s: served although the listing lacks it", file.path)
        return Listed(0, "", None)

    def _remembered(self, prefix: str) -> dict[str, Listed] | None:
        if self._cache is None or (text := self._cache.cache_get(self._key(prefix), _CACHE_SECONDS)) is None:
            return None
        try:
            return {name: Listed(*entry) for name, entry in json.loads(text).items()}
        except (ValueError, TypeError):
            return None

    def _key(self, prefix: str) -> str:
        return f"listing {self._config.archive_listing_url} {prefix}"

    def _fetched(self, prefix: str) -> dict[str, Listed]:
        found: dict[str, Listed] = {}
        marker = ""
        for _ in range(_MOST_PAGES):
            files, marker, _some = self._page(prefix, marker)
            found.update(files)
            if not marker:
                break
        if self._cache is not None:
            rows = {name: (entry.size, entry.etag, entry.last_modified_us) for name, entry in found.items()}
            self._cache.cache_put(self._key(prefix), json.dumps(rows).encode())
        return found

    def _page(self, prefix: str, marker: str, most: int = 1000) -> tuple[dict[str, Listed], str, bool]:
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


_Page = tuple[dict[str, Listed], str, bool]


def _read_answer(body: bytes, prefix: str) -> _Page:
    """A page of the listing; raises UnreachableError for what is none, such as a maintenance page: it may pass."""
    try:
        return _read_page(body)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
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


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
