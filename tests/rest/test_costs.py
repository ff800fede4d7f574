"""Prices by endpoint and limit: the higher of documented and measured."""

from __future__ import annotations

import pytest

from airflow_provider_binance.rest.costs import UNKNOWN_WEIGHT, charge, pool_of


@pytest.mark.parametrize(
    ("path", "parameters", "weight"),
    [
        ("/api/v3/klines", {"limit": "1"}, 2),
        ("/api/v3/klines", {"limit": "1000"}, 2),
        ("/api/v3/time", {}, 1),
        ("/api/v3/exchangeInfo", {}, 20),
        ("/api/v3/depth", {}, 5),
        ("/api/v3/depth", {"limit": "101"}, 25),
        ("/api/v3/depth", {"limit": "5000"}, 250),
        ("/api/v3/depth", {"limit": "9999"}, 250),
        ("/api/v3/aggTrades", {"limit": "1000"}, 4),
        ("/api/v3/historicalTrades", {}, 25),
        ("/api/v3/ticker/24hr", {"symbol": "A"}, 2),
        ("/api/v3/ticker/24hr", {"symbols": '["A","B"]'}, 2),
        ("/api/v3/ticker/24hr", {"symbols": str(["A"] * 21).replace("'", '"')}, 40),
        ("/api/v3/ticker/24hr", {}, 80),
        ("/api/v3/ticker/24hr", {"symbols": "[broken,json"}, 2),
        ("/api/v3/ticker/price", {}, 4),
        ("/api/v3/ticker", {"symbols": '["A","B"]'}, 8),
        ("/api/v3/account", {"signature": "x"}, 20),
        ("/fapi/v1/klines", {"limit": "99"}, 1),
        ("/fapi/v1/klines", {"limit": "100"}, 2),
        ("/fapi/v1/klines", {"limit": "499"}, 2),
        ("/fapi/v1/klines", {"limit": "500"}, 5),
        ("/fapi/v1/klines", {"limit": "1000"}, 5),
        ("/fapi/v1/klines", {"limit": "1501"}, 10),
        ("/fapi/v1/klines", {}, 5),
        ("/fapi/v1/klines", {"limit": "many"}, 10),
        ("/fapi/v1/markPriceKlines", {"limit": "1500"}, 10),
        ("/dapi/v1/klines", {"limit": "499"}, 2),
        ("/fapi/v1/depth", {}, 10),
        ("/fapi/v1/depth", {"limit": "1000"}, 20),
        ("/fapi/v1/historicalTrades", {}, 200),
        ("/fapi/v1/aggTrades", {}, 20),
        ("/fapi/v1/premiumIndex", {}, 10),
        ("/dapi/v1/premiumIndex", {"symbol": "A"}, 10),
        ("/fapi/v2/ticker/price", {}, 2),
        ("/dapi/v1/ticker/24hr", {"pair": "BTCUSD"}, 1),
        ("/api/v3/notInvented", {}, UNKNOWN_WEIGHT),
        ("/elsewhere", {}, UNKNOWN_WEIGHT),
        ("/sapi/v1/account/apiRestrictions", {"signature": "x"}, 1),
    ],
)
def test_weights(path, parameters, weight):
    assert charge(path, parameters).weight == weight


@pytest.mark.parametrize(
    ("path", "pool"),
    [
        ("/api/v3/klines", "spot"),
        ("/some/prefix/api/v3/klines", "spot"),
        ("/fapi/v1/klines", "futures"),
        ("/dapi/v1/fundingRate", "futures"),
        ("/fapi/v1/fundingRate", "futures_funding"),
        ("/fapi/v1/fundingInfo", "futures_funding"),
        ("/futures/data/openInterestHist", "futures_data"),
        ("/sapi/v1/account/apiRestrictions", "sapi"),
        ("/eapi/v1/klines", "options"),
        ("/papi/v1/ping", "other"),
        ("/", "other"),
    ],
)
def test_pools(path, pool):
    assert pool_of(path).name == pool


def test_futures_data_of_cm_is_in_the_weight_pool():
    assert pool_of("/futures/data/openInterestHist", is_cm_host=True).name == "futures"


@pytest.mark.parametrize(
    ("path", "parameters", "needs_key"),
    [
        ("/api/v3/klines", {}, False),
        ("/api/v3/historicalTrades", {}, False),
        ("/fapi/v1/historicalTrades", {}, True),
        ("/dapi/v1/historicalTrades", {}, True),
        ("/api/v3/userDataStream", {}, True),
        ("/fapi/v1/listenKey", {}, True),
        ("/api/v3/account", {"signature": "x"}, True),
        ("/futures/data/topLongShortAccountRatio", {}, False),
        ("/elsewhere", {}, False),
    ],
)
def test_who_needs_the_key(path, parameters, needs_key):
    assert charge(path, parameters).needs_key is needs_key
