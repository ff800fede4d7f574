"""Run by another Python: one client of Binance listens to streams at given addresses.

``python driver_streams.py CLIENT SPOT UM CM REST`` prints JSON: by market and stream, what the client handed out. Only
addresses are changed. It imports the client and nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import Any

CLIENT, SPOT, UM, CM, REST = sys.argv[1:6]
EVENTS = 25
SECONDS = 60
STREAMS = {
    "spot": ["btcusdt@trade", "btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@bookTicker", "btcusdt@depth@100ms"],
    "um": ["btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s"],
    "um/public": ["btcusdt@bookTicker", "btcusdt@depth@100ms"],
    "cm": ["btcusd_perp@aggTrade", "btcusd_perp@kline_1m", "btcusd_perp@bookTicker", "btcusd_perp@depth@100ms"],
}
Heard = dict[str, dict[str, list[Any]]]


def enough(heard: dict[str, list[Any]], streams: list[str]) -> bool:
    """Whether every stream has said so much."""
    return all(len(heard[stream]) >= EVENTS for stream in streams)


def python_binance() -> Heard:
    """python-binance's socket manager: combined and raw sockets."""
    from binance import AsyncClient, BinanceSocketManager
    from binance.enums import FuturesType

    async def listen(manager: Any, market: str) -> dict[str, list[Any]]:
        streams = STREAMS[market]
        if market == "spot":
            socket = manager.multiplex_socket(streams)
        elif market == "cm":
            socket = manager.futures_multiplex_socket(streams, futures_type=FuturesType.COIN_M, category="")
        else:
            socket = manager.futures_multiplex_socket(streams, category="public" if "/" in market else "market")
        heard: dict[str, list[Any]] = defaultdict(list)
        async with socket as receiving:
            while not enough(heard, streams):
                message = await asyncio.wait_for(receiving.recv(), SECONDS)
                heard[message["stream"]].append(message["data"])
        return heard

    async def raw(manager: Any) -> list[Any]:
        async with manager.trade_socket("BTCUSDT") as receiving:
            return [await asyncio.wait_for(receiving.recv(), SECONDS) for _ in range(EVENTS)]

    async def all_markets() -> Heard:
        client = AsyncClient()
        # Left alone it ends when a hundred messages wait, which fast time brings about.
        manager = BinanceSocketManager(client, max_queue_size=100_000)
        manager.STREAM_URL, manager.FSTREAM_URL, manager.DSTREAM_URL = f"{SPOT}/", f"{UM}/", f"{CM}/"
        try:
            heard = await asyncio.gather(*(listen(manager, market) for market in STREAMS), raw(manager))
        finally:
            await client.close_connection()
        return {**dict(zip(STREAMS, heard, strict=False)), "spot raw": {"btcusdt@trade": heard[-1]}}

    return asyncio.run(all_markets())


def official() -> Heard:
    """The official SDKs of the three markets; they subscribe by message."""
    from binance_common.configuration import ConfigurationWebSocketStreams
    from binance_sdk_derivatives_trading_coin_futures.derivatives_trading_coin_futures import (
        DerivativesTradingCoinFutures,
    )
    from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
        DerivativesTradingUsdsFutures,
    )
    from binance_sdk_spot.spot import Spot

    async def listen(kind: Any, url: str, calls: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, list[Any]]:
        client = kind(config_ws_streams=ConfigurationWebSocketStreams(stream_url=url))
        connection = await client.websocket_streams.create_connection()
        heard: dict[str, list[Any]] = defaultdict(list)
        try:
            for name, (method, arguments) in calls.items():
                stream = await getattr(connection, method)(**arguments)
                stream.on("message", lambda data, name=name: heard[name].append(data))
                # Its market and public streams are two connections, and each call is a message.
                await asyncio.sleep(0.3)
            async with asyncio.timeout(SECONDS):
                while not enough(heard, list(calls)):  # noqa: ASYNC110 - its callbacks know of no event
                    await asyncio.sleep(0.1)
        finally:
            await connection.close_connection(close_session=True)
        return {name: [each.model_dump(by_alias=True) for each in events] for name, events in heard.items()}

    btc, coin = {"symbol": "btcusdt"}, {"symbol": "btcusd_perp"}
    spot_calls = {
        "btcusdt@trade": ("trade", btc),
        "btcusdt@aggTrade": ("agg_trade", btc),
        "btcusdt@kline_1m": ("kline", btc | {"interval": "1m"}),
        "btcusdt@bookTicker": ("book_ticker", btc),
        "btcusdt@depth@100ms": ("diff_book_depth", btc | {"update_speed": "100ms"}),
    }

    def futures_calls(symbol: dict[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
        name = symbol["symbol"]
        return {
            f"{name}@aggTrade": ("aggregate_trade_streams", symbol),
            f"{name}@kline_1m": ("kline_candlestick_streams", symbol | {"interval": "1m"}),
            f"{name}@bookTicker": ("individual_symbol_book_ticker_streams", symbol),
            f"{name}@depth@100ms": ("diff_book_depth_streams", symbol | {"update_speed": "100ms"}),
        }

    async def all_markets() -> Heard:
        return {
            "spot": await listen(Spot, SPOT, spot_calls),
            "um": await listen(DerivativesTradingUsdsFutures, UM, futures_calls(btc)),
            "cm": await listen(DerivativesTradingCoinFutures, CM, futures_calls(coin)),
        }

    return asyncio.run(all_markets())


def cryptofeed() -> Heard:
    """cryptofeed: trades (which it takes from the aggregates), tickers, closed candles and a local book."""
    from cryptofeed import FeedHandler
    from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
    from cryptofeed.defines import CANDLES, L2_BOOK, TICKER, TRADES
    from cryptofeed.exchanges import Binance, BinanceDelivery, BinanceFutures

    heard: Heard = defaultdict(lambda: defaultdict(list))

    def keep(market: str) -> dict[str, Any]:
        async def trade(data: Any, _: float) -> None:
            heard[market]["trades"].append([int(data.id), str(data.price), str(data.amount), data.side])

        async def ticker(data: Any, _: float) -> None:
            heard[market]["tickers"].append([str(data.bid), str(data.ask)])

        async def candle(data: Any, _: float) -> None:
            values = (data.open, data.high, data.low, data.close, data.volume)
            heard[market]["candles"].append([round(data.start * 1000), *map(str, values), data.trades])

        async def book(data: Any, _: float) -> None:
            best = [[str(each) for each in data.book[side].index(0)] for side in ("bids", "asks")]
            heard[market]["books"].append([data.sequence_number, *best])

        return {TRADES: trade, TICKER: ticker, CANDLES: candle, L2_BOOK: book}

    def made(kind: Any, **options: Any) -> Any:
        # It takes the first filter of futures for that of prices, but their order changes from answer to answer.
        for _ in range(200):
            try:
                return kind(**options)
            except KeyError:
                time.sleep(0.02)
        raise RuntimeError("no answer with the filter of prices in front")

    handler = FeedHandler({"log": {"disabled": True}})
    places = [
        ("spot", Binance, SPOT, "BTC-USDT", [TRADES, TICKER, CANDLES, L2_BOOK]),
        # It has one address for all of um, so a feed for each of its two paths.
        ("um", BinanceFutures, f"{UM}/market", "BTC-USDT-PERP", [TRADES, CANDLES]),
        ("um/public", BinanceFutures, f"{UM}/public", "BTC-USDT-PERP", [TICKER, L2_BOOK]),
        ("cm", BinanceDelivery, CM, "BTC-USD-PERP", [TRADES, TICKER, CANDLES, L2_BOOK]),
    ]
    for market, kind, url, symbol, channels in places:
        rest = kind.rest_endpoints[0]
        kind.rest_endpoints = [RestEndpoint(REST, routes=rest.routes)]
        callbacks = {name: call for name, call in keep(market).items() if name in channels}
        feed = made(kind, symbols=[symbol], channels=channels, callbacks=callbacks)
        # Of this feed alone, since the two of um are of one class.
        feed.websocket_endpoints = [WebsocketEndpoint(url, options={"compression": None})]
        handler.add_feed(feed)

    async def watch() -> None:
        wanted = {TRADES: "trades", TICKER: "tickers", CANDLES: "candles", L2_BOOK: "books"}
        for _ in range(SECONDS * 10):
            await asyncio.sleep(0.1)
            counts = [
                len(heard[market][wanted[channel]]) >= (1 if channel == CANDLES else EVENTS)
                for market, *_, channels in places
                for channel in channels
            ]
            if all(counts):
                break
        loop.stop()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler.run(start_loop=False, install_signal_handlers=False)
    watching = loop.create_task(watch())
    loop.run_forever()
    watching.cancel()
    handler.stop(loop=loop)
    return {market: dict(kinds) for market, kinds in heard.items()}


CLIENTS = {"python-binance": python_binance, "official": official, "cryptofeed": cryptofeed}

if __name__ == "__main__":
    json.dump(CLIENTS[CLIENT](), sys.stdout, default=str)
