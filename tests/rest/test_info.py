"""exchangeInfo is read symbol by symbol, and means what json makes of it."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import pytest

from airflow_provider_binance.errors import MalformedResponseError
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.failures import LARGE_BYTES, check_json
from airflow_provider_binance.rest.info import parse_info


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_spelling_means_what_json_makes_of_it(count: int, indent: int | None):
    """Blanks, line ends and an empty list included."""
    info = {"rateLimits": [{"limit": 6000}], "symbols": [{"symbol": f"S{n}", "f": [{"x": 1.5}]} for n in range(count)]}
    text = json.dumps(info, indent=indent)
    assert parse_info(text.encode()) == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"symbols": []}', b'{"symbols": [{"a": 1}', b'{"symbols": [1]}', b'{"symbols": [{}]} x'],
)
def test_what_is_no_exchange_info_is_a_value_error(body: bytes):
    """The caller makes it an error of the package."""
    with pytest.raises(ValueError):  # noqa: PT011  # any kind of it
        parse_info(body)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["spot-2024-09-08", "fapi-2022-05-04", "dapi-2021-07-21"])
def test_recorded_answers_are_read_whole(realdata, name: str):
    """All symbols, all other fields."""
    body = gzip.decompress((realdata / "exchange_info" / f"{name}.json.gz").read_bytes())
    assert parse_info(body) == json.loads(body, parse_float=Decimal)
    check_json(body, market=Market.SPOT, path="exchangeInfo")


def test_a_large_answer_that_is_cut_is_still_noticed():
    """By its brackets."""
    body = json.dumps({"symbols": [{"symbol": f"S{n}", "pad": "x" * 90} for n in range(3000)]}).encode()
    assert len(body) > LARGE_BYTES
    check_json(body, market=Market.SPOT, path="exchangeInfo")
    with pytest.raises(MalformedResponseError):
        check_json(body[:-100], market=Market.SPOT, path="exchangeInfo")
