"""Clients that nobody here wrote listen to the simulator's streams, unmodified but for the addresses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.server import Simulator
from tests.simulator.clients.environment import client_python
from tests.simulator.clients.tls import make_certificate, tls_front

DRIVER = Path(__file__).with_name("driver_streams.py")
NOW = "2026-11-20T12:00:00Z"
SYMBOL = {"spot": "btcusdt", "um": "btcusdt", "cm": "btcusd_perp"}

pytestmark = pytest.mark.timeout(900)  # the first run installs the clients


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A busy market in fast time, with all limits."""
    symbols = ["BTCUSDT", "cm:BTCUSD_PERP"]
    speed = getattr(request, "param", 20)
    with Simulator(seed=1, symbols=symbols, trades_per_minute=300, now=NOW, speed=speed) as simulator:
        yield simulator


def heard(simulator: Simulator, client: str, hosts: list[str], **variables: str) -> dict[str, dict[str, list[Any]]]:
    """What the driver printed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        [str(client_python()), str(DRIVER), client, *hosts, simulator.settings["BINANCE_SPOT_REST_URL"]],
        capture_output=True,
        text=True,
        timeout=200,
        env=clean | variables,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, dict[str, list[Any]]] = json.loads(done.stdout)
    return answer


def hosts(simulator: Simulator) -> list[str]:
    return [simulator.settings[f"BINANCE_{market}_STREAM_URL"] for market in ("SPOT", "UM", "CM")]


def story(simulator: Simulator, market: str, stream: str, events: list[dict[str, Any]] | None = None) -> list[Any]:
    """What the stream said around these events; without any, or where they have no time, since the beginning."""
    window = (events[0]["E"], events[-1]["E"] + 1) if events and "E" in events[0] else (NOW, simulator.now_ms() + 1)
    return simulator.streamed(market.partition("/")[0].partition(" ")[0], stream, *window)


def are_among(some: list[Any], all_of_them: list[Any], *, in_a_row: bool) -> bool:
    """Whether some were told, and ``in_a_row``: without leaving out any."""
    if not in_a_row:
        return all(each in all_of_them for each in some)
    return any(all_of_them[at : at + len(some)] == some for at in range(len(all_of_them)) if all_of_them[at] == some[0])


def bare(value: Any) -> Any:
    """A payload without what the SDKs' models add."""
    if isinstance(value, dict):
        return {name: bare(each) for name, each in value.items() if name != "additional_properties"}
    return [bare(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("client", "streams"), [("python-binance", 15), ("official", 13)])
def test_every_event_as_it_was_sent(simulator: Simulator, client: str, streams: int) -> None:
    """From the first one heard to the last: none missing, none twice, none changed."""
    answer = heard(simulator, client, hosts(simulator))
    assert sum(map(len, answer.values())) == streams
    for market, kinds in answer.items():
        for stream, events in kinds.items():
            received = [bare(event) for event in events]
            told = story(simulator, market, stream, received)
            assert len(received) >= 25
            first = told.index(received[0])
            assert received == told[first : first + len(received)], (market, stream)


# In faster time its book falls behind, and its pongs with it.
@pytest.mark.parametrize("simulator", [5], indirect=True)
def test_cryptofeed(simulator: Simulator, tmp_path: Path) -> None:
    """Trades, tickers and closed candles as they were sent, and its own book where ours was at that moment."""
    certificate = make_certificate(tmp_path)
    port = int(simulator.settings["BINANCE_SPOT_REST_URL"].rpartition(":")[2])
    with tls_front(certificate, port) as tls_port:
        # It takes no address without TLS.
        secure = [f"wss://127.0.0.1:{tls_port}/{market}" for market in SYMBOL]
        answer = heard(simulator, "cryptofeed", secure, SSL_CERT_FILE=str(certificate))
    # Starved of its processor it misses a pong, and connects once more.
    undisturbed = len(simulator.connections) == 4
    for market, symbol in SYMBOL.items():
        kinds = answer[market] | (answer["um/public"] if market == "um" else {})
        told = [
            [event["a"], Decimal(event["p"]), Decimal(event["q"]), "sell" if event["m"] else "buy"]
            for event in story(simulator, market, f"{symbol}@aggTrade")
        ]
        received = [[number, Decimal(price), Decimal(size), side] for number, price, size, side in kinds["trades"]]
        assert are_among(received, told, in_a_row=undisturbed)
        tickers = [
            [Decimal(event[side]) for side in "ba"] for event in story(simulator, market, f"{symbol}@bookTicker")
        ]
        shown = [[Decimal(each) for each in ticker] for ticker in kinds["tickers"]]
        assert are_among(shown, tickers, in_a_row=undisturbed)

        rows = {
            row[0]: [Decimal(row[slot]) for slot in (1, 2, 3, 4, 5)]
            for row in simulator.truth(market, symbol.upper(), "1m", to_ms(NOW) - 60_000, simulator.now_ms())
        }
        assert kinds["candles"]
        for open_ms, *values, _ in kinds["candles"]:
            assert rows[open_ms] == list(map(Decimal, values))

        books = {
            event["u"]: [[Decimal(text) for text in event[side][0]] for side in "ba"]
            for event in story(simulator, market, f"{symbol}@depth5@100ms")
            if "u" in event
        }
        known = [(number, [[Decimal(text) for text in level] for level in best]) for number, *best in kinds["books"]]
        # It knows a thousand levels; those beyond are learned only when they change.
        tick = Decimal(1).scaleb(-simulator.server.exchange.instruments[market, symbol.upper()].price_decimals)
        near = [
            (books[number], best)
            for number, best in known
            if number in books
            and all(abs(books[number][side][0] - known[0][1][side][0]) < 900 * tick for side in (0, 1))
        ]
        assert all(mine == theirs for mine, theirs in near)
        # The partial books of spot have no number that theirs could be found by.
        assert len(near) >= 25 or market == "spot"
