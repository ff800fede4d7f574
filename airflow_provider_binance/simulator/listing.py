"""The archive over HTTP: files with HEAD, GET and ranges, and their S3 listing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from airflow_provider_binance.simulator.archive import SHA256_HEX_LENGTH, Archive
from airflow_provider_binance.simulator.archive_files import KINDS, PARTITIONS, ArchiveFile, offers, series_folder
from airflow_provider_binance.simulator.clock import from_ms
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.wire import Answer, Request

ARCHIVE_PREFIX = "/archive/"
LISTING_PREFIX = "/listing"
CHECKSUM = ".CHECKSUM"
PAGE_LENGTH = 1000
# Of data/futures/um/daily/klines/, the longest path above a symbol's folder.
DEPTH_ABOVE_SYMBOL = 5

_XML = {"Content-Type": "application/xml"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


@dataclass(frozen=True)
class _Entry:
    """A key of the listing; without a file it is a folder."""

    key: str
    file: ArchiveFile | None = None


class ArchiveService:
    """Answers requests for archive files and listings; none of them weighs anything."""

    def __init__(self, archive: Archive, faults: Faults) -> None:
        self._archive = archive
        self._faults = faults

    def respond_file(self, request: Request) -> Answer:
        """A zip or its CHECKSUM."""
        if request.method not in ("GET", "HEAD"):
            return Answer(405, b"", dict(_XML))
        key = request.path.removeprefix(ARCHIVE_PREFIX)
        is_checksum = key.endswith(CHECKSUM)
        file = self._archive.find(key.removesuffix(CHECKSUM))
        if file is None:
            return _s3_error(404, "NoSuchKey", "The specified key does not exist.", key)
        headers = {
            "Last-Modified": format_datetime(from_ms(self._archive.modified_ms(file)), usegmt=True),
            "ETag": f'"{self._etag(file, checksum=is_checksum)}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream" if is_checksum else "application/zip",
        }
        if request.method == "HEAD":
            size = self._archive.checksum_size(file) if is_checksum else self._archive.size(file)
            return Answer(200, b"", headers | {"Content-Length": str(size)})
        content = self._archive.content(file)
        if is_checksum:
            text = self._archive.checksum_text(file)
            if self._faults.take("bad-checksum", request):
                text = "0" * SHA256_HEX_LENGTH + text[SHA256_HEX_LENGTH:]
            content = text.encode()
        elif self._faults.take("corrupt-zip", request):
            middle = len(content) // 3
            content = (
                content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 16]) + content[middle + 16 :]
            )
        return _ranged(request, content, headers)

    def respond_listing(self, request: Request) -> Answer:
        """One page of S3's ListBucketResult, in either version of the protocol."""
        if request.method != "GET":
            return Answer(405, b"", dict(_XML))
        parameters = dict(parse_qsl(request.query, keep_blank_values=True))
        prefix = parameters.get("prefix", "")
        delimiter = parameters.get("delimiter", "")
        second_version = parameters.get("list-type") == "2"
        marker = parameters.get("marker", "")
        if second_version:
            marker = parameters.get("continuation-token") or parameters.get("start-after", "")
        length = min(int(parameters.get("max-keys") or PAGE_LENGTH), PAGE_LENGTH)
        entries = [entry for entry in self._entries(prefix, delimiter) if entry.key > marker]
        cut = self._faults.number("short-listing", request)
        if cut is not None:
            entries = entries[: int(cut)]
        page, truncated = entries[:length], len(entries) > length
        head = [f"<Name>data.binance.vision</Name><Prefix>{escape(prefix)}</Prefix>"]
        if second_version:
            head.append(f"<KeyCount>{len(page)}</KeyCount>")
        else:
            head.append(f"<Marker>{escape(marker)}</Marker>")
        if truncated and second_version:
            head.append(f"<NextContinuationToken>{escape(page[-1].key)}</NextContinuationToken>")
        elif truncated and delimiter:
            # Without a delimiter S3 leaves it to the client to take the last key.
            head.append(f"<NextMarker>{escape(page[-1].key)}</NextMarker>")
        head.append(f"<MaxKeys>{length}</MaxKeys>")
        if delimiter:
            head.append(f"<Delimiter>{escape(delimiter)}</Delimiter>")
        head.append(f"<IsTruncated>{str(truncated).lower()}</IsTruncated>")
        body = "".join(head + [self._element(entry) for entry in page])
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{body}</ListBucketResult>'
        )
        return Answer(200, xml.encode(), dict(_XML))

    def _entries(self, prefix: str, delimiter: str) -> list[_Entry]:
        """Files and common prefixes below ``prefix``, in the order of their keys."""
        entries: dict[str, _Entry] = {}
        for folder, files in self._folders(prefix):
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            beyond = folder[len(prefix) :] if folder.startswith(prefix) else ""
            if delimiter and delimiter in beyond:
                common = prefix + beyond[: beyond.index(delimiter) + 1]
                if common not in entries and next(files, None) is not None:
                    entries[common] = _Entry(common)
                continue
            for file in files:
                if self._is_forgotten(file):
                    continue
                for key in (file.key, file.key + CHECKSUM):
                    if key.startswith(prefix):
                        entries[key] = _Entry(key, file)
        return [entries[key] for key in sorted(entries, key=lambda text: text.encode())]

    def _is_forgotten(self, file: ArchiveFile) -> bool:
        until_ms = self._faults.listed_until_ms
        return until_ms is not None and file.published_ms >= until_ms

    def _folders(self, prefix: str) -> Iterator[tuple[str, Iterator[ArchiveFile]]]:
        """Folders and their files; those that a prefix down to a symbol cannot mean are left out."""
        is_deep = prefix.count("/") > DEPTH_ABOVE_SYMBOL
        for instrument in self._archive.exchange.instruments.values():
            if is_deep and f"/{instrument.symbol}/" not in prefix:
                continue
            for partition in PARTITIONS:
                for kind in KINDS:
                    if offers(instrument, kind, partition):
                        yield (
                            series_folder(instrument, kind, partition),
                            self._archive.files(instrument, kind, partition),
                        )

    def _element(self, entry: _Entry) -> str:
        if entry.file is None:
            return f"<CommonPrefixes><Prefix>{escape(entry.key)}</Prefix></CommonPrefixes>"
        file = entry.file
        is_checksum = entry.key.endswith(CHECKSUM)
        size = self._archive.checksum_size(file) if is_checksum else self._archive.size(file)
        modified = f"{from_ms(self._archive.modified_ms(file)):%Y-%m-%dT%H:%M:%S}.000Z"
        return (
            f"<Contents><Key>{escape(entry.key)}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>&quot;{self._etag(file, checksum=is_checksum)}&quot;</ETag><Size>{size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _etag(self, file: ArchiveFile, *, checksum: bool) -> str:
        etag = self._archive.version(file)[1]
        return hashlib.md5(etag.encode(), usedforsecurity=False).hexdigest() if checksum else etag


def _ranged(request: Request, content: bytes, headers: dict[str, str]) -> Answer:
    """The content, or the one range of it that was asked for."""
    match = _RANGE.match(request.header("Range") or "")
    condition = request.header("If-Range")
    if match is None or match.groups() == ("", "") or (condition is not None and condition != headers["ETag"]):
        return Answer(200, content, headers)
    first_text, last_text = match.groups()
    if first_text:
        first = int(first_text)
        last = min(int(last_text) if last_text else len(content) - 1, len(content) - 1)
    else:
        first, last = max(0, len(content) - int(last_text)), len(content) - 1
    if first > last:
        return Answer(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
    return Answer(206, content[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"})


def _s3_error(status: int, code: str, message: str, key: str) -> Answer:
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message><Key>{escape(key)}</Key></Error>"
    )
    return Answer(status, xml.encode(), dict(_XML))
