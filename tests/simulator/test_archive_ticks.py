"""Archive files of trades and aggregates, of symbols that lived a few hours: a day of trades takes a second to make."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest

from airflow_provider_binance.simulator.archive_csv import AGG_TRADES_HEADER, header_of
from airflow_provider_binance.simulator.archive_files import ArchiveFile
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.instruments import make_instrument
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.conftest import NOW, Ask
from tests.simulator.test_archive import NAMESPACE, csv_of, fetch, listed

YESTERDAY = "2026-11-19T22:00..2026-11-20T02:00"
SYMBOLS = [
    f"spot:TICKUSDT@{YESTERDAY}",
    f"um:TICKUSDT@{YESTERDAY}",
    f"cm:TICKUSD_PERP@{YESTERDAY}",
    "spot:YEARUSDT@2024-12-31T22:00..2025-01-01T02:00",
    "um:HEADUSDT@2022-08-09T22:00..2022-08-10T02:00",
    "um:MAYUSDT@2023-05-31T12:00..2023-06-01T02:00",
]


@pytest.fixture(scope="module")
def simulator_of_module() -> Iterator[Simulator]:
    """One simulator for the module, with symbols of its own."""
    with Simulator(seed=1, symbols=SYMBOLS, now=NOW, speed=0, limits=False) as simulator:
        yield simulator


def ticks_key(folder: str, dataset: str, symbol: str, period: str) -> str:
    partition = "daily" if period.count("-") == 2 else "monthly"
    return f"data/{folder}/{partition}/{dataset}/{symbol}/{symbol}-{dataset}-{period}.zip"


@pytest.mark.parametrize(
    ("folder", "prefix", "symbol"),
    [
        ("spot", "/api/v3", "TICKUSDT"),
        ("futures/um", "/fapi/v1", "TICKUSDT"),
        ("futures/cm", "/dapi/v1", "TICKUSD_PERP"),
    ],
)
@pytest.mark.parametrize("dataset", ["aggTrades", "trades"])
def test_tick_files_hold_what_rest_shows(
    ask: Ask, simulator: Simulator, folder: str, prefix: str, symbol: str, dataset: str
) -> None:
    """Yesterday's file: contiguous, all of the day, and its last rows as REST gives them, but for their spelling."""
    rows = csv_of(fetch(ask, ticks_key(folder, dataset, symbol, "2026-11-19")))
    midnight = to_ms("2026-11-20")
    simulator.set_clock(midnight + 200)
    key = {"X-MBX-APIKEY": simulator.api_key}
    live = ask(f"{prefix}/{dataset}", key, symbol=symbol, limit=500).json()
    header = {
        ("aggTrades", "/api/v3"): [],
        ("trades", "/api/v3"): [],
        ("trades", "/fapi/v1"): ["id", "price", "qty", "quote_qty", "time", "is_buyer_maker"],
        ("trades", "/dapi/v1"): ["id", "price", "qty", "base_qty", "time", "is_buyer_maker"],
    }.get(
        (dataset, prefix),
        ["agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker"],
    )
    if header:
        assert rows.pop(0) == header
    time_slot = 5 if dataset == "aggTrades" else 4
    scale = 1000 if folder == "spot" else 1
    times = [int(row[time_slot]) // scale for row in rows]
    assert times == sorted(times)
    assert midnight - 7_200_000 <= times[0] < midnight - 7_200_000 + 900_000
    assert midnight - 900_000 < times[-1] < midnight
    ids = [int(row[0]) for row in rows]
    assert all(0 < after - before <= (3 if dataset == "trades" else 1) for before, after in pairwise(ids))
    by_id = {int(row[0]): row for row in rows}
    shared = [row for row in live if row.get("id", row.get("a")) in by_id]
    assert len(shared) > 300
    for row in shared:
        line = by_id[row.get("id", row.get("a"))]
        names = ("p", "q", "f", "l") if dataset == "aggTrades" else ("price", "qty", "baseQty", "quoteQty")
        values = [Decimal(str(row[name])) for name in names if name in row]
        assert [Decimal(text) for text in line[1 : 1 + len(values)]] == values
        assert int(line[time_slot]) // scale == row.get("T", row.get("time"))
        maker = str(row.get("m", row.get("isBuyerMaker")))
        assert line[time_slot + 1 :] == ([maker, "True"] if folder == "spot" else [maker.lower()])


def test_spelling_of_tick_files(ask: Ask) -> None:
    """Spot: eight decimals, no header, microseconds from 2025 on. Futures: short numbers, a header since 2022-08-10."""
    old, new = (
        csv_of(fetch(ask, ticks_key("spot", "trades", "YEARUSDT", day)))[0] for day in ("2024-12-31", "2025-01-01")
    )
    assert (len(old[4]), len(new[4])) == (13, 16)
    assert len(new[1].partition(".")[2]) == 8
    before, after = (
        csv_of(fetch(ask, ticks_key("futures/um", "aggTrades", "HEADUSDT", day)))
        for day in ("2022-08-09", "2022-08-10")
    )
    assert before[0][0].isdigit()
    assert after[0][0] == "agg_trade_id"
    cm = csv_of(fetch(ask, ticks_key("futures/cm", "aggTrades", "TICKUSD_PERP", "2026-11-19")))
    assert cm[1][2].endswith(".0")
    perpetual = make_instrument("cm", "BTCUSD_PERP")
    days = range(to_ms("2021-01-01"), to_ms("2022-01-01"), 86_400_000)
    headers = {header_of(ArchiveFile(perpetual, "aggTrades", "daily", day, day + 86_400_000)) for day in days}
    assert headers == {"", AGG_TRADES_HEADER}


def test_a_month_out_of_order(ask: Ask) -> None:
    """The um month of May 2023 has blocks of aggregates in the wrong order, its days have not."""

    def ids(period: str) -> list[int]:
        return [int(row[0]) for row in csv_of(fetch(ask, ticks_key("futures/um", "aggTrades", "MAYUSDT", period)))[1:]]

    day, month = ids("2023-05-31"), ids("2023-05")
    assert day == list(range(len(day)))
    assert month != day
    assert sorted(month) == day


def test_tick_files_are_listed(ask: Ask) -> None:
    """Beside the klines, with the size that they have."""
    folders = [
        element.findtext(f"{NAMESPACE}Prefix") for element in listed(ask, prefix="data/spot/daily/", delimiter="/")
    ]
    assert {"data/spot/daily/aggTrades/", "data/spot/daily/klines/", "data/spot/daily/trades/"} <= set(folders)
    key = ticks_key("spot", "aggTrades", "TICKUSDT", "2026-11-19")
    (entry,) = [
        element
        for element in listed(ask, prefix=key.removesuffix(".zip"))
        if element.findtext(f"{NAMESPACE}Key") == key
    ]
    assert int(entry.findtext(f"{NAMESPACE}Size") or 0) == len(fetch(ask, key))


def test_missing_ticks(ask: Ask, simulator: Simulator) -> None:
    """Rows that a file lacks, by dataset."""
    key = ticks_key("spot", "trades", "TICKUSDT", "2026-11-19")
    whole = csv_of(fetch(ask, key))
    simulator.add_fault("missing-daily=TICKUSDT:trades:2026-11-19T22:30..2026-11-19T23:00")
    rest = csv_of(fetch(ask, key))
    kept = {row[0] for row in rest}
    gone = [int(row[4]) for row in whole if row[0] not in kept]
    assert len(rest) + len(gone) == len(whole)
    assert to_ms("2026-11-19T22:30") * 1000 <= gone[0] < gone[-1] < to_ms("2026-11-19T23:00") * 1000


def test_defects_of_aggregates(ask: Ask, simulator: Simulator) -> None:
    """Void ones are void everywhere, those without a quantity in their file only."""
    key = "data/spot/daily/aggTrades/TICKUSDT/TICKUSDT-aggTrades-2026-11-19.zip"
    begin = to_ms("2026-11-19T22:00")
    plain = csv_of(fetch(ask, key))
    simulator.add_fault("voided=TICKUSDT:aggTrades:2026-11-19T22:00..2026-11-19T22:01")
    page = ask("/api/v3/aggTrades", symbol="TICKUSDT", startTime=begin, limit=1000).json()
    void = [row for row in page if row["T"] < begin + 60_000]
    assert {(row["p"], row["q"], row["f"], row["l"]) for row in void} == {("0", "0", -1, -1)}
    assert page[len(void)]["f"] > 0
    lines = csv_of(fetch(ask, key))
    assert lines[: len(void) + 1] == [
        *[[row[0], "0", "0", "-1", "-1", *row[5:]] for row in plain[: len(void)]],
        plain[len(void)],
    ]
    simulator.clear_faults()
    simulator.add_fault("zero-quantity=TICKUSDT:*:2026-11-19..2026-11-20")
    zeros = [row[2] == "0" for row in csv_of(fetch(ask, key))]
    assert zeros[:6] == [True, False, False, True, False, False]
