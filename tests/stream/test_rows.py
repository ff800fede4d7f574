"""A closed kline of the stream, of REST and of the archive is one and the same row, and so are recorded ones."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.kline_rows import carried_columns
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.normalize import archive_rows, page_rows
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import KLINES, dataset
from airflow_provider_binance.stream.frames import Frames, Record
from airflow_provider_binance.stream.payloads import columns
from airflow_provider_binance.stream.rows import rows_of
from airflow_provider_binance.stream.sequences import Verdict, sequence_of
from tests.stream.samples import kline_frame

SYMBOLS = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT_261225", Market.CM: "BTCUSD_PERP"}
decimals = st.tuples(st.integers(0, 10**12), st.integers(0, 12)).map(
    lambda at: format(Decimal(at[0]).scaleb(-at[1]), "f")
)


@st.composite
def slots(draw: st.DrawFn, interval: str) -> list[Any]:
    """The twelve slots of a kline as REST has them."""
    grid = INTERVALS[interval]
    opened = grid.floor(draw(st.integers(1_500_000_000, 1_900_000_000)) * 1_000_000)
    closed = draw(st.just(grid.close_time(opened)) | st.integers(opened, grid.close_time(opened)))
    o, h, l, c, v, q, base, quote = (draw(decimals) for _ in range(8))  # noqa: E741
    return [opened // 1000, o, h, l, c, v, closed // 1000, q, draw(st.integers(0, 10**6)), base, quote, "0"]


def records(host: Market, frame: bytes) -> list[Record]:
    found = Frames(host).read(frame, 1)
    assert isinstance(found, (tuple, list))
    return list(found)


@pytest.mark.parametrize("market", list(Market))
@given(data=st.data())
def test_stream_rest_and_archive_give_one_row(market: Market, data: st.DataObject) -> None:
    interval = data.draw(st.sampled_from([name for name, grid in INTERVALS.items() if market in grid.markets]))
    kline, grid = data.draw(slots(interval)), INTERVALS[interval]
    series = Series(market.value, "klines", SYMBOLS[market], interval)
    of_rest = page_rows(json.dumps([kline]).encode(), market, grid)
    of_file = archive_rows(",".join(map(str, kline)).encode(), market, grid, ref="a file")

    [record] = records(market, kline_frame(series.symbol, interval, kline))
    of_stream = rows_of(series, [record.values])

    assert record.series == series
    assert of_stream.columns == of_rest.columns == columns("klines", market)
    assert list(of_stream.tuples()) == list(of_rest.tuples()) == list(of_file.tuples())
    assert list(of_stream.tuples()) == [record.values]
    assert of_stream.copy_columns == of_rest.copy_columns


def test_rows_are_put_in_order_and_may_be_of_any_dataset() -> None:
    series = Series("spot", "klines", "BTCUSDT", "1m")
    opens = [1_700_000_040_000_000 + minute * 60_000_000 for minute in (3, 1, 2)]
    values = [(at, "1", "1", "1", "1", "0", at + 59_999_000, "0", 0, "0", "0") for at in opens]

    assert [row[0] for row in rows_of(series, values).tuples()] == sorted(opens)
    assert set(carried_columns(Market.CM)) < set(KLINES.column_names)


# --- recordings ---------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[bytes]:
    with gzip.open(path) as opened:
        return opened.read().splitlines()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "host", "trades", "book_tickers"),
    [("spot_btcusdt_20240808", Market.SPOT, 9757, 28040), ("usdm_btcusdt_20240808", Market.UM, 0, 66089),
     ("cm_btcusd_perp_20240808", Market.CM, 0, 19136)],
)  # fmt: skip
def test_recorded_frames(realdata: Path, name: str, host: Market, trades: int, book_tickers: int) -> None:
    """Each is read, follows the one before it, and has its numbers as they were written."""
    frames, read, verdicts = Frames(host), Counter[str](), Counter[Verdict]()
    sequences: dict[Series, Any] = {}
    for line in lines_of(realdata / "streams" / "hft" / f"{name}.gz"):
        received_ns, _, raw = line.partition(b" ")
        for record in records_of(frames, raw, int(received_ns) // 1000):
            read[record.series.dataset] += 1
            verdicts[sequences.setdefault(record.series, sequence_of(record.series)).take(record)] += 1
            told = json.loads(raw)["data"]
            if record.series.dataset == "book_tickers":
                numbers = [Decimal(told[key]) for key in "bBaA"]
                assert [Decimal(str(value)) for value in record.values[1:5]] == numbers
            else:
                assert [Decimal(str(value)) for value in record.values[1:3]] == [Decimal(told[key]) for key in "pq"]

    assert read == Counter(trades=trades, book_tickers=book_tickers)
    assert verdicts == {Verdict.ACCEPT: trades + book_tickers}
    assert frames.counts["malformed"] == 0


def records_of(frames: Frames, raw: bytes, received_us: int) -> list[Record]:
    found = frames.read(raw, received_us)
    return [record for record in found if isinstance(record, Record)]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "host", "read", "closed"),
    [("BINANCE", Market.SPOT, {"agg_trades": 2, "book_tickers": 84}, 0),
     ("BINANCE_FUTURES", Market.UM, {"agg_trades": 91, "book_tickers": 613, "klines": 4}, 4)],
)  # fmt: skip
def test_recorded_combined_streams(realdata: Path, name: str, host: Market, read: dict[str, int], closed: int) -> None:
    frames, found = Frames(host), Counter[str]()
    verdicts, sequences = Counter[Verdict](), dict[Series, Any]()
    for line in lines_of(realdata / "streams" / "cryptofeed" / f"{name}.ws.1.0.gz")[1:]:
        if not line:
            continue
        received, _, raw = line.partition(b": ")
        for record in records_of(frames, raw, int(float(received) * 1e6)):
            found[record.series.dataset] += 1
            verdicts[sequences.setdefault(record.series, sequence_of(record.series)).take(record)] += 1

    assert found == read
    assert set(verdicts) == {Verdict.ACCEPT}
    assert found["klines"] == closed
    assert frames.counts["malformed"] == 0


@pytest.mark.realdata
def test_archived_klines_as_a_stream_give_the_archived_rows(realdata: Path) -> None:
    """A real file of spot in milliseconds and one in microseconds, each kline sent as its close event."""
    folder = realdata / "archive" / "data" / "spot" / "daily" / "klines" / "BTCUSDT"
    files = [folder / "1m" / "BTCUSDT-1m-2020-01-01.zip", folder / "1h" / "BTCUSDT-1h-2026-05-08.zip"]
    for path in files:
        interval = path.parent.name
        series = Series("spot", "klines", "BTCUSDT", interval)
        with zipfile.ZipFile(path) as opened:
            text = opened.read(opened.namelist()[0])
        sent = []
        for line in text.decode().split():
            kline: list[Any] = line.split(",")
            for slot in (0, 6, 8):
                kline[slot] = int(kline[slot])
            [record] = records(Market.SPOT, kline_frame("BTCUSDT", interval, kline))
            sent.append(record.values)

        archived = archive_rows(text, Market.SPOT, INTERVALS[interval], ref=path.name)
        assert list(rows_of(series, reversed(sent)).tuples()) == list(archived.tuples())
        assert len(sent) > 20


@pytest.mark.parametrize("name", ["agg_trades", "trades"])
def test_columns_of_streams_are_columns_of_the_tables(name: str) -> None:
    """In their order; what a stream does not carry is left to REST and archive."""
    table = dataset(name).column_names
    carried = columns(name, Market.SPOT)

    assert list(carried) == [column for column in table if column in carried]
    assert set(dataset(name).key) < set(carried)
