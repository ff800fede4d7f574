"""Binance's shapes of ticks → rows: archive lines and REST pages end in the same plain lines, and these in `TickRows`.

Sole owner of what differs from market to market and file to file: header or not, milliseconds or microseconds, `True`
or `true`, `542.0` contracts, rows out of order and rows twice. What the bulk path does not know to the letter goes
through the slow reader, which ends in the same lines or in an error.
"""

from __future__ import annotations

import csv
import io
import json
from functools import lru_cache
from typing import Any

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.kline_rows import canonical
from airflow_provider_binance.market import Market
from airflow_provider_binance.registry import Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.tick_lines import TickLines, TickShape
from airflow_provider_binance.tick_rows import TickRows

_HEADER_BEGINS = b'\xef\xbb\xbf \t\r\n"'


@lru_cache(maxsize=16)
def archive_shape(dataset_name: str, market: Market) -> TickShape:
    """What the fields of an archive line are."""
    entry = registered(dataset_name)
    return TickShape(entry, entry.archive_fields[market])


@lru_cache(maxsize=16)
def page_shape(dataset_name: str, market: Market) -> TickShape:
    """What the fields of a row of a REST page are, in the order in which it is written as a line."""
    entry = registered(dataset_name)
    return TickShape(entry, tuple(entry.by_id[market].fields.values()))


def archive_ticks(data: bytes, dataset_name: str, market: Market, *, ref: str) -> TickRows:
    """Rows of an archive file's CSV, or of a part of it that ends at a line's end.

    A header line, which begins with a letter, is passed over. Raises CorruptArchiveError, naming `ref`, for anything
    that is not rows of the dataset, and for two different rows of one id.
    """
    shape = archive_shape(dataset_name, market)
    if data[:64].lstrip(_HEADER_BEGINS)[:1].isalpha():
        data = data.partition(b"\n")[2]
    data = data.rstrip(b"\n")
    try:
        return TickRows(_lines(shape, data))
    except ValueError as error:
        raise CorruptArchiveError(f"archive file {ref}: {error}", ref=ref) from error


def page_ticks(body: bytes, dataset_name: str, market: Market) -> TickRows:
    """Rows of one REST page, a JSON array of objects. Raises MalformedResponseError for anything else."""
    shape = page_shape(dataset_name, market)
    names = tuple(registered(dataset_name).by_id[market].fields)
    try:
        page = json.loads(body)
        if not isinstance(page, list):
            raise ValueError("no list of rows")
        text = "\n".join([",".join([_text(row[name]) for name in names]) for row in page])
        return TickRows(_lines(shape, text.encode("ascii")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedResponseError(f"a page of {dataset_name} is not what Binance documents: {error!r}") from error


def _lines(shape: TickShape, data: bytes) -> TickLines:
    """The lines, after a second look where the first found something odd; raises ValueError."""
    try:
        return TickLines.read(shape, data)
    except ValueError:
        plain = _plain_lines(shape, data)
        if plain == data:
            raise
        return TickLines.read(shape, plain)


def _plain_lines(shape: TickShape, data: bytes) -> bytes:
    """The slow reader: quotes, carriage returns, blanks and exponents end in plain lines."""
    text = data.decode("utf-8")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:  # not a ValueError: a quote without its end, for one
        raise ValueError(str(error)) from error
    lines = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(shape.fields):
            raise ValueError(f"line {number} has {len(row)} fields, not {len(shape.fields)}: {','.join(row)[:120]!r}")
        fields = [field.strip() for field in row]
        fields = [
            canonical(field) if kind is Kind.DECIMAL else field for field, kind in zip(fields, shape.kinds, strict=True)
        ]
        lines.append(",".join(fields))
    return "\n".join(lines).encode("ascii")


def _text(value: Any) -> str:
    """A JSON value as a field of a line."""
    if isinstance(value, (str, bool)):
        return str(value)
    if isinstance(value, int):
        return str(value)
    raise ValueError(f"{value!r} is no text, whole number or flag")
