"""Binance's kline shapes → rows. Sole owner of ms-or-µs and of cm's shifted columns.

Archive lines and REST pages are brought to one form, twelve comma-separated fields a line, and stay bytes from there to
the database (`KlineRows`): a page of the bulk path is never a Python object per value. Anything that the bulk path does
not know to the letter (quotes, exponents, blanks, a header in an odd place) goes through the slow reader, which ends in
the same lines or in CorruptArchiveError / MalformedResponseError. `klines()` is the record path beside it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.kline_lines import FIELDS
from airflow_provider_binance.kline_rows import KlineRows, canonical
from airflow_provider_binance.market import INTERVALS, Interval, Market
from airflow_provider_binance.normalize_ticks import archive_ticks
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Continuity
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.tick_rows import TickRows

SeriesRows = KlineRows | TickRows

_DIGITS = b"0123456789"
_PLAIN = _DIGITS + b".,\n"
#: What is left of a line without its digits: slots 0, 6 and 8 are whole numbers, the others have at most one point.
_SHAPE = re.compile(rb",(?:-?\.?,){5},-?\.?,,-?\.?,-?\.?,-?\.?")


def archive_rows(data: bytes, market: Market, interval: Interval, *, ref: str) -> KlineRows:
    """Rows of an archive file's CSV, or of a part of it that ends at a line's end.

    A header line, which begins with a letter, is passed over; milliseconds or microseconds are told by the digits.
    Raises CorruptArchiveError, naming `ref`, for anything that is not twelve well-formed fields a line.
    """
    if data[:64].lstrip(b'\xef\xbb\xbf \t\r\n"')[:1].isalpha():  # perhaps behind a byte order mark
        data = data.partition(b"\n")[2]
    try:
        return _rows(data.rstrip(b"\n"), market, interval)
    except ValueError as error:
        raise CorruptArchiveError(f"archive file {ref}: {error}", ref=ref) from error


def series_rows(data: bytes, series: Series, *, ref: str) -> SeriesRows:
    """Rows of an archive file's CSV, or of a part of it, whatever its dataset is; raises CorruptArchiveError."""
    market = Market(series.market)
    if registered(series.dataset).continuity is Continuity.ID:
        return archive_ticks(data, series.dataset, market, ref=ref)
    return archive_rows(data, market, INTERVALS[series.interval], ref=ref)


def page_rows(body: bytes, market: Market, interval: Interval) -> KlineRows:
    """Rows of one REST page, a JSON array of twelve-slot arrays. Raises MalformedResponseError for anything else."""
    text = body.strip()
    if text == b"[]":
        return KlineRows.read(b"", market, interval)
    data = b""
    if text[:2] == b"[[" and text[-2:] == b"]]":
        data = text[2:-2].replace(b"],[", b"\n").replace(b'"', b"")
    try:
        if not data or data.translate(None, _PLAIN):
            data = _page_lines(text)
        rows = _rows(data, market, interval)
        rows.check()
        return rows
    except (ValueError, RecursionError) as error:
        raise MalformedResponseError(f"a page of klines is not what Binance documents: {error}") from error


def _rows(data: bytes, market: Market, interval: Interval) -> KlineRows:
    """Checked rows of plain lines; raises ValueError."""
    shapes = data.translate(None, _DIGITS)
    if shapes.translate(None, _PLAIN):
        data = _csv_lines(data)
        shapes = data.translate(None, _DIGITS)
    # Few shapes stand for all lines, mostly one: a look at each of them costs next to nothing.
    first, rows = shapes.partition(b"\n")[0], shapes.count(b"\n") + 1
    different = {first} if shapes == b"\n".join([first] * rows) else set(shapes.split(b"\n"))
    if data and not all(map(_SHAPE.fullmatch, different)):
        _refuse_odd(data)
    try:
        return KlineRows.read(data, market, interval)
    except ValueError:
        _refuse_odd(data)
        raise


def _refuse_odd(data: bytes) -> None:
    """Raise ValueError with the first line that is not twelve numbers, if there is one."""
    for number, line in enumerate(data.split(b"\n"), 1):
        fields = line.split(b",")
        shape = line.translate(None, _DIGITS)
        if len(fields) != FIELDS or not all(fields) or b"." in fields or not _SHAPE.fullmatch(shape):
            raise ValueError(f"line {number} has not {FIELDS} numbers: {line[:80]!r}")


def _csv_lines(data: bytes) -> bytes:
    """The slow reader of archive text: quotes, carriage returns, blanks and exponents end in plain lines."""
    text = data.decode("utf-8")
    try:
        return "\n".join(_plain_line(row) for row in csv.reader(io.StringIO(text, newline="")) if row).encode("ascii")
    except csv.Error as error:  # not a ValueError: a quote without its end, for one
        raise ValueError(str(error)) from error


def _page_lines(body: bytes) -> bytes:
    """The slow reader of a REST page: any JSON spelling of the documented arrays."""
    page = json.loads(body, parse_float=str)
    if not isinstance(page, list) or not all(isinstance(row, list) for row in page):
        raise ValueError(f"expected an array of arrays, got {body[:80]!r}")
    return "\n".join(_plain_line([str(slot) for slot in row]) for row in page).encode("ascii")


def _plain_line(fields: Sequence[str]) -> str:
    if len(fields) != FIELDS:
        raise ValueError(f"expected {FIELDS} fields, got {len(fields)}: {list(fields)[:12]!r}")
    stripped = [field.strip() for field in fields]
    plain = [field if slot in (0, 6, 8) else canonical(field) for slot, field in enumerate(stripped)]
    for slot in (0, 6, 8):
        if not (plain[slot].isascii() and plain[slot].isdecimal()):
            raise ValueError(f"slot {slot} {plain[slot]!r} is no whole number")
    return ",".join(plain)
