"""An independent reader of the recordings: `csv`, `json` and `Decimal`, and nothing of the package under test.

It knows by itself what milliseconds and microseconds are, what a header row is, and where coin-margined columns lie. A
row is a dict with the columns that the recording has; times are integer microseconds, `close_time` floored to the ms.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

Value = int | Decimal | None
Row = dict[str, Value]
Rows = dict[int, Row]

#: Every column after market, symbol and interval.
COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trade_count",
    "taker_buy_base_volume", "taker_buy_quote_volume", "contracts", "taker_buy_contracts",
)  # fmt: skip


def text_of(path: Path) -> str:
    """The text of a recording, unpacked."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0]).decode()
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def archive_file(path: Path, *, coin: bool = False) -> Rows:
    """The rows of an archive file with all columns."""
    return _twelve_slots(csv.reader(io.StringIO(text_of(path))), coin=coin)


def _twelve_slots(lines: Iterable[Sequence[str]], *, coin: bool) -> Rows:
    found: Rows = {}
    for fields in lines:
        if not fields or not fields[0].isdigit():
            continue
        at = _microseconds(int(fields[0]))
        o, h, l, c, slot5, slot7, slot9, slot10 = (Decimal(fields[i]) for i in (1, 2, 3, 4, 5, 7, 9, 10))  # noqa: E741
        found[at] = {
            "open_time": at, "open": o, "high": h, "low": l, "close": c,
            "volume": slot7 if coin else slot5,
            "close_time": _microseconds(int(fields[6])) // 1000 * 1000,
            "quote_volume": None if coin else slot7,
            "trade_count": int(fields[8]),
            "taker_buy_base_volume": slot10 if coin else slot9,
            "taker_buy_quote_volume": None if coin else slot10,
            "contracts": slot5 if coin else None,
            "taker_buy_contracts": slot9 if coin else None,
        }  # fmt: skip
    return found


def archive_files(paths: Iterable[Path]) -> Rows:
    """The rows of several archive files."""
    return {at: row for path in paths for at, row in archive_file(path).items()}


def json_recording(path: Path) -> Rows:
    """`[ms, o, h, l, c, v]` as a client of REST wrote it down; the last row may have been forming."""
    rows = json.loads(text_of(path), parse_float=_unfloated)
    found: Rows = {}
    for stamp, *values in rows[:-1]:
        found[stamp * 1000] = _prices([Decimal(value) for value in values[:5]]) | {"open_time": stamp * 1000}
    return found


def csv_recording(path: Path) -> Rows:
    """A table with names on top; the last row may have been forming."""
    found: Rows = {}
    for line in list(csv.DictReader(io.StringIO(text_of(path))))[:-1]:
        stamp = line["timestamp"]
        at = int(stamp) * 1000 if stamp.isdigit() else _instant(stamp)
        row: Row = {"open_time": at}
        row |= _prices([Decimal(line[name]) for name in ("open", "high", "low", "close", "volume")])
        if "quote_volume" in line:
            row |= {
                "quote_volume": Decimal(line["quote_volume"]),
                "trade_count": int(line["trades"]),
                "close_time": int(line["close_time"]) * 1000,
            }
        found[at] = row
    return found


def rest_rows(rows: Iterable[Sequence[str | int]], *, coin: bool = False) -> Rows:
    """Rows of twelve slots as REST prints them."""
    return _twelve_slots(([str(slot) for slot in row] for row in rows), coin=coin)


def instant(text: str) -> int:
    """ISO text in UTC as microseconds."""
    return _instant(text.removesuffix("Z"))


def _instant(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _microseconds(stamp: int) -> int:
    return stamp if stamp > 10**14 else stamp * 1000


def _unfloated(text: str) -> Decimal:
    """The number that a client which counts in floats had before it: 4842461.4000000004 was 4842461.4."""
    return Decimal(text) if len(text) <= 15 else Decimal(repr(float(text)))


def _prices(values: list[Decimal]) -> Row:
    return dict(zip(("open", "high", "low", "close", "volume"), values, strict=True))
