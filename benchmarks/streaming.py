"""`python -m benchmarks.streaming`: frames to records by several websocket clients, the same messages over loopback.

A server in a process of its own sends aggregate trades and book tickers of 300 symbols as fast as they are taken. Each
client runs in a process of its own too; its processor time is what counts, since the server takes the other core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

from airflow_provider_binance.market import Market
from airflow_provider_binance.stream.frames import Frames
from airflow_provider_binance.stream.payloads import AggTradePayload, BookTickerPayload

Client = Callable[[str, int], Awaitable[None]]
END = b'{"e":"end"}'


def messages(count: int) -> list[bytes]:
    """Two thirds book tickers, one third aggregate trades, prices and quantities that vary."""
    made = []
    for number in range(count):
        symbol, price = f"S{number % 300}USDT", f"{40_000 + number % 977}.{number % 100:02d}000000"
        quantity, at = f"0.{number % 9973:05d}000", 1_700_000_000_000 + number
        if number % 3:
            data = {"u": number, "s": symbol, "b": price, "B": quantity, "a": price, "A": quantity}
            name = "bookTicker"
        else:
            data = {"e": "aggTrade", "E": at, "s": symbol, "a": number, "p": price, "q": quantity, "f": number,
                    "l": number, "T": at, "m": True, "M": True}  # fmt: skip
            name = "aggTrade"
        envelope = {"stream": f"{symbol.lower()}@{name}", "data": data}
        made.append(json.dumps(envelope, separators=(",", ":")).encode())
    return made


def serve(count: int, ready: Pipe) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    made = messages(count)

    class Sender(WSListener):
        def __init__(self) -> None:
            self.room = asyncio.Event()
            self.room.set()

        def on_ws_connected(self, transport: WSTransport) -> None:
            self.task = asyncio.get_running_loop().create_task(self.send(transport))

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()

        def pause_writing(self) -> None:
            self.room.clear()

        def resume_writing(self) -> None:
            self.room.set()

        async def send(self, transport: WSTransport) -> None:
            for message in made:
                if not self.room.is_set():
                    await self.room.wait()
                transport.send(WSMsgType.TEXT, message)
            transport.send(WSMsgType.TEXT, END)

    async def run() -> None:
        server = await ws_create_server(lambda request: Sender(), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def with_picows(url: str, count: int, read: Callable[[bytes], object]) -> None:
    from picows import WSFrame, WSListener, WSTransport, ws_connect

    class Reader(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            payload = frame.get_payload_as_bytes()
            if payload == END:
                transport.disconnect()
            else:
                read(payload)

    transport, _ = await ws_connect(Reader, url)
    await transport.wait_disconnected()


def _typed() -> Callable[[bytes], object]:
    """Frames to msgspec structs and no further."""
    import msgspec

    class Trade(msgspec.Struct):
        data: AggTradePayload

    class Ticker(msgspec.Struct):
        data: BookTickerPayload

    trade, ticker = (msgspec.json.Decoder(kind).decode for kind in (Trade, Ticker))
    return lambda frame: (trade if b"@aggTrade" in frame[:40] else ticker)(frame)


async def ours(url: str, count: int) -> None:
    frames = Frames(Market.SPOT)
    await with_picows(url, count, lambda frame: frames.read(frame, 1))
    assert frames.counts == {"events": count}, frames.counts


async def picows_msgspec(url: str, count: int) -> None:
    await with_picows(url, count, _typed())


async def websockets_msgspec(url: str, count: int) -> None:
    from websockets.asyncio.client import connect

    read = _typed()
    async with connect(url, compression=None, max_queue=64) as socket:
        while (frame := await socket.recv(decode=False)) != END:
            read(frame)  # type: ignore[arg-type]


async def aiohttp_orjson(url: str, count: int) -> None:
    import aiohttp
    import orjson

    async with aiohttp.ClientSession() as session, session.ws_connect(url, decode_text=False) as socket:
        while (frame := (await socket.receive()).data) != END:
            orjson.loads(frame)


CLIENTS: dict[str, Client] = {
    "picows + msgspec → records (this package)": ours,
    "picows + msgspec, structs only": picows_msgspec,
    "aiohttp + orjson, dicts only": aiohttp_orjson,
    "websockets + msgspec, structs only": websockets_msgspec,
}


def run(client: Client, url: str, count: int, result: Pipe) -> None:
    async def timed() -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        await client(url, count)
        return time.process_time() - cpu, time.perf_counter() - wall

    result.send(asyncio.run(timed()))


def alone(count: int) -> float:
    """Seconds for frame → record without any socket."""
    made, frames = messages(count), Frames(Market.SPOT)
    begun = time.process_time()
    for message in made:
        frames.read(message, 1)
    return time.process_time() - begun


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    for line in table(options.messages, options.rounds):
        print(line)


def table(count: int, rounds: int) -> list[str]:
    """Each client's figures as lines of a table."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(count, told), daemon=True)
    server.start()
    url = f"ws://127.0.0.1:{ready.recv()}/stream"
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    try:
        for _ in range(rounds):
            for name, client in CLIENTS.items():
                result, tell = context.Pipe(duplex=False)
                child = context.Process(target=run, args=(client, url, count, tell))
                child.start()
                seconds[name].append(result.recv())
                child.join()
    finally:
        server.terminate()
        server.join()
    rates = sorted(count / alone(count) for _ in range(rounds))
    lines = ["| client | messages/s | CPU ms per 10,000 |", "|---|---|---|"]
    lines.append(f"| frame → record alone | {statistics.median(rates):,.0f} ({rates[0]:,.0f}–{rates[-1]:,.0f}) | "
                 f"{1e7 / statistics.median(rates):.0f} |")  # fmt: skip
    for name, took in seconds.items():
        walls = sorted(count / wall for _, wall in took)
        cpu = statistics.median(cpu for cpu, _ in took) * 1e7 / count
        lines.append(f"| {name} | {statistics.median(walls):,.0f} ({walls[0]:,.0f}–{walls[-1]:,.0f}) | {cpu:.0f} |")
    return lines


if __name__ == "__main__":
    main()
