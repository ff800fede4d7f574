"""Zips of a size that is known beforehand."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import pytest

from airflow_provider_binance.simulator.zips import make_zip

WRITTEN = datetime(2026, 11, 2, 8, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("size", [None, 10, 400, 401, 402, 403, 404, 65_536, 1_000_001])
@pytest.mark.parametrize("data", [b"", b"1,2,3\n" * 1000])
def test_padding_is_exact_and_invisible(size: int | None, data: bytes) -> None:
    """As long as asked when there is room, and the content is the same in any case."""
    content = make_zip("币.csv", [data[:7], data[7:]], WRITTEN, size)
    if size is not None and size >= 400:
        assert len(content) == size
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["币.csv"]
        assert archive.read("币.csv") == data
        assert archive.infolist()[0].date_time == (2026, 11, 2, 8, 0, 0)
    assert make_zip("币.csv", [data], WRITTEN, None) == make_zip("币.csv", [data], WRITTEN)
