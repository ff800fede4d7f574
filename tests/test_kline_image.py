"""Images of klines: SQLite finds them sound at every size, and what fits none is left to the tuples."""

from __future__ import annotations

import pytest

from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import archive_rows
from airflow_provider_binance.records import Image
from tests.exactness.test_forms import read_image

MINUTE_MS = 60_000
START_MS = 1_704_067_200_000


def line(number: int, *, price: str = "42283.58000000", volume: str = "6.02475000", count: str = "223") -> str:
    opened = START_MS + number * MINUTE_MS
    return (
        f"{opened},{price},{price},{price},{price},{volume},{opened + MINUTE_MS - 1},254528.44753157,{count},{volume},"
        "61779.30197650,0"
    )


def rows_of(*lines: str) -> KlineRows:
    return archive_rows("\n".join(lines).encode(), Market.SPOT, INTERVALS["1m"], ref="file")


def assert_images(rows: KlineRows, images: int = 8) -> None:
    """All are images, which say what the tuples do."""
    chunks = list(rows.sqlite_chunks(images=images))
    assert all(isinstance(chunk, Image) for chunk in chunks)
    found = [row for chunk in chunks if isinstance(chunk, Image) for row in read_image(chunk)]
    assert found == list(rows.tuples())


@pytest.mark.parametrize("rows", [1, 2, 150, 190, 400, 4096, 4097, 9_000])
def test_images_of_any_size_are_sound(rows: int) -> None:
    """One page of rows, a page more, many pages below one root, many images."""
    assert_images(rows_of(*map(line, range(rows))))


def test_lines_of_any_width_stand_in_one_image() -> None:
    """From the shortest line to fields of the most digits that an image takes; times with holes."""
    prices = ["0", "1", "0.1", "10", "100000000", "1.00000000", "0.00000001", "9" * 57, f"{'9' * 48}.00000000"]
    lines = [line(3 * n, price=price, volume=prices[-n % 9]) for n, price in enumerate(prices * 60)]
    assert_images(rows_of(*lines))


@pytest.mark.parametrize(
    "odd",
    [
        {"price": "9" * 58},
        {"price": "-1.5"},
        {"price": "007.5"},
        {"price": "1.000000000"},
        {"volume": f"0.{'0' * 40}"},
        {"volume": f"1.5{'0' * 60}"},
    ],
)
def test_unusual_digits_are_read_one_by_one(odd: dict[str, str]) -> None:
    rows = rows_of(line(0), line(1, **odd), line(2))
    assert list(rows.sqlite_chunks(images=8)) == [list(rows.tuples())]


def test_a_count_is_a_number() -> None:
    rows = rows_of(line(0, count="0"), line(1, count="007"), line(2, count="9" * 18))
    assert_images(rows)
    assert [row[8] for row in rows.tuples()] == [0, 7, 10**18 - 1]


def test_there_are_no_more_images_than_may_be() -> None:
    """Chunks grow where images are few, up to a bound; what is left comes as tuples."""
    rows = rows_of(*map(line, range(40_000)))

    def kinds(images: int) -> list[tuple[bool, int]]:
        chunks = rows.sqlite_chunks(images=images)
        return [(True, chunk.rows) if isinstance(chunk, Image) else (False, len(chunk)) for chunk in chunks]

    assert kinds(8) == [(True, 5_000)] * 8
    assert kinds(2) == [(True, 16_384), (True, 16_384), (False, 7_232)]
    assert kinds(0) == [(False, 4_096)] * 9 + [(False, 3_136)]
