"""Fetch one archive file: streamed to a nameless file, checked against its `.CHECKSUM`, then read part by part."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import ArchiveFile
from airflow_provider_binance.archive.zips import inflated
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import CorruptArchiveError, UnreachableError
from airflow_provider_binance.market import from_us, to_us
from airflow_provider_binance.normalize import SeriesRows, series_rows
from airflow_provider_binance.records import Series

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

#: CSV bytes of one part, which is one transaction: about 28,000 klines, so that a month of 1m is two parts and a month
#: of 1s some sixty. Two parts are in memory at a time, and what is made of them.
PART_BYTES = 4 * 1024 * 1024
#: A cut download goes on at the last whole block.
_BLOCK = 64 * 1024
#: A CSV of klines shrinks to a third; a hundred times is no kline file.
_MOST_RATIO = 100
#: What zipfile raises for bytes that are no zip; ValueError for offsets that lead before its begin.
_UNSOUND = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError, ValueError)
_CHECKSUM = re.compile(rb"\s*([0-9a-fA-F]{64})(?:\s|$)")


@dataclass(slots=True)
class FetchedFile:
    """A verified file in a temporary file that the system forgets when it is closed or the process dies."""

    file: ArchiveFile
    content: IO[bytes]
    sha256: str
    size: int
    last_modified_us: int
    bytes_downloaded: int
    etag: str | None = None

    def parts(self) -> Iterator[tuple[int, int, bytes]]:
        """`(part, parts, csv)` with whole lines each. Raises CorruptArchiveError for a zip that is not one CSV."""
        try:
            with zipfile.ZipFile(self.content) as archive:
                members = archive.infolist()
                expected = self.file.name.removesuffix(".zip") + ".csv"
                if [member.filename for member in members] != [expected]:
                    raise CorruptArchiveError(
                        f"archive file {self.file.path} holds {[m.filename for m in members][:3]}, not just {expected}",
                        ref=self.file.path,
                    )
                total = members[0].file_size
                if total > _MOST_RATIO * max(self.size, 1024):
                    raise CorruptArchiveError(
                        f"archive file {self.file.path} claims to unpack to {total} bytes, too many for its size",
                        ref=self.file.path,
                    )
                yield from _cut(inflated(self.content, archive, members[0]), max(1, -(-total // PART_BYTES)))
        except _UNSOUND as error:
            raise CorruptArchiveError(
                f"archive file {self.file.path} is no sound zip: {error}", ref=self.file.path
            ) from error

    def rows(self, series: Series) -> Iterator[tuple[int, int, SeriesRows]]:
        """`(part, parts, rows)`, the parts as rows. Raises CorruptArchiveError, too, for rows of another period."""
        for part, parts, csv in self.parts():
            rows = series_rows(csv, series, ref=self.file.path)
            del csv
            if len(rows) and not self.file.start_us <= rows.first_us <= rows.last_us < self.file.end_us:
                stray = rows.first_us if rows.first_us < self.file.start_us else rows.last_us
                raise CorruptArchiveError(
                    f"archive file {self.file.path} holds a row of {from_us(stray).isoformat()}, outside its period",
                    ref=self.file.path,
                )
            yield part, parts, rows
            del rows

    def close(self) -> None:
        """Free the disk space."""
        self.content.close()


def fetch(config: BinanceConfig, http: ArchiveHttp, file: ArchiveFile) -> FetchedFile:
    """The verified file; a wrong checksum is tried once more, since a file may be republished between two requests.

    Raises:
        ArchiveFileMissingError: there is no such file, or no checksum of it.
        CorruptArchiveError: twice not what its checksum says.
    """
    spent = 0
    try:
        return _fetch_once(config, http, file)
    except CorruptArchiveError as error:
        spent = error.bytes_downloaded
        log.warning("%s; trying once more", error)
    try:
        fetched = _fetch_once(config, http, file)
    except CorruptArchiveError as error:
        spent += error.bytes_downloaded
        raise CorruptArchiveError(str(error), ref=file.path, bytes_downloaded=spent) from error
    fetched.bytes_downloaded += spent
    return fetched


def published_sha256(config: BinanceConfig, http: ArchiveHttp, file: ArchiveFile) -> str:
    """The SHA-256 that the archive says the file has, at the price of one small request.

    Raises:
        ArchiveFileMissingError: there is no checksum of it.
        CorruptArchiveError: it is none.
    """
    url = f"{config.archive_url}/{quote(file.path)}.CHECKSUM"
    text = http.get(url, lambda answer: answer.content, ref=file.path + ".CHECKSUM")
    if (match := _CHECKSUM.match(text)) is None:
        raise CorruptArchiveError(f"archive {file.path}.CHECKSUM holds no SHA-256: {text[:80]!r}", ref=file.path)
    return match[1].decode().lower()


def _fetch_once(config: BinanceConfig, http: ArchiveHttp, file: ArchiveFile) -> FetchedFile:
    url = f"{config.archive_url}/{quote(file.path)}"
    expected = published_sha256(config, http, file)
    download = _Download(file)
    try:
        http.get(url, download.take, headers=download.headers, ref=file.path)
        actual = download.digest.hexdigest()
        if actual != expected:
            raise CorruptArchiveError(
                f"archive file {file.path} has SHA-256 {actual[:16]}…, its CHECKSUM says {expected[:16]}…",
                ref=file.path,
                bytes_downloaded=download.received,
            )
    except BaseException:
        download.content.close()
        raise
    download.content.seek(0)
    modified = download.last_modified_us if download.last_modified_us is not None else file.end_us
    return FetchedFile(
        file, download.content, actual, download.size, modified, download.received, download.etag
    )  # fmt: skip


class _Download:
    """The state of one download over several attempts: a cut one goes on where it stopped, if the file is the same."""

    def __init__(self, file: ArchiveFile) -> None:
        self._file = file
        self.content: IO[bytes] = tempfile.TemporaryFile(prefix="binance-ingest-")  # noqa: SIM115  # outlives this call
        self.digest = hashlib.sha256()
        self.headers: dict[str, str] = {}
        self.size = 0
        self.received = 0
        self.last_modified_us: int | None = None
        self.etag: str | None = None

    def take(self, answer: requests.Response) -> None:
        """Read one answer to its end. Raises UnreachableError if it ends before its Content-Length, or if the rest of
        the file is refused: then the next attempt begins anew."""
        if answer.status_code == 416:
            self.headers.clear()
            raise UnreachableError(f"HTTP 416 for the rest from byte {self.size} on", status=416)
        if not (
            answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")
        ):
            self.content.seek(0)
            self.content.truncate()
            self.digest = hashlib.sha256()
            self.size = 0
        length = answer.headers.get("Content-Length")
        due = self.size + int(length) if length and length.isdecimal() else None
        if (stamp := answer.headers.get("Last-Modified")) is not None:
            self.last_modified_us = to_us(parsedate_to_datetime(stamp))
        etag = answer.headers.get("ETag")
        self.etag = etag.strip('"') if etag else None
        try:
            for block in answer.iter_content(_BLOCK):
                self.content.write(block)
                self.digest.update(block)
                self.size += len(block)
                self.received += len(block)
        finally:
            if etag and self.size:
                self.headers.update({"Range": f"bytes={self.size}-", "If-Range": etag})
        if due is not None and self.size < due:
            raise UnreachableError(f"cut after {self.size} of {due} bytes")


def _cut(blocks: Iterator[bytes], parts: int) -> Iterator[tuple[int, int, bytes]]:
    """The bytes in so many parts; each but the last has `PART_BYTES`, less the line cut in two there."""
    rest = b""
    for part in range(1, parts + 1):
        taken, size = [rest], len(rest)
        while (part == parts or size < PART_BYTES) and (block := next(blocks, None)) is not None:
            taken.append(block)
            size += len(block)
        if part == parts:
            taken[-1] = taken[-1].rstrip(b"\n")  # here it is one block that is copied for it
        taken = [b"".join(taken)]
        rest = b""
        if part < parts:
            end = taken[0].rfind(b"\n", 0, PART_BYTES) + 1
            rest = taken[0][end:]
            taken = [taken[0][:end]]
        yield part, parts, taken.pop()  # held by nobody here while others work on it
