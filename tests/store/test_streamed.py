"""Datasets that only streams bring: their tables, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import DAY_US, iso
from airflow_provider_binance.records import BookTicker, CoverageRange, Liquidation, MarkPrice, Series, State
from airflow_provider_binance.records import WriteResult as Result
from airflow_provider_binance.registry import BOOK_TICKERS, LIQUIDATIONS, MARK_PRICES, Dataset
from airflow_provider_binance.rows import Value
from airflow_provider_binance.store import Store, open_store
from tests.store.helpers import T0, at, batch_of, is_sqlite, plain

RECORDS: dict[str, type[tuple[Any, ...]]] = {
    "book_tickers": BookTicker,
    "mark_prices": MarkPrice,
    "liquidations": Liquidation,
}
DATASETS = [BOOK_TICKERS, MARK_PRICES, LIQUIDATIONS]
DAY = 1440


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as opened:
        yield opened


def row(dataset: Dataset, i: int) -> tuple[Value, ...]:
    """The row of the i-th minute."""
    rows: dict[str, tuple[Value, ...]] = {
        "book_tickers": (i, "1.5", "2", "1.6", "0.001", None, None, at(i) + 7),
        "mark_prices": (at(i), "40000.12345678", "40000.1", "40001", "0.0001", at(480)),
        "liquidations": (at(i), "SELL", "LIMIT", "IOC", "0.5", "9910", "9910.5", "FILLED", "0.5", "0.5", at(i) - 9),
    }
    return rows[dataset.name]


def column_names(url: str, view: str) -> list[str]:
    if is_sqlite(url):
        return [line[1] for line in plain(url, f"PRAGMA table_info({view})")]
    asked = "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
    return [line[0] for line in plain(url, asked, [view])]


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda entry: entry.name)
def test_views_and_records_have_the_documented_columns(store: Store, store_url: str, dataset: Dataset) -> None:
    store.migrate()
    names = column_names(store_url, dataset.name)

    assert names == ["market", "symbol", *dataset.column_names, dataset.day_column]
    assert list(RECORDS[dataset.name]._fields) == names[:-1]  # type: ignore[attr-defined]
    assert column_names(store_url, f"{dataset.name}_latest") == names


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda entry: entry.name)
def test_rows_are_written_and_read_across_months_and_retired(store: Store, store_url: str, dataset: Dataset) -> None:
    series = Series("um", dataset.name, "BTCUSDT")
    rows = [row(dataset, i * DAY * 10) for i in range(1, 8)]
    known = [CoverageRange(T0, at(71 * DAY), State.COMPLETE, 7)]
    batch = batch_of(rows, 0, 71 * DAY, series=series, dataset=dataset, coverage=known)

    assert store.write(batch) == Result(7, 7)
    assert store.write(batch) == Result(7, rows_unchanged=7)
    assert list(store.rows(dataset.name, series, T0, at(80 * DAY))) == rows
    found = store.retire(dataset.name, T0 + 31 * DAY_US)
    assert (found.series, found.rows) == (1, 3)
    assert [(r.state, r.row_count) for r in store.coverage(dataset.name, [series], T0, at(99 * DAY))[series]] == [
        (State.RETIRED, 0), (State.COMPLETE, 4),
    ]  # fmt: skip
    assert plain(store_url, f"SELECT count(*) FROM {dataset.name} WHERE symbol = 'BTCUSDT'") == [(4,)]


@pytest.mark.parametrize("front_door", [ingest.load, ingest.plan])
def test_nothing_but_a_stream_brings_them(front_door: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"mark_prices comes from streams only.* It takes: klines agg_trades trades"):
        front_door(
            market="um", dataset="mark_prices", symbols="BTCUSDT", start="2024-01", end="2024-02",
            store="sqlite:///never.db", config=BinanceConfig(),
        )  # fmt: skip


def test_coverage_tells_what_is_there(store: Store) -> None:
    series = Series("um", "mark_prices", "BTCUSDT")
    known = [CoverageRange(T0, at(3), State.COMPLETE, 3)]
    store.write(
        batch_of([row(MARK_PRICES, i) for i in range(3)], 0, 3, series=series, dataset=MARK_PRICES, coverage=known)
    )
    [told] = ingest.coverage(dataset="mark_prices", store=store, config=BinanceConfig()).coverage

    assert (told.series, told.rows, told.expected) == (series, 3, None)
    assert [piece.state for piece in told.ranges] == ["complete"]


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda entry: entry.name)
def test_they_can_be_forgotten(store: Store, store_url: str, dataset: Dataset) -> None:
    series = [Series("um", dataset.name, name) for name in ("BTCUSDT", "ETHUSDT")]
    rows = [row(dataset, i * DAY) for i in range(6)]
    for one in series:
        known = [CoverageRange(T0, at(6 * DAY), State.COMPLETE, 6)]
        store.write(batch_of(rows, 0, 6 * DAY, series=one, dataset=dataset, coverage=known))

    def forget(**window: str) -> list[tuple[int, int]]:
        found = ingest.forget(
            market="um", dataset=dataset.name, symbols="BTC*", store=store, config=BinanceConfig(), **window
        )  # fmt: skip
        return [(one.rows, one.ranges) for one in found.forgotten]

    assert forget(end=iso(T0 + 2 * DAY_US)) == [(2, 1)]
    [left] = store.coverage(dataset.name, series[:1], T0, at(99 * DAY))[series[0]]
    assert (left.start_us, left.row_count) == (T0 + 2 * DAY_US, 4)
    assert forget() == [(4, 1)]
    assert forget() == []
    assert plain(store_url, f"SELECT symbol, count(*) FROM {dataset.name} GROUP BY symbol") == [("ETHUSDT", 6)]
