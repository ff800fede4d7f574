"""Archive files and their listing."""

from __future__ import annotations

import hashlib
import io
import xml.etree.ElementTree as ET
import zipfile
from decimal import Decimal
from itertools import pairwise

import pytest
import requests

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import Ask

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def fetch(ask: Ask, key: str) -> bytes:
    answer = ask(f"/archive/{key}")
    assert answer.status_code == 200, key
    return answer.content


def csv_of(content: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (member,) = archive.namelist()
        assert archive.testzip() is None
        return [line.split(",") for line in archive.read(member).decode().splitlines()]


def key_of(folder: str, symbol: str, interval: str, period: str) -> str:
    partition = "daily" if period.count("-") == 2 else "monthly"
    return f"data/{folder}/{partition}/klines/{symbol}/{interval}/{symbol}-{interval}-{period}.zip"


def listed(ask: Ask, **params: str | int) -> list[ET.Element]:
    root = ET.fromstring(ask("/listing", **params).content)
    assert root.tag == f"{NAMESPACE}ListBucketResult"
    return [root, *root]


@pytest.mark.parametrize(
    ("folder", "symbol", "market"),
    [
        ("spot", "BTCUSDT", "spot"),
        ("spot", "币安人生USDT", "spot"),
        ("futures/um", "BTCUSDT", "um"),
        ("futures/um", "BTCUSDT_261225", "um"),
        ("futures/cm", "BTCUSD_PERP", "cm"),
    ],
)
def test_files_hold_the_rows_of_rest(ask: Ask, simulator: Simulator, folder: str, symbol: str, market: str) -> None:
    """One CSV of the same base name, the rows that REST gives, and a checksum that fits."""
    key = key_of(folder, symbol, "1h", "2026-10-31")
    content = fetch(ask, key)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [key.rpartition("/")[2].replace(".zip", ".csv")]
    rows = [row for row in csv_of(content) if row[0] != "open_time"]
    scale = 1000 if market == "spot" else 1
    truth = simulator.truth(market, symbol, "1h", "2026-10-31", "2026-11-01")
    assert [
        [int(row[0]) // scale, *row[1:6], int(row[6]) // scale, row[7], int(row[8]), *row[9:]] for row in rows
    ] == truth
    checksum, name = fetch(ask, f"{key}.CHECKSUM").decode().split()
    assert checksum == hashlib.sha256(content).hexdigest()
    assert name == key.rpartition("/")[2]


def test_files_are_the_same_every_time(ask: Ask, simulator: Simulator) -> None:
    """Byte for byte, from another simulator of the same seed too."""
    key = key_of("spot", "BTCUSDT", "5m", "2026-10")
    with Simulator(seed=1, symbols=["BTCUSDT"], now="2026-11-20", speed=0) as other:
        again = requests.get(f"{other.settings['BINANCE_ARCHIVE_URL']}/{key}", timeout=10)
    assert again.content == fetch(ask, key)


def test_time_units_and_headers(ask: Ask) -> None:
    """Spot: microseconds from 2025 on, never a header. Futures: milliseconds, a header from 2022-05 on."""
    old, new = (csv_of(fetch(ask, key_of("spot", "BTCUSDT", "1h", day)))[0] for day in ("2024-12-31", "2025-01-01"))
    assert (len(old[0]), len(new[0])) == (13, 16)
    assert old[6].endswith("999")
    assert new[6].endswith("999999")
    before, after = (
        csv_of(fetch(ask, key_of("futures/um", "BTCUSDT", "1h", month)))[0] for month in ("2022-04", "2022-05")
    )
    assert before[0] == str(to_ms("2022-04-01"))
    assert after[:3] == ["open_time", "open", "high"]


def test_when_days_come_out(ask: Ask, simulator: Simulator) -> None:
    """A day's file is there from 08:30 of the next day on."""
    key = key_of("spot", "BTCUSDT", "1m", "2026-11-19")
    for now, status in (("2026-11-20T08:29:59Z", 404), ("2026-11-20T08:30:00Z", 200)):
        simulator.set_clock(now)
        assert ask(f"/archive/{key}").status_code == status
        assert ask(f"/archive/{key}.CHECKSUM").status_code == status
    assert ask(f"/archive/{key}").headers["Last-Modified"] == "Fri, 20 Nov 2026 08:30:00 GMT"


def test_when_months_come_out(ask: Ask, simulator: Simulator) -> None:
    """On the first Monday at 08:00; months of the long intervals on the 1st."""
    for interval, published in (("1m", "2026-11-02T08:00:00Z"), ("1w", "2026-11-01T08:06:00Z")):
        key = key_of("spot", "BTCUSDT", interval, "2026-10")
        simulator.set_clock(to_ms(published) - 1)
        assert ask(f"/archive/{key}").status_code == 404
        simulator.set_clock(published)
        assert ask(f"/archive/{key}").status_code == 200


def test_unclosed_candles_in_monthly_files(ask: Ask, simulator: Simulator) -> None:
    """The week of 2026-10-26 was still forming when October was made: the file has what was known then."""
    rows = csv_of(fetch(ask, key_of("futures/um", "BTCUSDT", "1w", "2026-10")))
    last, final = rows[-1], simulator.truth("um", "BTCUSDT", "1w", "2026-10-26", "2026-10-27")[0]
    assert int(last[0]) == final[0]
    assert int(last[6]) >= to_ms("2026-11-01T08:06:00Z")
    assert last[1] == final[1]
    assert Decimal(last[5]) < Decimal(final[5])
    simulator.set_clock("2026-11-01T08:06:00Z")
    live = ask("/fapi/v1/klines", symbol="BTCUSDT", interval="1w", limit=1).json()[0]
    assert last[1:6] == live[1:6]


def test_month_is_spelled_1mo(ask: Ask) -> None:
    """And long intervals have no daily files."""
    assert len(csv_of(fetch(ask, key_of("spot", "BTCUSDT", "1mo", "2026-09")))) == 1
    assert ask("/archive/" + key_of("spot", "BTCUSDT", "1M", "2026-09")).status_code == 404
    assert ask("/archive/" + key_of("spot", "BTCUSDT", "3d", "2026-09-05")).status_code == 404
    assert ask("/archive/" + key_of("futures/um", "BTCUSDT", "1s", "2026-09-05")).status_code == 404
    assert ask("/archive/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2026-9-5.zip").status_code == 404
    assert ask("/archive/data/spot/daily/bookTicker/BTCUSDT/BTCUSDT-bookTicker-2026-09-05.zip").status_code == 404


def test_head_and_ranges(ask: Ask) -> None:
    """HEAD tells the length before the file is made; ranges give its parts."""
    key = "/archive/" + key_of("spot", "ETHUSDT", "1m", "2026-09")
    head = ask(key, method="HEAD")
    whole = ask(key)
    assert head.content == b""
    assert int(head.headers["Content-Length"]) == len(whole.content)
    assert head.headers["ETag"] == whole.headers["ETag"]
    part = ask(key, {"Range": "bytes=100-"})
    assert part.status_code == 206
    assert part.content == whole.content[100:]
    assert part.headers["Content-Range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    assert ask(key, {"Range": "bytes=-7"}).content == whole.content[-7:]
    assert ask(key, {"Range": "bytes=0-0"}).content == whole.content[:1]
    assert ask(key, {"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    assert ask(key, {"Range": "bytes=5-", "If-Range": '"old"'}).status_code == 200


def test_files_end_with_the_life_of_the_symbol(ask: Ask) -> None:
    """A delisted symbol keeps its files, and has none before or after."""
    for period, status in (("2018-12", 404), ("2019-01", 200), ("2021-04", 200), ("2021-05", 404)):
        assert ask("/archive/" + key_of("spot", "OLDUSDT", "1d", period)).status_code == status


def test_listing_of_files(ask: Ask) -> None:
    """Keys in order, with the sizes, dates and tags that the files have."""
    prefix = "data/futures/cm/monthly/klines/BTCUSD_PERP/1d/"
    root, *_ = listed(ask, prefix=prefix, delimiter="/")
    contents = root.findall(f"{NAMESPACE}Contents")
    keys = [each.findtext(f"{NAMESPACE}Key") for each in contents]
    assert keys[0] == f"{prefix}BTCUSD_PERP-1d-2020-08.zip"
    assert keys[-1] == f"{prefix}BTCUSD_PERP-1d-2026-10.zip.CHECKSUM"
    assert keys == sorted(str(key) for key in keys)
    for content in contents[-2:]:
        answer = ask(f"/archive/{content.findtext(f'{NAMESPACE}Key')}")
        assert content.findtext(f"{NAMESPACE}Size") == str(len(answer.content))
        assert content.findtext(f"{NAMESPACE}ETag") == answer.headers["ETag"]
        assert content.findtext(f"{NAMESPACE}LastModified") == "2026-11-02T08:00:00.000Z"


def test_listing_pages(ask: Ask) -> None:
    """A thousand entries a page, by marker or by continuation token, nothing lost between."""
    prefix = "data/spot/daily/klines/BTCUSDT/1m/"
    by_marker: list[str] = []
    marker = ""
    while True:
        root, *_ = listed(ask, prefix=prefix, delimiter="/", marker=marker)
        page = [str(each.text) for each in root.iter(f"{NAMESPACE}Key")]
        by_marker += page
        if root.findtext(f"{NAMESPACE}IsTruncated") == "false":
            break
        assert len(page) == 1000
        marker = str(root.findtext(f"{NAMESPACE}NextMarker"))
    by_token: list[str] = []
    token: dict[str, str] = {}
    while True:
        root, *_ = listed(ask, prefix=prefix, **{"list-type": 2}, **token)
        by_token += [str(each.text) for each in root.iter(f"{NAMESPACE}Key")]
        if root.findtext(f"{NAMESPACE}IsTruncated") == "false":
            break
        token = {"continuation-token": str(root.findtext(f"{NAMESPACE}NextContinuationToken"))}
    assert by_marker == by_token
    zips = [key for key in by_marker if key.endswith(".zip")]
    days = [to_ms(key[-14:-4]) for key in zips]
    assert all(later - earlier == 86_400_000 for earlier, later in pairwise(days))
    assert (zips[0][-14:-4], zips[-1][-14:-4]) == ("2017-08-17", "2026-11-19")


def test_listing_of_folders(ask: Ask) -> None:
    """With a delimiter folders come as common prefixes, Chinese ones too."""

    def folders(prefix: str) -> list[str]:
        root, *_ = listed(ask, prefix=prefix, delimiter="/")
        return [str(each.findtext(f"{NAMESPACE}Prefix")) for each in root.findall(f"{NAMESPACE}CommonPrefixes")]

    assert folders("data/") == ["data/futures/", "data/spot/"]
    symbols = folders("data/spot/daily/klines/")
    assert symbols == [f"data/spot/daily/klines/{name}/" for name in ("BTCUSDT", "ETHUSDT", "OLDUSDT", "币安人生USDT")]
    assert len(folders(symbols[-1])) == 13
    assert len(folders("data/spot/monthly/klines/BTCUSDT/")) == 16
    assert folders("data/futures/um/monthly/klines/SOONUSDT/") == []


def test_what_is_hidden_in_one_kind_of_file(ask: Ask, simulator: Simulator) -> None:
    """A monthly file may lack what the day has; its ETag changes with it."""
    month, day = key_of("spot", "BTCUSDT", "1h", "2026-09"), key_of("spot", "BTCUSDT", "1h", "2026-09-05")
    tag = ask(f"/archive/{month}", method="HEAD").headers["ETag"]
    simulator.hide("spot", "BTCUSDT", "1h", "2026-09-05T03:00", "2026-09-05T05:00", ["monthly"])
    assert len(csv_of(fetch(ask, month))) == 718
    assert len(csv_of(fetch(ask, day))) == 24
    assert len(simulator.truth("spot", "BTCUSDT", "1h", "2026-09-05", "2026-09-06")) == 24
    assert ask(f"/archive/{month}", method="HEAD").headers["ETag"] != tag
    simulator.hide("spot", "BTCUSDT", "1h", "2026-09-05T03:00", "2026-09-05T05:00")
    assert len(csv_of(fetch(ask, day))) == 22
    assert len(simulator.truth("spot", "BTCUSDT", "1h", "2026-09-05", "2026-09-06")) == 22


def test_seconds_have_files(ask: Ask) -> None:
    """On spot, a day of 1s is 86,400 rows."""
    assert len(csv_of(fetch(ask, key_of("spot", "BTCUSDT", "1s", "2026-09-05")))) == 86_400
