"""`python -m benchmarks.stream_store`: frames of 300 symbols from the socket to the commit, beside bare COPY of them.

A server in a process of its own sends aggregate trades and book tickers, ids without a hole, as fast as they are taken
or at a steady pace. Each client is a process of its own: this package's judges every record by its sequence, and
commits rows, coverage and ledger; bare COPY puts the fields of typed frames into tables without keys, 5,000 at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast

import psycopg

from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.store import open_store
from airflow_provider_binance.stream.buffer import Buffer, Item
from airflow_provider_binance.stream.flushing import Flusher
from airflow_provider_binance.stream.frames import Frames, Record
from airflow_provider_binance.stream.payloads import AggTradePayload, BookTickerPayload
from airflow_provider_binance.stream.taking import Taking
from benchmarks import postgres
from benchmarks.measure import Spread

SYMBOLS = 300
END = b'{"e":"end"}'
OURS, BARE = "this package", "picows + msgspec → COPY, no checks"
#: How often a second a paced server sends.
_BEATS = 5_000
_COPY_ROWS = 5_000
_MOST_BUFFERED = 100_000
_NOW = b"%NOW-IN-MS%"


def templates(count: int) -> list[tuple[bytes, bytes]]:
    """Frames, cut where the time goes: two thirds book tickers, one third aggregate trades, of all symbols in turn."""
    made = []
    for number in range(count):
        turn, which = divmod(number, SYMBOLS)
        symbol, price = f"S{which}USDT", f"{40_000 + number % 977}.{number % 100:02d}000000"
        quantity = f"0.{number % 9973:05d}000"
        if turn % 3:
            text = (
                f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{number},"s":"{symbol}","b":"{price}",'
                f'"B":"{quantity}","a":"{price}","A":"{quantity}"}}}}'
            )
        else:
            text = (
                f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":%NOW-IN-MS%,"s":"{symbol}",'
                f'"a":{turn // 3},"p":"{price}","q":"{quantity}","f":{turn},"l":{turn},"T":%NOW-IN-MS%,"m":true,'
                f'"M":true}}}}'
            )
        head, *rest = text.encode().split(_NOW)
        made.append((head, b"%d".join(rest)))
    return made


def serve(count: int, rate: int, ready: Pipe) -> None:
    """Send `count` frames to each who connects, at `rate` a second (0: as fast as they are taken)."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    made = templates(count)

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
            await _paced(made, rate, lambda frame: transport.send(WSMsgType.TEXT, frame), self.room)

    async def run() -> None:
        server = await ws_create_server(lambda request: Sender(), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _paced(
    made: Sequence[tuple[bytes, bytes]], rate: int, send: Callable[[bytes], None], room: asyncio.Event
) -> None:
    """Send the frames, each with the time of now in it, and the end."""
    loop = asyncio.get_running_loop()
    begun, step = loop.time(), max(1, rate // _BEATS) if rate else 100
    for at in range(0, len(made), step):
        if rate and (pause := begun + at / rate - loop.time()) > 0:
            await asyncio.sleep(pause)
        await room.wait()
        now = b"%d" % (time.time_ns() // 1_000_000)
        for head, tail in made[at : at + step]:
            send(head + now + tail.replace(b"%d", now) if tail else head)
    send(END)


async def _read(
    url: str, read: Callable[[bytes], object], room: Callable[[Any], None] = lambda transport: None
) -> None:
    from picows import WSFrame, WSListener, WSTransport, ws_connect

    class Reader(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            payload = frame.get_payload_as_bytes()
            if payload == END:
                transport.disconnect()
            else:
                read(payload)

    transport, _ = await ws_connect(Reader, url)
    room(transport)
    await transport.wait_disconnected()


@dataclass
class Told:
    """What one run came to; lags are from a frame's sending to its commit, in seconds."""

    events: int
    seconds: float
    cpu_seconds: float
    lags: list[float] = field(default_factory=list)


def ours(url: str, dsn: str, count: int) -> Told:
    """Frames → records → sequences → buffer → store; reading stops while the buffer is full, as in the sidecar."""
    frames, buffer = Frames(Market.SPOT), Buffer(_MOST_BUFFERED)
    lags: list[float] = []
    transports: list[Any] = []
    with open_store("postgresql+psycopg://" + dsn.partition("://")[2], schema="ours") as store:
        store.migrate()
        loop = asyncio.new_event_loop()

        def committed(items: Sequence[Item]) -> None:
            at_us = time.time_ns() // 1_000
            lags.extend(
                (at_us - item.event_us) / 1e6
                for item in items
                if isinstance(item, Record) and item.event_us is not None
            )

        def go_on() -> None:
            if buffer.is_low and transports:
                loop.call_soon_threadsafe(transports[0].underlying_transport.resume_reading)

        flusher = Flusher(buffer, store, lambda: time.time_ns() // 1_000, go_on, "bench", committed)

        def put(items: Sequence[Item]) -> None:
            if not buffer.put(items):
                transports[0].underlying_transport.pause_reading()

        taking = Taking(put, lambda *asked: None)
        for dataset in ("agg_trades", "book_tickers"):
            for number in range(SYMBOLS):
                taking.begin(Series("spot", dataset, f"S{number}USDT"), [], time.time_ns() // 1_000)

        def read(frame: bytes) -> None:
            found = frames.read(frame, time.time_ns() // 1_000)
            taking.take(cast(Sequence[Record], found), 0.0)

        cpu, wall = time.process_time(), time.perf_counter()
        flusher.start()
        loop.run_until_complete(_read(url, read, transports.append))
        buffer.close()
        flusher.join()
        told = Told(count, time.perf_counter() - wall, time.process_time() - cpu, lags)
        loop.close()
        if flusher.error is not None:
            raise flusher.error
        assert flusher.counts.rows_inserted == count, (flusher.counts, frames.counts)
        _check(dsn, count)
    return told


def _check(dsn: str, count: int) -> None:
    """All rows are there, the ledger has counted them, and each series is one range."""
    with psycopg.connect(dsn) as db:
        db.execute("SET search_path = ours")
        for name in ("agg_trades", "book_tickers"):
            rows, series = db.execute(f"SELECT count(*), count(DISTINCT symbol) FROM {name}").fetchone() or (0, 0)  # type: ignore[arg-type]
            told = db.execute("SELECT sum(rows_inserted) FROM ingest_log WHERE dataset = %s", [name]).fetchone()
            ranges, of = db.execute(
                "SELECT count(*), count(DISTINCT symbol) FROM coverage WHERE dataset = %s AND state = 'complete'",
                [name],
            ).fetchone() or (0, 0)  # type: ignore[arg-type]
            assert told == (rows,), (name, told, rows)
            # The last seconds of events without ids are claimed with what comes behind them.
            assert ranges == of, (name, ranges, of)
            assert of == series or name == "book_tickers", (name, of, series)
            count -= rows
    assert count == 0, count


_TABLES = """DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA bare;
CREATE TABLE bare.agg_trades (symbol text, id bigint, price numeric, quantity numeric, first bigint, last bigint,
    time bigint, maker boolean, best boolean);
CREATE TABLE bare.book_tickers (symbol text, id bigint, bid numeric, bid_quantity numeric, ask numeric,
    ask_quantity numeric, received bigint)"""


def bare(url: str, dsn: str, count: int) -> Told:
    """Typed frames → text → COPY by a thread, 5,000 rows or what a quarter of a second brings."""
    import msgspec

    class Trade(msgspec.Struct):
        data: AggTradePayload

    class Ticker(msgspec.Struct):
        data: BookTickerPayload

    trade, ticker = (msgspec.json.Decoder(kind).decode for kind in (Trade, Ticker))
    waiting: list[Any] = []
    lags: list[float] = []
    ended = threading.Event()

    def read(frame: bytes) -> None:
        if b"@aggTrade" in frame[:40]:
            d = trade(frame).data
            waiting.append(("agg_trades", d.s, d.a, d.p, d.q, d.f, d.l, d.T, d.m, d.M))
        else:
            d = ticker(frame).data
            waiting.append(("book_tickers", d.s, d.u, d.b, d.B, d.a, d.A, time.time_ns() // 1_000))

    def write() -> None:
        with psycopg.connect(dsn) as db:
            while waiting or not ended.is_set():
                if len(waiting) < _COPY_ROWS and not ended.is_set():
                    time.sleep(0.25)
                rows = waiting[:_COPY_ROWS]
                del waiting[: len(rows)]
                for table in ("agg_trades", "book_tickers"):
                    text = "".join(["%s\n" % "\t".join(map(str, row[1:])) for row in rows if row[0] == table])  # noqa: UP031
                    with db.cursor() as cursor, cursor.copy(cast(Any, f"COPY bare.{table} FROM STDIN")) as copy:
                        copy.write(text)
                db.commit()
                now = time.time()
                lags.extend(now - row[7] / 1e3 for row in rows if row[0] == "agg_trades")

    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(_TABLES)
    writer = threading.Thread(target=write)
    cpu, wall = time.process_time(), time.perf_counter()
    writer.start()
    asyncio.run(_read(url, read))
    ended.set()
    writer.join()
    told = Told(count, time.perf_counter() - wall, time.process_time() - cpu, lags)
    with psycopg.connect(dsn) as db:
        stored = sum((db.execute(f"SELECT count(*) FROM bare.{t}").fetchone() or (0,))[0]  # type: ignore[arg-type]
                     for t in ("agg_trades", "book_tickers"))  # fmt: skip
    assert stored == count, stored
    return told


CLIENTS: dict[str, Callable[[str, str, int], Told]] = {OURS: ours, BARE: bare}


def _child(name: str, url: str, dsn: str, count: int, result: Pipe) -> None:
    result.send(CLIENTS[name](url, dsn, count))


def measure(dsn: str, count: int, rate: int, rounds: int) -> dict[str, list[Told]]:
    """Each client takes `count` frames at `rate` a second (0: all it can), in turn, so often."""
    context = multiprocessing.get_context("spawn")
    ready, tell = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(count, rate, tell), daemon=True)
    server.start()
    url = f"ws://127.0.0.1:{ready.recv()}/stream"
    told: dict[str, list[Told]] = {name: [] for name in CLIENTS}
    try:
        for _ in range(rounds):
            for name in CLIENTS:
                with psycopg.connect(dsn, autocommit=True) as db:
                    db.execute("DROP SCHEMA IF EXISTS ours CASCADE; DROP SCHEMA IF EXISTS bare CASCADE")
                    db.execute("CREATE SCHEMA ours; CHECKPOINT")
                result, tell = context.Pipe(duplex=False)
                child = context.Process(target=_child, args=(name, url, dsn, count, tell))
                child.start()
                tell.close()
                told[name].append(result.recv())
                child.join()
                last = told[name][-1]
                print(f"  {name}: {_line(last)}", flush=True)
    finally:
        server.terminate()
        server.join()
    return told


def _line(told: Told) -> str:
    p50, p99 = percentiles(told)
    return (
        f"{told.events / told.seconds:,.0f} events/s, CPU {_cpu(told):,.0f} ms per 10,000, "
        f"lag p50 {p50 * 1000:,.0f} ms, p99 {p99 * 1000:,.0f} ms"
    )


def _cpu(told: Told) -> float:
    """Milliseconds of processor time for ten thousand events."""
    return told.cpu_seconds / told.events * 1e7


def percentiles(told: Told) -> tuple[float, float]:
    """Median and 99th percentile of the lag, in seconds."""
    cuts = statistics.quantiles(told.lags, n=100)
    return cuts[49], cuts[98]


def figures(flood: dict[str, list[Told]], steady: dict[str, list[Told]]) -> list[tuple[str, str, str]]:
    """What is asked of streams, and what was measured."""
    rate = Spread.of(one.events / one.seconds for one in steady[OURS]).text("{:,.0f}")
    cpu = Spread.of(_cpu(o) / _cpu(b) for o, b in zip(steady[OURS], steady[BARE], strict=True))
    lags = [Spread.of(percentiles(one)[which] * 1000 for one in steady[OURS]).text("{:,.0f}") for which in (0, 1)]
    speeds = {name: Spread.of(one.events / one.seconds for one in flood[name]).text("{:,.0f}") for name in (OURS, BARE)}
    return [
        ("frames of 300 symbols → continuity checked → committed, ledger included, events/s", "≥ 50,000", speeds[OURS]),
        (f"the same by {BARE}, events/s", "", speeds[BARE]),
        (f"CPU of the client at {rate} events/s ÷ {BARE}", "≤ 1.5", cpu.text()),
        (
            "that CPU, ms per 10,000 events: ours; baseline",
            "",
            "; ".join(Spread.of(map(_cpu, steady[name])).text("{:,.0f}") for name in (OURS, BARE)),
        ),
        ("lag from the event to its commit at that rate, ms: p50; p99", "≤ 250; ≤ 1,000", "; ".join(lags)),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=400_000, help="events as fast as they are taken")
    parser.add_argument("--steady", type=int, default=75_000, help="events at the rate")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    with postgres.server() as dsn:
        flood = measure(dsn, options.flood, 0, options.rounds)
        steady = measure(dsn, options.steady, options.rate, options.rounds)
    for line in [("figure", "wanted", "measured"), ("---",) * 3, *figures(flood, steady)]:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
