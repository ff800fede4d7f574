"""Reading recorded klines: archive CSV, and what REST clients of several kinds have written to disk.

All become open times and lines, side by side. A line is ``open,high,low,close,volume,close_time,quote_volume,count,
taker_volume,taker_quote_volume`` with empty fields where the recording has none; as text, since millions of small
strings would fill the memory.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zipfile
from array import array
from decimal import Decimal
from pathlib import Path

from airflow_provider_binance.simulator.clock import to_ms

Lines = tuple["array[int]", list[str]]

# 16 digits are microseconds, 13 milliseconds.
MICROSECOND_DIGITS = 16
# A float that was printed in full; sixteen digits are more than Binance prints.
NOISY_DIGITS = 15


def read_text(path: Path) -> str:
    """The text of a file; the only member of a zip, unpacked if its name says gzip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0]).decode()
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    return path.read_text(encoding="utf-8")


def archive_lines(text: str) -> Lines:
    """Lines of an archive CSV, with or without header row, in milli- or microseconds."""
    opens, lines = array("q"), []
    for line in text.splitlines():
        first, _, rest = line.partition(",")
        if not first.isdigit():
            continue
        opens.append(int(first) // 1000 if len(first) >= MICROSECOND_DIGITS else int(first))
        lines.append(rest.rpartition(",")[0])
    return opens, lines


def recorded_lines(path: Path) -> Lines:
    """Lines of a REST recording without its last row, which may have been forming still.

    Raises:
        ValueError: a format that is not known.
    """
    if path.suffix == ".feather":
        opens, lines = _feather_lines(path)
    elif ".json" in path.suffixes:
        opens, lines = _json_lines(read_text(path))
    elif ".csv" in path.suffixes:
        opens, lines = _csv_lines(read_text(path))
    else:
        raise ValueError(f"{path}: no kline recording that the simulator can read")
    return opens[:-1], lines[:-1]


def first_open(path: Path) -> int:
    """Open time of a REST recording's first row, read from its beginning where the format allows it."""
    if path.suffix != ".gz":
        return recorded_lines(path)[0][0]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        beginning = file.read(1000)
    # A first row of JSON, or a second line of CSV.
    match = re.search(r"\[\[(\d+),|\n([^,]+),", beginning)
    if match is None:
        raise ValueError(f"{path}: no kline recording that the simulator can read")
    moment = match[1] or match[2]
    return int(moment) if moment.isdigit() else to_ms(moment)


def _json_lines(text: str) -> Lines:
    opens, lines = array("q"), []
    for row in json.loads(text, parse_float=str):
        opens.append(int(row[0]))
        lines.append(",".join(_clean(str(value)) for value in row[1:6]) + ",,,,,")
    return opens, lines


def _csv_lines(text: str) -> Lines:
    opens, lines = array("q"), []
    for row in csv.DictReader(text.splitlines()):
        moment = row["timestamp"]
        opens.append(int(moment) if moment.isdigit() else to_ms(moment))
        values = [_clean(row[name]) for name in ("open", "high", "low", "close", "volume")]
        values += [row.get(name) or "" for name in ("close_time", "quote_volume", "trades")]
        lines.append(",".join(values) + ",,")
    return opens, lines


def _feather_lines(path: Path) -> Lines:
    # Only this format needs pyarrow, which takes a third of a second to import and may be absent.
    try:
        from pyarrow import feather  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(f"reading {path} needs pyarrow: pip install pyarrow") from None

    table = feather.read_table(path)
    moments = [moment_ns // 1_000_000 for moment_ns in table.column("date").cast("int64").to_pylist()]
    columns = [table.column(name).to_pylist() for name in ("open", "high", "low", "close", "volume")]
    lines = [",".join(_clean(repr(value)) for value in row) + ",,,,," for row in zip(*columns, strict=True)]
    return array("q", moments), lines


def _clean(number: str) -> str:
    """Plain notation, and without the noise of a sum of floats."""
    if len(number) <= NOISY_DIGITS and "e" not in number:
        return number
    return format(Decimal(repr(float(number))), "f")
