"""Zip files written by hand: reproducible, and of a size that is known beforehand.

The padding is made of empty deflate blocks, which every reader skips.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta

EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


def make_zip(member: str, parts: Iterable[bytes], written: datetime, size: int | None = None) -> bytes:
    """A zip with one deflated member, reproducible, and ``size`` bytes long where that is possible."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces, checksum, length = [], 0, 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
        length += len(part)
        pieces.append(packer.compress(part))
    packed = b"".join(pieces) + packer.flush(zlib.Z_FULL_FLUSH)
    last_block = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
    name = member.encode()
    frame = 30 + 46 + 22 + 2 * len(name)
    comment = b""
    if size is not None and size > frame + len(packed) + len(last_block):
        blocks, rest = divmod(size - frame - len(packed) - len(last_block), len(EMPTY_BLOCK))
        packed += EMPTY_BLOCK * blocks
        comment = b" " * rest
    packed += last_block
    written -= timedelta(seconds=written.second % 2)
    dos_time = written.hour << 11 | written.minute << 5 | written.second // 2
    dos_date = (written.year - 1980) << 9 | written.month << 5 | written.day
    utf8_name = 0x800
    common = struct.pack(
        "<HHHHHIIIHH", 20, utf8_name, 8, dos_time, dos_date, checksum, len(packed), length, len(name), 0
    )
    local = b"PK\x03\x04" + common + name + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), len(comment)) + comment
    return local + central + end
