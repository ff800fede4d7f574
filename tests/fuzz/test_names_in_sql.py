"""A symbol's name is data: whatever it is, no statement is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import example, given

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.store.base import Store, open_store
from airflow_provider_binance.symbols import spelled
from tests.fuzz.hostile import many, words

EVER = (0, 10**15)


@pytest.fixture
def opened(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as store:
        store.migrate()
        yield store


@many(60)
@given(symbol=words())
@example(symbol="x'; DROP TABLE klines_data; --")
def test_names_are_bound(opened: Store, symbol: str) -> None:
    """They come back as they went in, or are refused by a clear error."""
    series = Series("spot", "klines", symbol, "1m")
    known = CoverageRange(60_000_000, 120_000_000, State.EXCHANGE_GAP, evidence=symbol, checked_at_us=1)
    if "\0" in symbol or "\udcff" in symbol:
        return  # no text of any database; the front doors refuse it
    opened.record_coverage("klines", series, [known])
    [found] = opened.coverage("klines", [series], *EVER)[series]
    assert (found.state, found.evidence) == (State.EXCHANGE_GAP, symbol)
    assert series in opened.series("klines")


@many(300)
@given(symbol=words())
def test_what_cannot_be_a_symbol_is_refused(symbol: str) -> None:
    """Only letters, digits, `_`, and `*` and `?` of patterns get any further."""
    name = ""
    with suppress(InputError):
        name = spelled(symbol)
    assert all(letter.isalnum() or letter in "_*?" for letter in name)
