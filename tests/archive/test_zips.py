"""What is inflated is what the directory says, or nothing is believed."""

from __future__ import annotations

import io
import random
import zipfile
import zlib

import pytest

from airflow_provider_binance.archive import zips

NAME = "BTCUSDT-1m-2024-01.csv"
DATA = b"".join(b"%d,%d\n" % (i, random.Random(i).randrange(10**9)) for i in range(200_000))  # 3 MB: many blocks


@pytest.fixture(params=["as installed", "zlib"], autouse=True)
def _inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to inflate."""
    if request.param == "zlib":
        monkeypatch.setattr(zips, "fastest", zlib)
    else:
        assert zips.fastest is not zlib


def zipped(data: bytes = DATA, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive:
        archive.writestr(NAME, data)
    return body.getvalue()


def read(body: bytes) -> list[bytes]:
    content = io.BytesIO(body)
    with zipfile.ZipFile(content) as archive:
        return list(zips.inflated(content, archive, archive.infolist()[0]))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("data", [DATA, b"", b"x"])
def test_blocks_are_the_file(data: bytes, method: int) -> None:
    blocks = read(zipped(data, method))

    assert b"".join(blocks) == data
    assert max(map(len, blocks), default=0) <= 1 << 20


def test_a_block_is_bounded_whatever_is_in_it() -> None:
    """50 MB in 50 kB never are in memory at once."""
    assert max(map(len, read(zipped(b"0" * 50_000_000)))) <= 1 << 20


@pytest.mark.parametrize("field", [b"size", b"crc", b"bytes"])
def test_a_directory_that_lies_is_refused(field: bytes) -> None:
    """Another size, another checksum, other bytes."""
    body = bytearray(zipped())
    directory = body.rindex(b"PK\x01\x02")
    place = {b"size": directory + 24, b"crc": directory + 16, b"bytes": len(body) // 2}[field]
    body[place] ^= 1

    with pytest.raises(zipfile.BadZipFile, match=NAME):
        read(bytes(body))
