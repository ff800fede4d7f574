"""A client that nobody here wrote: python-binance loads klines, only its URLs changed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_binance.simulator.accounts import DEFAULT_API_SECRET
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Any]:
    """python-binance with the simulator's addresses and keys."""
    from binance.client import Client

    base = simulator.settings["BINANCE_SPOT_REST_URL"]
    with ThreadPoolExecutor(1) as thread:  # it makes an event loop for its thread, and leaves it open
        client = thread.submit(Client, simulator.api_key, DEFAULT_API_SECRET, ping=False).result()
    client.API_URL = f"{base}/api"
    client.MARGIN_API_URL = f"{base}/sapi"
    client.FUTURES_URL = f"{base}/fapi"
    client.FUTURES_COIN_URL = f"{base}/dapi"
    yield client
    client.session.close()
    client.loop.close()


def test_spot_klines(simulator: Simulator, client: Any) -> None:
    """Its pager finds the first candle, loads 2,000 rows in three requests and ends."""
    start = to_ms("2024-01-01")
    rows = client.get_historical_klines("BTCUSDT", "1m", start, start + 1999 * 60_000)
    assert rows == simulator.truth("spot", "BTCUSDT", "1m", start, start + 2000 * 60_000)


def test_klines_since_listing(simulator: Simulator, client: Any) -> None:
    """A symbol listed and delisted: all there is, in one go."""
    rows = client.get_historical_klines("OLDUSDT", "1d", "1 Jan, 2018")
    assert rows == simulator.truth("spot", "OLDUSDT", "1d", "2019-01-01", "2021-05-01")


def test_um_klines(simulator: Simulator, client: Any) -> None:
    """The same pager against fapi."""
    from binance.enums import HistoricalKlinesType

    start = to_ms("2024-01-01")
    rows = client.get_historical_klines(
        "币安人生USDT", "1h", start, start + 99 * 3_600_000, klines_type=HistoricalKlinesType.FUTURES
    )
    assert rows == simulator.truth("um", "币安人生USDT", "1h", start, start + 100 * 3_600_000)


def test_cm_klines(simulator: Simulator, client: Any) -> None:
    """A window of dapi: the newest rows of it."""
    start, end = to_ms("2026-01-01"), to_ms("2026-02-01")
    rows = client.futures_coin_klines(symbol="BTCUSD_PERP", interval="1h", startTime=start, endTime=end - 1, limit=1000)
    assert rows == simulator.truth("cm", "BTCUSD_PERP", "1h", start, end)


def test_signed_calls(simulator: Simulator, client: Any) -> None:
    """Its signatures are right once its clock is; else it understands -1021."""
    from binance.exceptions import BinanceAPIException

    with pytest.raises(BinanceAPIException) as refused:
        client.get_account()
    assert refused.value.code == -1021
    simulator.set_clock(client_time_ms())
    assert client.get_account()["accountType"] == "SPOT"
    assert client.get_account_api_permissions()["enableReading"]
    assert "assets" in client.futures_account()
    assert "assets" in client.futures_coin_account()


def test_errors_as_it_reads_them(client: Any) -> None:
    """Code and status arrive where users look for them."""
    from binance.exceptions import BinanceAPIException

    with pytest.raises(BinanceAPIException) as refused:
        client.get_klines(symbol="NOSUCH", interval="1m")
    assert (refused.value.status_code, refused.value.code) == (400, -1121)


def test_exchange_info(client: Any) -> None:
    """All three."""
    assert client.get_symbol_info("BTCUSDT")["baseAsset"] == "BTC"
    assert client.futures_exchange_info()["futuresType"] == "U_MARGINED"
    assert client.futures_coin_exchange_info()["symbols"][0]["contractSize"] == 100


def client_time_ms() -> int:
    """The real time, which the client signs with."""
    import time

    return int(time.time() * 1000)
