"""Damaged files and pages end in the one error that says so, or in rows that all forms agree on; never in another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.kline_rows import KlineRows
from tests.exactness.lines import File, files
from tests.exactness.test_forms import as_copied, as_records, as_sqlite_reads, as_tuples, read, read_page

LINE = b"1704067200000,1.5,2,1,1.25,10,1704067259999,12.5,3,4,5,0"
ONE = File("spot", "1m", (tuple(LINE.decode().split(",")),), has_header=False)
_most = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One to four bytes changed, cut out or put in, wherever."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["change", "cut", "insert"]),
                st.floats(0, 1, exclude_max=True),
                st.one_of(
                    st.binary(min_size=1, max_size=3), st.sampled_from([b".", b",", b"\n", b'"', b"e9", b"-", b"]"])
                ),
                st.integers(1, 40),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def damage(data: bytes) -> bytes:
        for kind, where, what, length in edits:
            at = int(where * (len(data) + 1))
            if kind == "cut":
                data = data[:at] + data[at + length :]
            else:
                data = data[:at] + what + data[at + (len(what) if kind == "change" else 0) :]
        return data

    return damage


def _all_forms(rows: KlineRows, file: File) -> None:
    """Whatever was accepted is read alike by all forms, or refused by all of them."""
    outcomes: list[object] = []
    for form in (as_copied, as_tuples, as_sqlite_reads, lambda rows: as_records(rows, file)):
        try:
            outcomes.append(form(rows))
        except CorruptArchiveError:
            outcomes.append(None)
    assert all(outcome == outcomes[0] for outcome in outcomes)


@_most
@given(files(most=4), damages())
def test_a_damaged_file(file: File, damage: Damage) -> None:
    """CorruptArchiveError, or rows."""
    try:
        rows = read(file, damage(file.csv()))
    except CorruptArchiveError:
        return
    _all_forms(rows, file)


@_most
@given(files(most=4), damages())
def test_a_damaged_page(file: File, damage: Damage) -> None:
    """MalformedResponseError, or rows."""
    try:
        rows = read_page(file, damage(file.page()))
    except MalformedResponseError:
        return
    _all_forms(rows, file)


@_most
@given(st.binary(max_size=200))
def test_bytes_of_any_kind(data: bytes) -> None:
    """What is no kline at all is refused by name."""
    for reader, error in ((read, CorruptArchiveError), (read_page, MalformedResponseError)):
        try:
            _all_forms(reader(ONE, data), ONE)
        except error:
            pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b",2,", b",,"),
        (b",2,", b",2,2,"),
        (b",2,", b",1.2.3,"),
        (b",2,", b",.,"),
        (b",2,", b",nan,"),
        (b",2,", b",Infinity,"),
        (b",2,", b",1e999999999,"),
        (b",2,", b",2-3,"),
        (b",3,4,", b",3.5,4,"),
        (b",3,4,", b",-3,4,"),
        (b",3,4,", b",99999999999999999999,4,"),
        (b",1704067259999,", b",17040672599,"),
        (b",1704067259999,", b",17040672599990,"),
        (b",1704067259999,", b",-1704067259999,"),
        (b"1704067200000,", b"17040672000,"),
        (b"1704067200000,", b"1704067200000.5,"),
        (b"1704067200000,", b"1704067200000000,1704067200000,"),
        (b"5,0", b"5"),
        (b"5,0", b"5,"),
        (b"1.5", b'"1.5'),
        (b"1.5", b"1.5\x00"),
        (b"1.5", b"\xff"),
    ],
)
def test_one_wrong_value_is_refused_by_every_reader(old: bytes, new: bytes) -> None:
    """A row is well-formed or the file is corrupt; no such value reaches a database."""
    data = LINE.replace(old, new)
    assert data != LINE
    with pytest.raises(CorruptArchiveError):
        list(read(ONE, LINE.replace(b"1704067", b"1704066") + b"\n" + data + b"\n").tuples())
    with pytest.raises(CorruptArchiveError):
        list(read(ONE, data).copy_chunks(1))
    with pytest.raises(CorruptArchiveError):
        list(read(ONE, data).sqlite_chunks(images=1))
    with pytest.raises(CorruptArchiveError):
        as_records(read(ONE, data), ONE)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"null", b"[[]]", b"[[],[]]", b"[null]", b"[[1]]", b"<html>", b'{"code":-1121,"msg":"x"}', b"[",
        b"[[1704067200000,null]]", b"[[" + LINE + b"]", b"[[" + LINE + b"],[]]", b"[[" + LINE + b"],]",
        b"[" * 100_000, b"[[" + LINE.replace(b",3,", b",99999999999999999999,") + b"]]",
        b"[[" + LINE.replace(b"259999", b"2599990") + b"]]", b"[[" + LINE + b"]]x", "[[１]]".encode(),
    ],
)  # fmt: skip
def test_what_is_no_page_is_refused(body: bytes) -> None:
    """At once, when it is read, so that the request can be blamed."""
    with pytest.raises(MalformedResponseError):
        read_page(ONE, body)


def test_an_empty_page_is_a_page() -> None:
    """No klines in the window."""
    assert len(read_page(ONE, b"[]")) == len(read_page(ONE, b" [ ] ")) == 0


def test_a_quote_without_its_end_in_a_long_file_is_corrupt() -> None:
    """More text behind it than a field of CSV may have."""
    lines = b"\n".join(LINE.replace(b"1704067200000", b"%d" % (1704067200000 + 60000 * i)) for i in range(4000))
    with pytest.raises(CorruptArchiveError):
        read(ONE, lines.replace(b",1.5,", b',"1.5,', 1))
