"""Ticks of the bulk path, of the record path and of an independent reader are the same, to the last digit."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.errors import CorruptArchiveError, MalformedResponseError
from airflow_provider_binance.market import Market
from airflow_provider_binance.normalize_ticks import archive_ticks, page_ticks
from airflow_provider_binance.records import Series
from airflow_provider_binance.tick_rows import TickRows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The fields of archive lines, written down here once more: this reader asks nothing of the package.
FIELDS = {
    ("agg_trades", "spot"): "agg_trade_id price quantity first_trade_id last_trade_id trade_time is_buyer_maker "
    "is_best_match",
    ("agg_trades", "um"): "agg_trade_id price quantity first_trade_id last_trade_id trade_time is_buyer_maker",
    ("agg_trades", "cm"): "agg_trade_id price quantity first_trade_id last_trade_id trade_time is_buyer_maker",
    ("trades", "spot"): "trade_id price quantity quote_quantity trade_time is_buyer_maker -",
    ("trades", "um"): "trade_id price quantity quote_quantity trade_time is_buyer_maker",
    ("trades", "cm"): "trade_id price quantity base_quantity trade_time is_buyer_maker",
}
KINDS = sorted(FIELDS)


def value(name: str, text: str) -> Any:
    if name.startswith("is_"):
        return {"true": True, "false": False}[text.lower()]
    if name == "trade_time":
        return EPOCH + timedelta(microseconds=int(text) * (1000 if len(text) == 13 else 1))
    return int(text) if name.endswith("_id") else Decimal(text)


def independent(text: str, dataset: str, market: str) -> list[dict[str, Any]]:
    """The rows by the standard library's csv and Decimal."""
    names = FIELDS[dataset, market].split()
    rows = [row for row in csv.reader(io.StringIO(text)) if row and not row[0][0].isalpha()]
    return [{n: value(n, field) for n, field in zip(names, row, strict=True) if n != "-"} for row in rows]


def copied(rows: TickRows) -> list[dict[str, Any]]:
    """What COPY's text says, read by hand; the day is the time's."""
    found = []
    for line in b"".join(rows.copy_chunks(7)).decode().splitlines():
        series_id, *fields = line.split(",")
        assert series_id == "7"
        texts = dict(zip(rows.copy_columns, fields, strict=True))
        at = datetime.fromisoformat(texts.pop("trade_time"))
        assert texts.pop("trade_day") == f"{at:%Y-%m-%d}"
        found.append({name: value(name, text) for name, text in texts.items()} | {"trade_time": at})
    return found


def tupled(rows: TickRows) -> list[dict[str, Any]]:
    """What SQLite gets: canonical text, whole numbers."""
    found = []
    for row in rows.tuples():
        given = dict(zip(rows.columns, row, strict=True))
        made: dict[str, Any] = {}
        for name, each in given.items():
            if name == "trade_time":
                made[name] = EPOCH + timedelta(microseconds=each)  # type: ignore[arg-type]
            elif name.startswith("is_"):
                made[name] = bool(each)
            elif isinstance(each, str):
                assert each == format(Decimal(each).normalize() + 0, "f")
                made[name] = Decimal(each)
            else:
                made[name] = each
        found.append(made)
    return found


def recorded(rows: TickRows, dataset: str, market: str) -> list[dict[str, Any]]:
    """The records, without what the market does not carry."""
    found = []
    for record in rows.records(Series(market, dataset, "BTCUSDT")):
        assert (record.market, record.symbol) == (market, "BTCUSDT")
        found.append({name: each for name, each in record._asdict().items() if name in rows.columns})
    return found


def assert_all_forms(rows: TickRows, expected: list[dict[str, Any]], dataset: str, market: str) -> None:
    assert copied(rows) == tupled(rows) == recorded(rows, dataset, market) == expected
    assert rows.ids.tolist() == [row[f"{dataset.removesuffix('s')}_id"] for row in expected]
    if expected:
        assert EPOCH + timedelta(microseconds=rows.first_us) == min(row["trade_time"] for row in expected)
        assert EPOCH + timedelta(microseconds=rows.last_us) == max(row["trade_time"] for row in expected)


_decimals = st.from_regex(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,8})?", fullmatch=True)
_ids = st.integers(0, 10**12)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, str]:
    """A file of either dataset as each market has them: header or not, either unit, rows in order or not."""
    dataset, market = draw(st.sampled_from(KINDS))
    fine = draw(st.booleans()) if market == "spot" else False
    at = st.integers(1_500_000_000_000, 1_900_000_000_000)
    lines = []
    for number in sorted(draw(st.lists(_ids, max_size=12, unique=True))):
        fields = []
        for name in FIELDS[dataset, market].split():
            if name == "trade_time":
                fields.append(f"{draw(at)}{draw(st.integers(0, 999)):03d}" if fine else str(draw(at)))
            elif name.startswith("is_") or name == "-":
                flag = draw(st.booleans())
                fields.append(str(flag) if market == "spot" else str(flag).lower())
            elif name in ("first_trade_id", "last_trade_id"):
                fields.append(str(draw(st.one_of(_ids, st.just(-1)))))
            else:
                fields.append(str(number) if name.endswith("_id") else draw(_decimals))
        lines.append(",".join(fields))
    if draw(st.booleans()):
        lines = draw(st.permutations(lines))
    header = "id,price,and,so,on\n" if draw(st.booleans()) else ""
    return header + "".join(line + "\n" for line in lines), dataset, market


@given(files())
def test_any_file_reads_alike_in_all_forms(file: tuple[str, str, str]) -> None:
    text, dataset, market = file
    rows = archive_ticks(text.encode(), dataset, Market(market), ref="file.zip")
    expected = sorted(independent(text, dataset, market), key=lambda row: row[f"{dataset.removesuffix('s')}_id"])
    assert_all_forms(rows, expected, dataset, market)


@given(files(), st.data())
def test_a_window_holds_its_rows_and_no_others(file: tuple[str, str, str], data: st.DataObject) -> None:
    text, dataset, market = file
    rows = archive_ticks(text.encode(), dataset, Market(market), ref="file.zip")
    cuts = sorted(data.draw(st.lists(st.integers(1_500_000_000_000, 1_900_000_000_000), min_size=4, max_size=4)))
    windows = [(cuts[0] * 1000, cuts[1] * 1000), (cuts[2] * 1000, cuts[3] * 1000)]
    kept = [at for at in rows.times.tolist() if any(low <= at < high for low, high in windows)]
    assert rows.within(windows).times.tolist() == kept
    assert [at for low, high in windows for at in rows.between(low, high).times_us()] == sorted(kept)


SPOT = "5,0.50,2,7,8,1700000000000,True,True\n6,0.60,2,9,9,1700000000001,False,True\n"


@pytest.mark.parametrize(
    "text",
    [
        SPOT.replace("\n", "\r\n"),
        '"5","0.50","2","7","8","1700000000000","True","True"\n6,6e-1,2,9,9,1700000000001,False,True\n',
        SPOT + SPOT,
        "\ufeff" + SPOT,
        "".join(reversed(SPOT.splitlines(keepends=True))),
    ],
    ids=["crlf", "quotes and exponents", "every row twice", "byte order mark", "backwards"],
)
def test_odd_spellings_end_in_the_same_rows(text: str) -> None:
    rows = archive_ticks(text.lstrip("\ufeff").encode(), "agg_trades", Market.SPOT, ref="x.zip")
    assert_all_forms(rows, independent(SPOT, "agg_trades", "spot"), "agg_trades", "spot")


@pytest.mark.parametrize(
    "line",
    [
        "5,0.5,2,7,8,1700000000000,True",
        "5,0.5,2,7,8,1700000000000,True,True,1",
        "5,,2,7,8,1700000000000,True,True",
        "5,0.5,2,7,8,17000000000,True,True",
        "5,0.5,2,7,8,1700000000000,maybe,True",
        "x5,0.5,2,7,8,1700000000000,True,True",
        "5,0.5,2,7,8,1700000000000,True,True\n5,0.6,2,7,8,1700000000000,True,True",
        "-5,0.5,2,7,8,1700000000000,True,True",
        "5,0.5,2,7,8,1700000000000,True,True\n6,0.6,2,7,8,1700000000000000,True,True",
        "5,nan,2,7,8,1700000000000,True,True",
        "9999999999999999999,0.5,2,7,8,1700000000000,True,True",
        "5,-.,2,7,8,1700000000000,True,True",
    ],
)
def test_what_is_no_row_is_refused(line: str) -> None:
    first = "1,0.5,2,7,8,1699999999999,True,True\n"
    with pytest.raises(CorruptArchiveError, match=r"x\.zip"):
        archive_ticks((first + line + "\n").encode(), "agg_trades", Market.SPOT, ref="x.zip")


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'[{"a":1}]', b"[", b'[{"a":1.5,"p":"1","q":"1","f":1,"l":1,"T":1}]'])
def test_what_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        page_ticks(body, "agg_trades", Market.SPOT)


def test_a_withdrawn_aggregate_and_nq_are_kept() -> None:
    page = [{"a": 3, "p": "0", "q": "0", "nq": "0.25", "f": -1, "l": -1, "T": 1700000000000, "m": False}]
    [record] = page_ticks(json.dumps(page).encode(), "agg_trades", Market.UM).records(Series("um", "agg_trades", "X"))
    assert (record.first_trade_id, record.normal_quantity, record.price) == (-1, Decimal("0.25"), 0)  # type: ignore[union-attr]


def test_aggregates_without_a_quantity_are_rows() -> None:
    """A month of um's files has 38 % of these: their ids count, and so they stay."""
    lines = ("7,26000.1,0,11,11,1684000000000,true", "8,26000.1,0.5,12,13,1684000000001,false",
             "9,26000.1,0.000,14,14,1684000000001,true")  # fmt: skip
    text = "\n".join(lines) + "\n"
    rows = archive_ticks(text.encode(), "agg_trades", Market.UM, ref="x.zip")
    assert rows.ids.tolist() == [7, 8, 9]
    assert_all_forms(rows, independent(text, "agg_trades", "um"), "agg_trades", "um")


def test_the_recorded_file_of_the_archive(realdata: Path) -> None:
    """105,280 aggregates of cm, with header and `542.0` contracts."""
    folder = realdata / "archive/data/futures/cm/daily/aggTrades/BTCUSD_PERP"
    with zipfile.ZipFile(folder / "BTCUSD_PERP-aggTrades-2026-05-08.zip") as archive:
        data = archive.read(archive.namelist()[0])
    rows = archive_ticks(data, "agg_trades", Market.CM, ref="x.zip")
    assert len(rows) == 105_280
    assert (rows.ids[1:] - rows.ids[:-1] == 1).all()
    assert_all_forms(rows, independent(data.decode(), "agg_trades", "cm"), "agg_trades", "cm")


def test_the_recorded_pages_of_rest(realdata: Path) -> None:
    """12,477 aggregates of spot, as REST gave them."""
    with gzip.open(realdata / "trades/XRPETH-aggTrades-2019-10-11_13.json.gz") as file:
        told = [trade["info"] for trade in json.load(file)]
    rows = page_ticks(json.dumps(told).encode(), "agg_trades", Market.SPOT)
    keys = {"a": "agg_trade_id", "p": "price", "q": "quantity", "f": "first_trade_id", "l": "last_trade_id",
            "T": "trade_time", "m": "is_buyer_maker", "M": "is_best_match"}  # fmt: skip
    expected = [{column: value(column, str(trade[key])) for key, column in keys.items()} for trade in told]
    assert len(expected) == 12_477
    assert_all_forms(rows, expected, "agg_trades", "spot")
