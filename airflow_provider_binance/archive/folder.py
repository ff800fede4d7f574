"""What a folder of the archive lists, kept as the lines of a text and read line by line when a file is asked for.

A series of five years has 1,800 daily files. As objects they cost milliseconds to make and most are never looked at;
as text they are read from a cache in one piece, and finding one is a search for its stamp.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_FORMAT = b"listing-2"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listing says of one file; size 0 and no ETag when only its checksum answered."""

    size: int
    etag: str
    last_modified_us: int | None


@dataclass(frozen=True)
class Folder:
    """The files whose stamps (`2024-01`, `2024-01-31`) lie from `since` to `upto`: '' is the beginning, None the end.

    `text` has a line per file, ascending by stamp: stamp, size, time in µs, ETag; and a newline before the first.
    """

    since: str
    upto: str | None
    text: bytes

    @classmethod
    def of(cls, since: str, upto: str | None, files: Iterable[tuple[str, Listed]]) -> Folder:
        """The folder of some stamped files."""
        lines = []
        for stamp, listed in sorted(files, key=lambda file: file[0]):
            modified = "" if listed.last_modified_us is None else listed.last_modified_us
            lines.append(f"\n{stamp} {listed.size} {modified} {listed.etag}")
        return cls(since, upto, "".join((*lines, "\n")).encode())

    @classmethod
    def parse(cls, since: str, kept: bytes) -> Folder | None:
        """What `pack` made, or None if it is damaged or of another version."""
        head, _, text = kept.partition(b"\n")
        name, _, rest = head.partition(b" ")
        checksum, _, upto = rest.partition(b" ")
        text = b"\n" + text
        if name != _FORMAT or checksum != b"%08x" % zlib.crc32(text):
            return None
        return cls(since, upto.decode() or None, text)

    def pack(self) -> bytes:
        """The folder as bytes, for a cache."""
        return b"%s %08x %s%s" % (_FORMAT, zlib.crc32(self.text), (self.upto or "").encode(), self.text)

    def knows(self, stamp: str) -> bool:
        """Whether a file of this stamp would be listed here if there were one."""
        return self.since <= stamp and (self.upto is None or stamp <= self.upto)

    def get(self, stamp: str) -> Listed | None:
        """What is listed of the file with this stamp, or None."""
        at = self._line(stamp)
        if at < 0:
            return None
        _, size, modified, etag = self.text[at : self.text.index(b"\n", at)].decode().split(" ", 3)
        return Listed(int(size), etag, int(modified) if modified else None)

    def without(self, stamp: str) -> Folder:
        """The folder without the file of this stamp."""
        at = self._line(stamp)
        if at < 0:
            return self
        return Folder(self.since, self.upto, self.text[:at] + self.text[self.text.index(b"\n", at) + 1 :])

    @cached_property
    def first(self) -> str | None:
        """The first stamp, or None if no file is listed."""
        return self._stamp_at(1)

    @cached_property
    def last(self) -> str | None:
        """The last stamp, or None if no file is listed."""
        return self._stamp_at(self.text.rfind(b"\n", 0, -1) + 1)

    def _line(self, stamp: str) -> int:
        """Where the stamp's line begins, −1 if there is none."""
        found = self.text.find(b"\n%s " % stamp.encode())
        return found + 1 if found >= 0 else -1

    def _stamp_at(self, at: int) -> str | None:
        return self.text[at : self.text.index(b" ", at)].decode() if len(self.text) > 1 else None
