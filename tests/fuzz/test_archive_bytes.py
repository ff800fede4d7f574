"""Zips and listings that somebody made in bad faith: refused as corrupt, nothing written, little memory taken."""

from __future__ import annotations

import io
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.archive.files import FetchedFile
from airflow_provider_binance.archive.layout import ArchiveFile, Partition
from airflow_provider_binance.archive.listing import _read_answer
from airflow_provider_binance.errors import CorruptArchiveError, UnreachableError
from airflow_provider_binance.records import Series
from tests.fuzz.hostile import many, words

START = 1_704_067_200_000_000
NAME = "BTCUSDT-1m-2024-01-01"
FILE = ArchiveFile(f"data/spot/daily/klines/BTCUSDT/1m/{NAME}.zip", Partition.DAILY, START, START + 86_400_000_000)
CSV = b"".join(
    b"%d,1.5,2,1,1.25,10,%d,12.5,3,4,5,0\n"
    % (START // 1000 + minute * 60_000, START // 1000 + minute * 60_000 + 59_999)
    for minute in range(1440)
)
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
_where = st.floats(0, 1, exclude_max=True)


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


GOOD = zipped((f"{NAME}.csv", CSV))


def rows_of(content: bytes) -> int:
    """How many klines are read from a zip whose checksum was right; raises CorruptArchiveError, or the test fails."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        fetched = FetchedFile(FILE, file, "0" * 64, len(content), FILE.end_us, len(content))
        return sum(len(rows) for _, _, rows in fetched.rows(Series("spot", "klines", "BTCUSDT", "1m")))


def test_the_good_one_is_read() -> None:
    assert rows_of(GOOD) == 1440


@many(400)
@given(
    edits=st.lists(st.tuples(_where, st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_changed_bytes(edits: list[tuple[float, bytes]], cut: float | None) -> None:
    """All rows, or none."""
    content = bytearray(GOOD)
    for where, what in edits:
        at = int(where * len(content))
        content[at : at + len(what)] = what
    if cut is not None:
        del content[int(cut * len(content)) :]
    try:
        assert rows_of(bytes(content)) == 1440
    except CorruptArchiveError:
        pass


@many(200)
@given(st.binary(max_size=300))
def test_no_zip_at_all(content: bytes) -> None:
    with pytest.raises(CorruptArchiveError):
        rows_of(content)


@many(150)
@given(name=words(), how=st.sampled_from(METHODS), twice=st.booleans())
def test_members_of_other_names(
    name: str, how: int, twice: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path out of the archive is no path: members are read, never unpacked, and only the expected one."""
    monkeypatch.chdir(tmp_path)
    members = [(f"{NAME}.csv", CSV)] if twice else []
    try:
        content = zipped(*members, (name, CSV), how=how)
    except (UnicodeEncodeError, ValueError, IndexError):
        return  # zipfile cannot write it
    with pytest.raises(CorruptArchiveError):
        rows_of(content)
    assert list(tmp_path.iterdir()) == []


def _claims(content: bytes, size: int) -> bytes:
    """The zip with another unpacked size in both of its headers."""
    made = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = made.index(signature)
        made[at + offset : at + offset + 4] = struct.pack("<I", size)
    return bytes(made)


BOMB = zipped((f"{NAME}.csv", b"0" * 400_000_000))


@pytest.mark.parametrize(
    "make",
    [
        lambda: BOMB,
        lambda: _claims(BOMB, 1_000_000),
        lambda: _claims(BOMB, 30_000_000),
        lambda: _claims(GOOD, 2**32 - 2),
    ],
    ids=["400 MB", "400 MB that claim 1 MB", "400 MB that claim 30 MB", "4 GB claimed"],
)
def test_bombs(make: Callable[[], bytes]) -> None:
    """Refused before they are unpacked, or as far as they claim to go."""
    content = make()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArchiveError):
            rows_of(content)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>d</Name>'
    b"<IsTruncated>false</IsTruncated><Contents><Key>data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip</Key>"
    b"<LastModified>2024-01-02T09:00:00.000Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>52428</Size></Contents>"
    b"</ListBucketResult>"
)
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + ']><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>&j;</Name></ListBucketResult>'
).encode()
OUTSIDE = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents><Key>&x;</Key></Contents></ListBucketResult>'
)


@many(400)
@given(edits=st.lists(st.tuples(_where, st.binary(max_size=6), st.integers(0, 30)), min_size=1, max_size=3))
def test_damaged_listings(edits: list[tuple[float, bytes, int]]) -> None:
    """Files, or UnreachableError, which is tried again."""
    body = LISTING
    for where, what, gone in edits:
        at = int(where * len(body))
        body = body[:at] + what + body[at + gone :]
    try:
        files, _, _ = _read_answer(body, "data/")
    except UnreachableError:
        return
    assert len(files) <= 1


@pytest.mark.parametrize("body", [LAUGHS, OUTSIDE], ids=["expanding entities", "a file of this machine"])
def test_listings_in_bad_faith(body: bytes) -> None:
    with pytest.raises(UnreachableError):
        _read_answer(body, "data/")
