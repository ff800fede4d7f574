"""Bulk path, record path, archive file and REST page of the same klines say the same, to the last digit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_binance import kline_rows
from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import archive_rows, page_rows
from airflow_provider_binance.records import Image, Series
from tests.exactness.lines import File, files
from tests.realdata.reader import COLUMNS, Row, Rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = {"open_time", "close_time"}
_many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    """A chunk of COPY text ends within a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kline_rows, "_CHUNK_ROWS", 7)
        yield


def read(file: File, data: bytes) -> KlineRows:
    return archive_rows(data, Market(file.market), INTERVALS[file.interval], ref="file.zip")


def read_page(file: File, body: bytes) -> KlineRows:
    return page_rows(body, Market(file.market), INTERVALS[file.interval])


def as_copied(rows: KlineRows) -> list[Row]:
    """The COPY text, read as PostgreSQL would."""
    lines = b"".join(rows.copy_chunks(7)).decode().splitlines()
    found = [_completed(rows.copy_columns, line.split(",")[1:]) for line in lines if line.startswith("7,")]
    for row in found:
        if row["close_time"] is None:  # NULL, or left out: the regular one
            row["close_time"] = rows._interval.close_time(row["open_time"])  # type: ignore[arg-type]
    return found


def as_tuples(rows: KlineRows) -> list[Row]:
    return [_completed(rows.columns, [str(value) for value in line]) for line in rows.tuples()]


def as_sqlite_reads(rows: KlineRows) -> list[Row]:
    """What stands in images and in the tuples between them, in the types that SQLite gives it."""
    found: list[Row] = []
    for chunk in rows.sqlite_chunks(images=5):
        for values in read_image(chunk) if isinstance(chunk, Image) else chunk:
            for name, value in zip(rows.columns, values, strict=True):
                assert isinstance(value, int if name in {"trade_count", *TIMES} else str)
            found.append(_completed(rows.columns, [str(value) for value in values]))
    return found


def read_image(image: Image) -> list[tuple[int | str | None, ...]]:
    """The rows of an image as SQLite finds them; it must find nothing wrong with it either."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(image.data)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = db.execute(f"SELECT {', '.join(image.columns)} FROM rows").fetchall()
    assert len(found) == image.rows
    return found


def as_records(rows: KlineRows, file: File) -> list[Row]:
    series = Series(file.market, "klines", "ANY", file.interval)
    found = []
    for kline in rows.klines(series):
        assert kline[:3] == (file.market, "ANY", file.interval)
        row: Row = {name: getattr(kline, name) for name in COLUMNS}
        found.append(row | {name: _us(getattr(kline, name)) for name in TIMES})
    return found


def _completed(columns: Sequence[str], texts: list[str]) -> Row:
    row: Row = dict.fromkeys(COLUMNS)
    for name, text in zip(columns, texts, strict=True):
        if text == "\\N":
            assert name == "close_time"
        elif name in TIMES:
            row[name] = int(text) if text.isdigit() else _us(datetime.fromisoformat(text))
        else:
            row[name] = int(text) if name == "trade_count" else Decimal(text)
    return row


def _us(at: datetime) -> int:
    assert at.utcoffset() == timedelta(0)
    return (at - EPOCH) // timedelta(microseconds=1)


def assert_all_forms(rows: KlineRows, file: File, expected: Rows) -> None:
    wanted = list(expected.values())
    assert list(rows.times_us()) == list(expected)
    assert as_copied(rows) == wanted
    assert as_tuples(rows) == wanted
    assert as_sqlite_reads(rows) == wanted
    assert as_records(rows, file) == wanted


@_many
@given(files())
def test_every_form_says_what_the_line_says(file: File) -> None:
    """COPY text, tuples, SQLite's images and records, from an archive file and from a page: one truth."""
    assert_all_forms(read(file, file.csv()), file, file.rows())
    assert_all_forms(read_page(file, file.page()), file, file.rows())


@_many
@given(files())
def test_canonical_text_has_no_exponent_and_no_needless_zero(file: File) -> None:
    """SQLite's text is plain and as short as exactness allows."""
    rows = read(file, file.csv())
    for line in rows.tuples():
        for name, value in zip(rows.columns, line, strict=True):
            if isinstance(value, str):
                assert name not in TIMES
                assert set(value) <= set("0123456789.")
                assert not ("." in value and value[-1] in "0.")
                assert value == "0" or value[0] != "0" or value[:2] == "0."


@_many
@given(
    files(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    st.sampled_from(["", '"']),
    st.sampled_from(["", " ", "\t"]),
)
def test_odd_spellings_of_a_file_end_the_same(file: File, newline: str, end: str, quote: str, blank: str) -> None:
    """Quotes, carriage returns, blanks, with or without a last newline."""
    if quote and blank:
        blank = ""  # a quote after a blank is no quote in CSV
    assert_all_forms(read(file, file.csv(newline, end, quote, blank)), file, file.rows())


@_many
@given(files(), st.sampled_from([", ", ",\n  ", " ,"]), st.booleans())
def test_odd_spellings_of_a_page_end_the_same(file: File, glue: str, unquoted: bool) -> None:
    """Blanks between the slots, and numbers in place of texts."""
    body = file.page(glue)
    if unquoted and not any(field.startswith("0") and field[1:2].isdigit() for line in file.lines for field in line):
        body = body.replace(b'"', b"")
    assert_all_forms(read_page(file, b"\n" + body + b" "), file, file.rows())


@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ("1e-8", "0.00000001"),
        ("1.2345678901212345678E11", "123456789012.12345678"),
        ("+5", "5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007.50", "7.5"),
        ("0E-8", "0"),
        ("-0.0", "0"),
        ("1E3", "1000"),
    ],
)
def test_odd_numbers_become_plain(spelled: str, value: str) -> None:
    """An exponent, a sign, a missing digit: the same number."""
    line = f"1704067200000,{','.join([spelled] * 5)},1704067259999,{spelled},3,{spelled},{spelled},0"
    file = File("spot", "1m", (tuple(line.replace(spelled, value).split(",")),), has_header=False)
    rows = read(file, line.encode())
    assert_all_forms(rows, file, file.rows())
    [found] = rows.tuples()
    assert found[1] == value


@_many
@given(files(), st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter_and_repetitions_do_not_count(file: File, random: object) -> None:
    """Shuffled and doubled lines are the same rows."""
    lines = [*file.lines, *file.lines[:3]]
    random.shuffle(lines)  # type: ignore[attr-defined]
    shuffled = File(file.market, file.interval, tuple(lines), file.has_header)
    assert_all_forms(read(file, shuffled.csv()), file, file.rows())


def test_a_byte_order_mark_before_a_header_is_passed_over() -> None:
    """Some programs put one there."""
    one = ("1704067200000", "1", "1", "1", "1", "1", "1704067259999", "1", "1", "1", "1", "0")
    file = File("spot", "1m", (one,), has_header=True)
    assert_all_forms(read(file, b"\xef\xbb\xbf" + file.csv()), file, file.rows())


def test_two_klines_of_one_instant_are_refused() -> None:
    """Nobody can know which of them is right."""
    one = ("1704067200000", "1", "1", "1", "1", "1", "1704067259999", "1", "1", "1", "1", "0")
    file = File("spot", "1m", (one, (*one[:4], "2", *one[5:])), has_header=False)
    with pytest.raises(CorruptArchiveError, match="two different klines"):
        read(file, file.csv())
    with pytest.raises(MalformedResponseError, match="two different klines"):
        read_page(file, file.page())
