"""Run by another Python: one client of Binance loads from an address, and says how it reads errors.

``python driver.py CLIENT ADDRESS API_KEY API_SECRET`` prints JSON: ``loaded`` by market and dataset, and ``errors`` by
case as [class, code]. It imports the client and nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from itertools import islice
from typing import Any

NOW = "2026-11-20T12:00:30Z"
START = 1704067200000  # 2024-01-01
END = START + 1499 * 60_000
LONG_AFTER = 300 * 86_400_000
REVERSED = {"symbol": "BTCUSDT", "interval": "1m", "startTime": END, "endTime": START}
WIDE = {"symbol": "BTCUSD_PERP", "interval": "1d", "startTime": 0, "endTime": LONG_AFTER}
SYMBOL = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
CLIENT, BASE, KEY, SECRET = sys.argv[1:5]
# What is switched on before the call; and which call.
CASES = {
    "unknown symbol": (None, "unknown_symbol"),
    "unknown symbol on um": (None, "unknown_symbol_um"),
    "unknown interval": (None, "unknown_interval"),
    "limit too high on um": (None, "limit_um"),
    "throttled": ("overloaded=1", "plain"),
    "timeout of the backend": ("http=408:1", "plain"),
    "old aggregates of um": (None, "old_um"),
    "illegal characters": (None, "illegal"),
    "unknown size of um's book": (None, "depth_um"),
    "reversed range on um": (None, "reversed_um"),
    "id with a time": (None, "combined"),
    "window too big on cm": (None, "window_cm"),
    "over the limit": ("429=1", "plain"),
    "banned": ("418=90", "plain"),
    "firewall": ("403=1", "plain"),
    "restricted location": ("451=1", "plain"),
    "not found": ("http=404:1", "plain"),
    "internal error": ("http=500:1", "plain"),
    "unavailable": ("http=503:1", "plain"),
    "no JSON": ("nonjson=1", "plain"),
    "connection reset": ("reset", "plain"),
    "wrong signature": (None, "wrong_signature"),
    "clock behind": ("clock-skew=60000", "signed"),
    "clock ahead": ("clock-skew=-60000", "signed"),
    "unknown key": (None, "unknown_key"),
    "malformed key": (None, "malformed_key"),
}


def control(method: str, command: str, **body: Any) -> None:
    """Tell the simulator something."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{BASE}/simulator/{command}", data=data, method=method)
    urllib.request.urlopen(request, timeout=10).close()


def failures(calls: dict[str, Any], code_of: Any) -> dict[str, list[Any]]:
    """How the client takes each case."""
    seen = {}
    for case, (fault, name) in CASES.items():
        if name not in calls:
            continue
        if fault:
            control("POST", "faults", fault=fault)
        if name != "plain":
            # Signatures carry the real time.
            control("POST", "clock", now=int(time.time() * 1000))
        try:
            answer = calls[name]()
            seen[case] = ["answered", repr(answer)[:80]]
        except Exception as error:  # noqa: BLE001 - which one it is, is the question
            seen[case] = [type(error).__name__, code_of(error)]
        control("DELETE", "faults")
        control("DELETE", "limits")
        control("POST", "clock", now=NOW)
    return seen


def python_binance() -> dict[str, Any]:
    """python-binance, the synchronous client."""
    from binance.client import Client

    def client(key: str = KEY, secret: str = SECRET) -> Any:
        made = Client(key, secret, ping=False)
        point(made)
        return made

    mine = client()
    loaded = {
        "spot": {
            "klines": mine.get_historical_klines("BTCUSDT", "1m", START, END),
            "trades": mine.get_recent_trades(symbol="BTCUSDT", limit=1000),
            "agg_trades": list(islice(mine.aggregate_trade_iter("BTCUSDT", last_id=1_000_000), 2500)),
            "depth": mine.get_order_book(symbol="BTCUSDT", limit=1000),
        },
        "um": {
            "klines": mine.futures_historical_klines("BTCUSDT", "1m", START, END),
            "trades": mine.futures_recent_trades(symbol="BTCUSDT", limit=1000),
            "agg_trades": mine.futures_aggregate_trades(symbol="BTCUSDT", limit=1000),
            "depth": mine.futures_order_book(symbol="BTCUSDT", limit=1000),
        },
        "cm": {
            "klines": mine.futures_coin_klines(
                symbol="BTCUSD_PERP", interval="1m", startTime=START, endTime=END, limit=1500
            ),
            "trades": mine.futures_coin_recent_trades(symbol="BTCUSD_PERP", limit=1000),
            "agg_trades": mine.futures_coin_aggregate_trades(symbol="BTCUSD_PERP", limit=1000),
            "depth": mine.futures_coin_order_book(symbol="BTCUSD_PERP", limit=1000),
        },
    }
    calls = {
        "unknown_symbol": lambda: mine.get_klines(symbol="NOSUCH", interval="1m"),
        "unknown_symbol_um": lambda: mine.futures_klines(symbol="NOSUCH", interval="1m"),
        "unknown_interval": lambda: mine.get_klines(symbol="BTCUSDT", interval="7m"),
        "limit_um": lambda: mine.futures_klines(symbol="BTCUSDT", interval="1m", limit=1501),
        "old_um": lambda: mine.futures_aggregate_trades(symbol="BTCUSDT", startTime=START),
        "illegal": lambda: mine.get_klines(symbol="BTC/USDT", interval="1m"),
        "depth_um": lambda: mine.futures_order_book(symbol="BTCUSDT", limit=7),
        "reversed_um": lambda: mine.futures_klines(symbol="BTCUSDT", interval="1m", startTime=END, endTime=START),
        "combined": lambda: mine.get_aggregate_trades(symbol="BTCUSDT", fromId=1, startTime=START),
        "window_cm": lambda: mine.futures_coin_klines(
            symbol="BTCUSD_PERP", interval="1d", startTime=0, endTime=LONG_AFTER
        ),
        "plain": lambda: mine.get_klines(symbol="BTCUSDT", interval="1m", limit=1),
        "signed": mine.get_account,
        "wrong_signature": lambda: client(secret="other").get_account(),
        "unknown_key": lambda: client(key="x" * 64).get_account(),
        "malformed_key": lambda: client(key="short").get_account(),
    }
    return {"loaded": loaded, "errors": failures(calls, lambda error: getattr(error, "code", None))}


def point(client: Any) -> None:
    """Change the addresses of a python-binance client."""
    client.API_URL = f"{BASE}/api"
    client.MARGIN_API_URL = f"{BASE}/sapi"
    client.FUTURES_URL = f"{BASE}/fapi"
    client.FUTURES_COIN_URL = f"{BASE}/dapi"


def python_binance_async() -> dict[str, Any]:
    """python-binance, the asyncio client."""
    from binance.async_client import AsyncClient

    async def load() -> dict[str, Any]:
        mine = AsyncClient(KEY, SECRET)
        point(mine)
        try:
            loaded = {
                "spot": {
                    "klines": await mine.get_historical_klines("BTCUSDT", "1m", START, END),
                    "trades": await mine.get_recent_trades(symbol="BTCUSDT", limit=1000),
                    "agg_trades": await mine.get_aggregate_trades(symbol="BTCUSDT", fromId=1_000_000, limit=1000),
                    "depth": await mine.get_order_book(symbol="BTCUSDT", limit=1000),
                },
                "um": {
                    "klines": await mine.futures_historical_klines("BTCUSDT", "1m", START, END),
                    "trades": await mine.futures_recent_trades(symbol="BTCUSDT", limit=1000),
                    "agg_trades": await mine.futures_aggregate_trades(symbol="BTCUSDT", limit=1000),
                    "depth": await mine.futures_order_book(symbol="BTCUSDT", limit=1000),
                },
            }
        finally:
            await mine.close_connection()
        return loaded

    async def once(name: str, key: str, secret: str, **params: Any) -> Any:
        mine = AsyncClient(key, secret)
        point(mine)
        try:
            return await getattr(mine, name)(**params)
        finally:
            await mine.close_connection()

    def call(name: str, key: str = KEY, secret: str = SECRET, **params: Any) -> Any:
        return lambda: asyncio.run(once(name, key, secret, **params))

    calls = {
        "unknown_symbol": call("get_klines", symbol="NOSUCH", interval="1m"),
        "unknown_symbol_um": call("futures_klines", symbol="NOSUCH", interval="1m"),
        "unknown_interval": call("get_klines", symbol="BTCUSDT", interval="7m"),
        "limit_um": call("futures_klines", symbol="BTCUSDT", interval="1m", limit=1501),
        "old_um": call("futures_aggregate_trades", symbol="BTCUSDT", startTime=START),
        "illegal": call("get_klines", symbol="BTC/USDT", interval="1m"),
        "depth_um": call("futures_order_book", symbol="BTCUSDT", limit=7),
        "reversed_um": call("futures_klines", symbol="BTCUSDT", interval="1m", startTime=END, endTime=START),
        "combined": call("get_aggregate_trades", symbol="BTCUSDT", fromId=1, startTime=START),
        "window_cm": call("futures_coin_klines", symbol="BTCUSD_PERP", interval="1d", startTime=0, endTime=LONG_AFTER),
        "plain": call("get_klines", symbol="BTCUSDT", interval="1m", limit=1),
        "signed": call("get_account"),
        "wrong_signature": call("get_account", secret="other"),
        "unknown_key": call("get_account", key="x" * 64),
        "malformed_key": call("get_account", key="short"),
    }
    return {"loaded": asyncio.run(load()), "errors": failures(calls, lambda error: getattr(error, "code", None))}


def official() -> dict[str, Any]:
    """The official SDKs of the three markets."""
    from binance_common.configuration import ConfigurationRestAPI
    from binance_sdk_derivatives_trading_coin_futures.derivatives_trading_coin_futures import (
        DerivativesTradingCoinFutures,
    )
    from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
        DerivativesTradingUsdsFutures,
    )
    from binance_sdk_spot.spot import Spot

    def made(kind: Any, key: str = KEY, secret: str = SECRET) -> Any:
        settings = ConfigurationRestAPI(api_key=key, api_secret=secret, base_path=BASE, timeout=20_000, retries=0)
        return kind(config_rest_api=settings).rest_api

    def plain(answer: Any) -> Any:
        data = answer.data()
        if isinstance(data, list):
            return [row if isinstance(row, list) else row.to_dict() for row in data]
        return data.to_dict()

    spot = made(Spot)
    window = {"interval": "1m", "start_time": START, "limit": 1000}
    loaded: dict[str, Any] = {
        "spot": {
            "klines": plain(spot.klines(symbol="BTCUSDT", **window)),
            "trades": plain(spot.get_trades(symbol="BTCUSDT", limit=1000)),
            "agg_trades": plain(spot.agg_trades(symbol="BTCUSDT", from_id=1_000_000, limit=1000)),
            "depth": plain(spot.depth(symbol="BTCUSDT", limit=1000)),
            "info": plain(spot.exchange_info(symbol="BTCUSDT"))["symbols"][0]["symbol"],
        }
    }
    um, cm = made(DerivativesTradingUsdsFutures), made(DerivativesTradingCoinFutures)
    for market, client in (("um", um), ("cm", cm)):
        symbol = SYMBOL[market]
        # dapi answers with the newest rows of a window.
        ends = {"end_time": START + 999 * 60_000}
        loaded[market] = {
            "klines": plain(client.kline_candlestick_data(symbol=symbol, **window, **ends)),
            "trades": plain(client.recent_trades_list(symbol=symbol, limit=1000)),
            "agg_trades": plain(client.compressed_aggregate_trades_list(symbol=symbol, limit=1000)),
            "depth": plain(client.order_book(symbol=symbol, limit=1000)),
            "old": len(plain(client.old_trades_lookup(symbol=symbol, limit=500))),
            "info": plain(client.exchange_information())["symbols"][0]["symbol"],
        }
    calls = {
        "unknown_symbol": lambda: spot.klines(symbol="NOSUCH", interval="1m"),
        "unknown_symbol_um": lambda: um.kline_candlestick_data(symbol="NOSUCH", interval="1m"),
        "unknown_interval": lambda: spot.klines(symbol="BTCUSDT", interval="7m"),
        "limit_um": lambda: um.kline_candlestick_data(symbol="BTCUSDT", interval="1m", limit=1501),
        "old_um": lambda: um.compressed_aggregate_trades_list(symbol="BTCUSDT", start_time=START),
        "illegal": lambda: spot.klines(symbol="BTC/USDT", interval="1m"),
        "depth_um": lambda: um.order_book(symbol="BTCUSDT", limit=7),
        "reversed_um": lambda: um.kline_candlestick_data(
            symbol="BTCUSDT", interval="1m", start_time=END, end_time=START
        ),
        "combined": lambda: spot.agg_trades(symbol="BTCUSDT", from_id=1, start_time=START),
        "window_cm": lambda: cm.kline_candlestick_data(
            symbol="BTCUSD_PERP", interval="1d", start_time=0, end_time=LONG_AFTER
        ),
        "plain": lambda: spot.klines(symbol="BTCUSDT", interval="1m", limit=1).data(),
        "signed": spot.get_account,
        "wrong_signature": lambda: made(Spot, secret="other").get_account(),
        "unknown_key": lambda: made(Spot, key="x" * 64).get_account(),
        "malformed_key": lambda: made(Spot, key="short").get_account(),
    }

    def code_of(error: Any) -> Any:
        return [getattr(error, "status_code", None), getattr(error, "retry_after", None)]

    return {"loaded": loaded, "errors": failures(calls, code_of)}


CCXT_NAME = {"spot": "binance", "um": "binanceusdm", "cm": "binancecoinm"}


def ccxt_clients(module: Any, markets: tuple[str, ...] = ("spot", "um", "cm"), **keys: str) -> dict[str, Any]:
    """One ccxt exchange per market, with other addresses; with keys it would ask for margin pairs, too."""
    made = {}
    for market in markets:
        client = getattr(module, CCXT_NAME[market])({"enableRateLimit": False, **keys})
        for api, url in client.urls["api"].items():
            for host in ("api", "fapi", "dapi") if isinstance(url, str) else ():
                client.urls["api"][api] = client.urls["api"][api].replace(f"https://{host}.binance.com", BASE)
        if market == "spot":
            client.options["fetchMarkets"] = {"types": ["spot"]}
        made[market] = client
    return made


CCXT_SYMBOL = {"spot": "BTC/USDT", "um": "BTC/USDT:USDT", "cm": "BTC/USD:BTC"}


def ccxt_sync() -> dict[str, Any]:
    """ccxt, synchronous."""
    import ccxt

    clients = ccxt_clients(ccxt)
    loaded = {}
    for market, client in clients.items():
        symbol = CCXT_SYMBOL[market]
        loaded[market] = {
            "klines": client.fetch_ohlcv(
                symbol, "1m", since=START, limit=1000, params={"endTime": START + 999 * 60_000}
            ),
            "agg_trades": [row["info"] for row in client.fetch_trades(symbol, limit=1000)],
            "depth": client.fetch_order_book(symbol, limit=1000),
        }
    spot, um = clients["spot"], clients["um"]

    def other(**keys: str) -> Any:
        return ccxt_clients(ccxt, **{"apiKey": KEY, "secret": SECRET, **keys})["spot"].privateGetAccount()

    calls = {
        "unknown_symbol": lambda: spot.publicGetKlines({"symbol": "NOSUCH", "interval": "1m"}),
        "unknown_symbol_um": lambda: um.fapiPublicGetKlines({"symbol": "NOSUCH", "interval": "1m"}),
        "unknown_interval": lambda: spot.publicGetKlines({"symbol": "BTCUSDT", "interval": "7m"}),
        "limit_um": lambda: um.fapiPublicGetKlines({"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}),
        "old_um": lambda: um.fapiPublicGetAggTrades({"symbol": "BTCUSDT", "startTime": START}),
        "illegal": lambda: spot.publicGetKlines({"symbol": "BTC/USDT", "interval": "1m"}),
        "depth_um": lambda: um.fapiPublicGetDepth({"symbol": "BTCUSDT", "limit": 7}),
        "reversed_um": lambda: um.fapiPublicGetKlines(REVERSED),
        "combined": lambda: spot.publicGetAggTrades({"symbol": "BTCUSDT", "fromId": 1, "startTime": START}),
        "window_cm": lambda: clients["cm"].dapiPublicGetKlines(WIDE),
        "plain": lambda: spot.fetch_ohlcv("BTC/USDT", "1m", limit=1),
        "signed": other,
        "wrong_signature": lambda: other(secret="other"),
        "unknown_key": lambda: other(apiKey="x" * 64),
        "malformed_key": lambda: other(apiKey="short"),
    }
    return {"loaded": loaded, "errors": failures(calls, lambda error: code_in(str(error)))}


def code_in(text: str) -> int | None:
    """Binance's code in ccxt's message."""
    try:
        return int(json.loads(text[text.index("{") : text.rindex("}") + 1])["code"])
    except (ValueError, KeyError):
        return None


def ccxt_async() -> dict[str, Any]:
    """ccxt, asyncio."""
    import ccxt.async_support

    async def load() -> dict[str, Any]:
        loaded = {}
        for market, client in ccxt_clients(ccxt.async_support).items():
            symbol = CCXT_SYMBOL[market]
            try:
                loaded[market] = {
                    "klines": await client.fetch_ohlcv(
                        symbol, "1m", since=START, limit=1000, params={"endTime": START + 999 * 60_000}
                    ),
                    "agg_trades": [row["info"] for row in await client.fetch_trades(symbol, limit=1000)],
                    "depth": await client.fetch_order_book(symbol, limit=1000),
                }
            finally:
                await client.close()
        return loaded

    loop = asyncio.new_event_loop()
    # Making one takes a while.
    made: dict[Any, Any] = {}

    def call(market: str, name: str, *args: Any, keys: dict[str, str] | None = None) -> Any:
        async def once() -> Any:
            key = market, str(keys)
            if key not in made:
                made[key] = ccxt_clients(ccxt.async_support, (market,), **(keys or {}))[market]
            return await getattr(made[key], name)(*args)

        return lambda: loop.run_until_complete(once())

    def signed(**keys: str) -> Any:
        return call("spot", "privateGetAccount", keys={"apiKey": KEY, "secret": SECRET, **keys})

    calls = {
        "unknown_symbol": call("spot", "publicGetKlines", {"symbol": "NOSUCH", "interval": "1m"}),
        "unknown_symbol_um": call("um", "fapiPublicGetKlines", {"symbol": "NOSUCH", "interval": "1m"}),
        "unknown_interval": call("spot", "publicGetKlines", {"symbol": "BTCUSDT", "interval": "7m"}),
        "limit_um": call("um", "fapiPublicGetKlines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}),
        "old_um": call("um", "fapiPublicGetAggTrades", {"symbol": "BTCUSDT", "startTime": START}),
        "illegal": call("spot", "publicGetKlines", {"symbol": "BTC/USDT", "interval": "1m"}),
        "depth_um": call("um", "fapiPublicGetDepth", {"symbol": "BTCUSDT", "limit": 7}),
        "reversed_um": call("um", "fapiPublicGetKlines", REVERSED),
        "combined": call("spot", "publicGetAggTrades", {"symbol": "BTCUSDT", "fromId": 1, "startTime": START}),
        "window_cm": call("cm", "dapiPublicGetKlines", WIDE),
        "plain": call("spot", "publicGetKlines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1}),
        "signed": signed(),
        "wrong_signature": signed(secret="other"),
        "unknown_key": signed(apiKey="x" * 64),
        "malformed_key": signed(apiKey="short"),
    }
    loaded = loop.run_until_complete(load())
    errors = failures(calls, lambda error: code_in(str(error)))
    for client in made.values():
        loop.run_until_complete(client.close())
    loop.close()
    return {"loaded": loaded, "errors": errors}


CLIENTS = {
    "python-binance": python_binance,
    "python-binance-async": python_binance_async,
    "official": official,
    "ccxt": ccxt_sync,
    "ccxt-async": ccxt_async,
}

if __name__ == "__main__":
    json.dump(CLIENTS[CLIENT](), sys.stdout)
