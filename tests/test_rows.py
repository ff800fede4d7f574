"""`TupleRows`: both forms say the same, and what is no row of the dataset is refused."""

from __future__ import annotations

import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rows import TupleRows
from tests.store.helpers import MINUTE, T0, TICKS, kline


def test_copy_text_has_the_series_number_and_times_with_offset() -> None:
    rows = TupleRows(KLINES, [kline(1), kline(0)])
    assert (rows.first_us, rows.last_us, rows.times_us()) == (T0, T0 + MINUTE, [T0, T0 + MINUTE])
    text = b"".join(rows.copy_chunks(7)).decode()
    assert text.splitlines()[0] == (
        "7,2024-01-01T00:00:00.000000Z,1.1,2,1,1.5,10,2024-01-01T00:00:59.999000Z,12.5,3,1,0.00000001,\\N,\\N"
    )
    assert text.endswith("\n")
    assert list(rows.tuples()) == [kline(0), kline(1)]


def test_text_is_escaped() -> None:
    rows = TupleRows(TICKS, [(1, T0, "1", 1, 'a,b\\c\nd\te"')])
    assert b"".join(rows.copy_chunks(1)) == b'1,1,2024-01-01T00:00:00.000000Z,1,1,a\\,b\\\\c\\nd\\te"\n'


def test_large_batches_come_in_chunks() -> None:
    chunks = list(TupleRows(KLINES, [kline(i) for i in range(4_500)]).copy_chunks(1))
    assert len(chunks) == 3
    assert b"".join(chunks).count(b"\n") == 4_500


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (("open_time", "nonsense"), [], "no column nonsense"),
        (("close",), [], "must carry open_time"),
        (("open_time", "close"), [(1, "1"), (1, "2")], "repeat a key"),
    ],
)
def test_what_is_no_row_is_refused(columns: tuple[str, ...], rows: list[tuple[int, str]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TupleRows(KLINES, rows, columns)
