"""Fetching and opening archive files: verified, resumed, bounded, and suspicious of what is inside."""

from __future__ import annotations

import io
import random
import tempfile
import zipfile
from pathlib import Path

import pytest

from airflow_provider_binance.archive import files
from airflow_provider_binance.archive.files import fetch
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import Partition, file_at
from airflow_provider_binance.errors import (
    ArchiveError,
    ArchiveFileMissingError,
    CorruptArchiveError,
    RestrictedLocationError,
    UnreachableError,
)
from airflow_provider_binance.records import Series

FILE = file_at(Series("spot", "klines", "BTCUSDT", "1m"), Partition.DAILY, 1_704_067_200_000_000)
PATH = "/" + FILE.path
CSV = "".join(
    f"{1_704_067_200_000 + n * 60_000},1,2,0.5,1,3,{1_704_067_259_999 + n * 60_000},4,5,6,7,0\n" for n in range(1440)
)


@pytest.fixture
def http(config):
    """Archive connections that do not wait between tries."""
    client = ArchiveHttp(config, sleep=lambda seconds: None)
    yield client
    client.close()


def test_a_verified_file_is_read_whole(archive, config, http):
    """Content, checksum, size and Last-Modified are the server's."""
    archive.put(FILE.path, CSV)
    archive.headers[PATH] = {"Last-Modified": "Tue, 02 Jan 2024 08:12:13 GMT"}
    fetched = fetch(config, http, FILE)
    assert b"".join(csv for _, _, csv in fetched.parts()).decode() == CSV
    assert fetched.last_modified_us == 1_704_183_133_000_000
    assert fetched.size == len(archive.files[PATH])
    fetched.close()


def test_an_unknown_last_modified_is_the_end_of_the_files_period(archive, config, http):
    """So that nothing that may have been open counts as closed."""
    archive.put(FILE.path, CSV)
    fetched = fetch(config, http, FILE)
    assert fetched.last_modified_us == FILE.end_us
    fetched.close()


def test_a_cut_download_goes_on_where_it_stopped(archive, config, http):
    """The second request asks for the rest only, and only of the same file."""
    body = random.Random(1).randbytes(300_000)
    archive.put_raw(FILE.path, body)
    archive.cut_after[PATH] = [5000, 140_000, 70_000]
    fetched = fetch(config, http, FILE)
    assert fetched.content.read() == body
    ranges = [headers.get("Range") for path, headers in archive.log if path == PATH]
    assert ranges == [None, None, "bytes=131072-", "bytes=196608-"]
    assert all("If-Range" in headers for path, headers in archive.log if path == PATH and "Range" in headers)
    fetched.close()


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_passing_statuses_are_tried_again_five_times_at_most(archive, config, http, status):
    """Then the error says so."""
    archive.put(FILE.path, CSV)
    archive.statuses[PATH] = [status, status]
    fetch(config, http, FILE).close()
    archive.statuses[PATH] = [status] * 9
    with pytest.raises(UnreachableError, match=f"5 attempts in vain.*{status}"):
        fetch(config, http, FILE)


@pytest.mark.parametrize(
    ("status", "error"), [(404, ArchiveFileMissingError), (451, RestrictedLocationError), (403, ArchiveError)]
)
def test_final_statuses_are_told_at_once(archive, config, http, status, error):
    """Asking again would not help."""
    archive.put(FILE.path, CSV)
    archive.statuses[PATH] = [status] * 9
    with pytest.raises(error):
        fetch(config, http, FILE)
    assert len([path for path, _ in archive.log if path == PATH]) == 1


def test_checksums_come_with_and_without_a_line_end(archive, config, http):
    """Some CHECKSUM files have none."""
    archive.put(FILE.path, CSV)
    archive.files[PATH + ".CHECKSUM"] = archive.files[PATH + ".CHECKSUM"].rstrip()
    fetch(config, http, FILE).close()
    archive.files[PATH + ".CHECKSUM"] = b"<html>"
    with pytest.raises(CorruptArchiveError, match="no SHA-256"):
        fetch(config, http, FILE)


def test_a_refused_rest_is_fetched_from_the_beginning(archive, config, http):
    """HTTP 416 for the rest of a cut download: the file is not the same any more, or a proxy knows no ranges."""
    archive.put(FILE.path, CSV * 20)
    archive.cut_after[PATH] = [100_000]
    archive.statuses[PATH] = [200, 416]
    fetched = fetch(config, http, FILE)
    asked = [headers.get("Range") for path, headers in archive.log if path == PATH]
    assert asked == [None, "bytes=65536-", None]
    assert fetched.bytes_downloaded == fetched.size + 65_536
    fetched.close()


def test_bytes_of_a_corrupt_download_are_counted(archive, config, http):
    """Once with the second attempt, which is sound, and once with the error, where both were in vain."""
    archive.put(FILE.path, CSV)
    size = len(archive.files[PATH])
    sound = archive.files[PATH + ".CHECKSUM"]
    archive.files[PATH + ".CHECKSUM"] = b"0" * 64
    with pytest.raises(CorruptArchiveError) as caught:
        fetch(config, http, FILE)
    assert caught.value.bytes_downloaded == 2 * size
    answer = archive.answer

    def repaired(handler):
        answer(handler)
        if handler.path == PATH:
            archive.files[PATH + ".CHECKSUM"] = sound

    archive.answer = repaired
    fetched = fetch(config, http, FILE)
    assert fetched.bytes_downloaded == 2 * size
    fetched.close()


def test_after_a_file_was_asked_in_vain_the_next_is_asked_once(archive, config, http, mocker):
    """A host that is away does not cost each file its five attempts; one that is back is asked with patience again."""
    archive.put(FILE.path, CSV)
    archive.statuses[PATH] = [503] * 6 + [200, 503, 503, 200]
    for asked in (5, 6):
        with pytest.raises(UnreachableError):
            fetch(config, http, FILE)
        assert [path for path, _ in archive.log].count(PATH) == asked
    fetch(config, http, FILE).close()
    mocker.patch.object(http, "_gave_up_at", -60.0)
    fetch(config, http, FILE).close()
    assert [path for path, _ in archive.log].count(PATH) == 10


def _zip(*members: tuple[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return body.getvalue()


CSV_NAME = FILE.name.removesuffix(".zip") + ".csv"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK\x03\x04 not really",
        b"<html>404</html>",
        _zip(("../../etc/passwd", b"x")),
        _zip(("/etc/passwd", b"x")),
        _zip((CSV_NAME, b"1"), ("second.csv", b"2")),
        _zip(("OTHER-1m-2024-01-01.csv", CSV.encode())),
        _zip((CSV_NAME, b"0" * 50_000_000)),  # a bomb: 50 MB in 50 kB
        _zip((CSV_NAME, CSV.encode()))[:-40],
    ],
)
def test_a_zip_that_is_not_one_csv_of_its_name_is_refused(archive, config, http, body):
    """Its checksum may be right: nothing is unpacked to a path, nothing grows without bound."""
    archive.put_raw(FILE.path, body)
    fetched = fetch(config, http, FILE)
    with pytest.raises(CorruptArchiveError, match=r"BTCUSDT-1m-2024-01-01\.zip"):
        list(fetched.parts())
    fetched.close()


@pytest.mark.parametrize("size", [1000, 4096, 70_000, 1 << 30])
def test_parts_are_whole_lines_and_together_the_file(archive, config, http, size, mocker):
    """Wherever the blocks end."""
    mocker.patch.object(files, "PART_BYTES", size)
    archive.put(FILE.path, CSV.rstrip("\n") if size == 4096 else CSV)
    fetched = fetch(config, http, FILE)
    parts = list(fetched.parts())
    assert "".join(csv.decode() for _, _, csv in parts).rstrip("\n") == CSV.rstrip("\n")
    assert all(csv.endswith(b"\n") for _, _, csv in parts[:-1])
    assert [number for number, _, _ in parts] == list(range(1, len(parts) + 1))
    assert {total for _, total, _ in parts} == {len(parts)}
    fetched.close()


def test_no_temporary_file_has_a_name(archive, config, http, tmp_path, monkeypatch):
    """Whatever kills the process, the disk is free again."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    archive.put(FILE.path, CSV)
    fetched = fetch(config, http, FILE)
    assert list(tmp_path.iterdir()) == []
    assert Path(tempfile.gettempdir()) == tmp_path
    fetched.close()


def test_no_key_and_no_cookie_reach_the_archive(archive, config, http):
    """The archive needs neither."""
    archive.put(FILE.path, CSV)
    fetch(config, http, FILE).close()
    sent = {name.lower() for _, headers in archive.log for name in headers}
    assert not sent & {"x-mbx-apikey", "cookie", "authorization"}
