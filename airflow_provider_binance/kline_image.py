"""`image`: many kline lines as a database of SQLite's own, made in memory.

SQLite inserts and compares the rows of another database in one statement. That is a third of what it takes to bind
every value of them, and no Python object is made per value (measured). A record's head tells how long its columns are,
so that a line goes into it as it is: between two columns of canonical text is one of what nobody wants, the zeros cut
off, the comma. The format is that of https://www.sqlite.org/fileformat2.html; numpy writes the heads, all at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from airflow_provider_binance.kline_lines import FIELDS, Lines
from airflow_provider_binance.market import Interval
from airflow_provider_binance.records import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAGE = 32 * 1024
#: The slots that become columns: all but the open time, which is the rowid, the regular close time, and the unused one.
_SLOTS = (1, 2, 3, 4, 5, 7, 8, 9, 10)
_COUNT = 8
#: A cell: the payload's length (2 bytes), the rowid (8 bytes, as every number from 2⁴⁹ to 2⁵⁶ takes), the length of the
#: record's head, the type of the rowid's column, and of every other. Then comes the text.
_ROWID, _TYPES = 2, 12
_HEAD = _TYPES + 2 * len(_SLOTS) - 1
_RECORD_HEAD = _HEAD - _ROWID - 8
_LEAST_US, _MOST_US = 1 << 49, 1 << 56
#: What a type of one byte can say.
_MOST_BYTES = 57
_TEXT, _BLOB = 13, 12


def image(lines: Lines, times_us: Sequence[int], interval: Interval) -> Image | None:
    """The image of regular lines (at least one); None if their digits are so unusual that they must be read one by one,
    or if this SQLite cannot read images."""
    import numpy as np

    first_page = _first_page()
    if first_page is None or not _LEAST_US <= times_us[0] <= times_us[-1] < _MOST_US:
        return None
    if (all_ends := lines.canonical_ends()) is None:
        return None
    chosen = [slot - 1 for slot in _SLOTS]
    starts, ends = lines.places[:, chosen] + 1, all_ends[:, chosen]
    texts, gaps = ends - starts, starts[:, 1:] - ends[:, :-1]
    if max(texts.max(), gaps.max()) > _MOST_BYTES:
        return None
    sizes = ends[:, -1] - starts[:, 0]
    heads = np.empty((len(lines), _HEAD), np.uint8)
    payloads = sizes + _RECORD_HEAD
    heads[:, 0], heads[:, 1] = payloads >> 7 | 0x80, payloads & 0x7F
    heads[:, _ROWID : _ROWID + 8] = _rowids(np.asarray(times_us, np.int64))
    heads[:, _ROWID + 8], heads[:, _ROWID + 9] = _RECORD_HEAD, 0
    heads[:, _TYPES::2], heads[:, _TYPES + 1 :: 2] = _TEXT + 2 * texts, _BLOB + 2 * gaps
    cells = _cells(heads, lines.text, starts[:, 0].tolist(), ends[:, -1].tolist())
    sizes += _HEAD
    rows = (_PAGE - 8) // (int(sizes.max()) + 2)
    leaves = [_leaf(cells[2 * at : 2 * (at + rows)], sizes[at : at + rows]) for at in range(0, len(lines), rows)]
    pages = leaves
    if len(leaves) > 1:
        pages = [_root(np.asarray(times_us[rows - 1 :: rows][: len(leaves) - 1], np.int64)), *leaves]
    head = first_page[:28] + struct.pack(">I", len(pages) + 1) + first_page[32:]
    names = {slot: f"CAST(slot_{slot} AS INTEGER)" if slot == _COUNT else f"slot_{slot}" for slot in _SLOTS}
    names |= {0: "slot_0", 6: f"slot_0 + {interval.size_us - 1000}"}
    return Image(b"".join([head, *pages]), len(lines), tuple(names[slot] for slot in range(FIELDS - 1)))


@cache
def _first_page() -> bytes | None:
    """The page with the table's definition, as SQLite itself makes it; None if it does otherwise than is awaited."""
    import sqlite3

    columns = ["slot_0 INTEGER PRIMARY KEY"]
    for slot in _SLOTS:
        columns += [f"slot_{slot}", f"behind_{slot}"]
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(f"PRAGMA page_size = {_PAGE}; PRAGMA auto_vacuum = NONE")
        db.execute(f"CREATE TABLE rows ({', '.join(columns[:-1])})")
        page: bytes = db.serialize()[:_PAGE]
        [root] = db.execute("SELECT rootpage FROM sqlite_master").fetchone()
    reserved = page[20]
    return page if root == 2 and not reserved else None


def _rowids(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Each number as a varint of eight bytes."""
    import numpy as np

    found = np.empty((len(numbers), 8), np.uint8)
    for byte in range(8):
        found[:, byte] = numbers >> 49 - 7 * byte & 0x7F
    found[:, :-1] |= 0x80
    return found


def _cells(heads: NDArray[np.uint8], text: bytes, starts: list[int], ends: list[int]) -> list[bytes]:
    """Head and text of each cell, by turns."""
    cells: list[bytes] = [b""] * (2 * len(heads))
    cells[::2] = heads.view(f"V{_HEAD}").ravel().tolist()
    cells[1::2] = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    return cells


def _leaf(cells: list[bytes], sizes: NDArray[np.int32]) -> bytes:
    """A page of rows: pointers in front, cells at the end."""
    import numpy as np

    content = b"".join(cells)
    top = _PAGE - len(content)
    pointers = (top + np.cumsum(sizes) - sizes).astype(">u2").tobytes()
    return (struct.pack(">BHHHx", 13, 0, len(sizes), top) + pointers).ljust(top, b"\0") + content


def _root(last: NDArray[np.int64]) -> bytes:
    """The page above all leaves; `last` is the rowid that each but the last one ends with."""
    import numpy as np

    cells = np.empty((len(last), 12), np.uint8)
    first_leaf = 3
    cells[:, :4] = np.arange(first_leaf, first_leaf + len(last), dtype=">u4").view(np.uint8).reshape(-1, 4)
    cells[:, 4:] = _rowids(last)
    top = _PAGE - cells.size
    pointers = np.arange(top, _PAGE, 12).astype(">u2").tobytes()
    head = struct.pack(">BHHHxI", 5, 0, len(last), top, first_leaf + len(last))
    return (head + pointers).ljust(top, b"\0") + cells.tobytes()
