"""The one file within a zip, inflated block by block.

`zipfile` reads the directory and refuses what it does not know; the bytes are inflated here, by ISA-L where it is
installed, which takes a third of zlib's time (measured on kline files).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

fastest: Any
try:
    from isal import isal_zlib as fastest
except ImportError:  # no wheel for this machine
    fastest = zlib
#: Compressed bytes read at a time, and the most that is inflated at once.
_READ = 256 * 1024
_MOST_BYTES = 1024 * 1024
_LOCAL_HEADER = 30
_RAW = -15  # deflate without a header of its own


def inflated(content: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The member's bytes; raises BadZipFile if they are not what the directory says."""
    archive.open(member).close()  # raises for another name in front of it, for encryption and for unknown methods
    size, crc = 0, 0
    for block in _blocks(content, member):
        size += len(block)
        if size > member.file_size:
            break
        crc = fastest.crc32(block, crc)
        yield block
    if size != member.file_size or crc != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename}: size or CRC-32 is not what the directory says")


def _blocks(content: IO[bytes], member: zipfile.ZipInfo) -> Iterator[bytes]:
    content.seek(member.header_offset + _LOCAL_HEADER - 4)
    lengths = content.read(4)
    content.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
    left = member.compress_size
    inflate = fastest.decompressobj(_RAW) if member.compress_type == zipfile.ZIP_DEFLATED else None
    while left > 0 and (data := content.read(min(_READ, left))):
        left -= len(data)
        if inflate is None:
            yield data
            continue
        try:
            while data:
                yield inflate.decompress(data, _MOST_BYTES)
                data = inflate.unconsumed_tail
        except fastest.error as error:
            raise zipfile.BadZipFile(f"{member.filename}: {error}") from error
    if inflate is not None:
        yield inflate.flush()
