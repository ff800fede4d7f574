"""TLS and proxies of streams: whom a connection trusts, how it gets out, and that no password shows."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import AuthenticationError, UnreachableError
from airflow_provider_binance.provider import BinanceDataProvider, Gap
from airflow_provider_binance.proxies import way_to
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream import keeping, ways
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.payloads import Value
from airflow_provider_binance.stream.subscriptions import plan
from tests.proxy import forward_proxy, tls_front
from tests.stream.local import Client, Local, local
from tests.stream.samples import agg_trade_frame

BTC = Series("um", "agg_trades", "BTCUSDT")
#: A name that nobody but the proxy can resolve.
HOST = "fstream.binance.invalid"
PASSWORD = "p@ss/w:rd %"
CREDENTIALS = f"user:{quote(PASSWORD, safe='')}"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"user:{PASSWORD}".encode()).decode())
SECONDS = 30


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.02)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.DEBUG)
    yield
    assert not [secret for secret in SECRETS if secret in caplog.text]


class Kept:
    """A keeper and what it brought."""

    def __init__(self, url: str, proxy: str | None) -> None:
        self.keys: list[Value] = []
        self.came = asyncio.Event()
        [carried] = plan([BTC])
        self.keeper = Keeper(
            carried, url, admit=lambda market: None, on_records=self.take, on_cut=lambda carried: None, proxy=proxy
        )

    def take(self, records: Sequence[Record]) -> None:
        self.keys += [record.values[0] for record in records]
        self.came.set()

    async def has(self, *keys: int) -> None:
        async with asyncio.timeout(SECONDS):
            while self.keys != [*keys]:
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def kept(url: str, proxy: str | None = None) -> AsyncIterator[Kept]:
    made = Kept(url, proxy)
    running = asyncio.create_task(made.keeper.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def send(client: Client, *ids: int) -> None:
    client.send(*(agg_trade_frame("BTCUSDT", id_, st=1) for id_ in ids))


def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + SECONDS
    while text not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def port_of(server: Local) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
async def test_a_server_is_trusted_by_who_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As the environment names it; the link is cut, paused and closed as one without TLS."""
    async with local() as server:
        with tls_front(port_of(server), tmp_path) as (port, certificate):
            monkeypatch.setenv(variable, str(certificate))
            async with kept(f"wss://127.0.0.1:{port}") as made:
                first = await server.until(1)
                send(first, 1, 2)
                await made.has(1, 2)
                made.keeper.pause(True)
                send(first, *range(3, 2000))
                await asyncio.sleep(0.1)
                assert len(made.keys) < 1999
                made.keeper.pause(False)
                await made.has(*range(1, 2000))
                first.transport.disconnect(graceful=False)
                send(await server.until(2), 2000)
                await made.has(*range(1, 2001))
            await server.until(2, open_=0)


async def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with local() as server:
        with tls_front(port_of(server), tmp_path) as (port, _):
            async with kept(f"wss://127.0.0.1:{port}"):
                await asyncio.to_thread(until_logged, caplog, "nobody we trust vouches")
                assert server.clients == []


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("credentials", ["", CREDENTIALS])
async def test_connections_go_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, credentials: str
) -> None:
    """Which alone knows the way and sees host names only; each connection asks it anew."""
    async with local() as server:
        with tls_front(port_of(server), tmp_path, HOST) as (port, certificate):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
            there = port if scheme == "wss" else port_of(server)
            with forward_proxy({HOST: there}, credentials) as proxy:
                async with kept(f"{scheme}://{HOST}", proxy.url) as made:
                    client = await server.until(1)
                    send(client, 1)
                    await made.has(1)
                    client.transport.disconnect(graceful=False)
                    send(await server.until(2), 2)
                    await made.has(1, 2)

                assert proxy.seen == [("CONNECT", f"{HOST}:{443 if scheme == 'wss' else 80}", True)] * 2
                assert server.clients[0].path == "/market/stream?streams=btcusdt@aggTrade"


async def test_wrong_credentials_are_told_and_not_tried_again() -> None:
    with forward_proxy({HOST: 9}, CREDENTIALS) as proxy:
        made = Kept(f"ws://{HOST}", proxy.url.replace("user:", "other:"))
        with pytest.raises(AuthenticationError, match="wants other credentials") as caught:
            await made.keeper.run()

    assert len(proxy.seen) == 1
    assert f"the proxy http://other:***@127.0.0.1:{proxy.port} wants" in str(caught.value)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


async def test_a_proxy_that_cannot_reach_the_server_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with local() as server:
        hosts: dict[str, int] = {}
        with forward_proxy(hosts, CREDENTIALS) as proxy:
            async with kept(f"ws://{HOST}", proxy.url) as made:
                await asyncio.to_thread(until_logged, caplog, "does not let us through")
                hosts[HOST] = port_of(server)
                send(await server.until(1), 1)
                await made.has(1)

        assert UnreachableError.__name__ in caplog.text
        assert "***@" in caplog.text


@pytest.mark.parametrize(
    ("url", "proxies", "environ", "found"),
    [
        ("wss://h.example", {"https": "http://a:1", "http": "http://b:1"}, {}, "http://a:1"),
        ("ws://h.example", {"https": "http://a:1", "http": "http://b:1"}, {}, "http://b:1"),
        ("wss://h.example", {"all": "http://a:1"}, {}, "http://a:1"),
        ("wss://h.example", {"https://h.example": "http://c:1", "https": "http://a:1"}, {}, "http://c:1"),
        ("wss://h.example", {}, {"HTTPS_PROXY": "e:1"}, "http://e:1"),
        ("wss://h.example", {}, {"HTTPS_PROXY": "http://e:1", "NO_PROXY": "h.example"}, None),
        ("ws://127.0.0.1:9", {}, {}, None),
    ],
)
def test_the_proxy_is_that_of_rest(
    monkeypatch: pytest.MonkeyPatch, url: str, proxies: dict[str, str], environ: dict[str, str], found: str | None
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert way_to(url, proxies) == found


def test_socks_proxies_are_spelled_for_the_websocket_library() -> None:
    urls = ["socks5h://u:p@h:1", "socks4a://h:1", "socks5://h:1", "http://socks5h:1"]
    assert [ways.spoken(url) for url in urls] == [
        "socks5://u:p@h:1",
        "socks4://h:1",
        "socks5://h:1",
        "http://socks5h:1",
    ]


async def test_real_time_data_goes_through_tls_and_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REST and streams, over a cut, by one setting."""
    names = {"spot_rest_url": "api.binance.invalid", "spot_stream_url": "stream.binance.invalid"}
    with Simulator(
        seed=7, symbols=["BTCUSDT"], now="2024-06-15T12:30:20Z", speed=60, faults=["stream-cut=30:1"]
    ) as simulator:
        plain = int(simulator.settings["BINANCE_SPOT_REST_URL"].rpartition(":")[2])
        with tls_front(plain, tmp_path, *names.values()) as (port, certificate):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
            with forward_proxy(dict.fromkeys(names.values(), port), CREDENTIALS) as proxy:
                config = BinanceConfig(
                    spot_rest_url=f"https://{names['spot_rest_url']}",
                    spot_stream_url=f"wss://{names['spot_stream_url']}/spot", environment="simulator",
                    rate_limit_store="memory://", proxies={"all": proxy.url},
                )  # fmt: skip
                ids = []
                async with aclosing(BinanceDataProvider(config=config).get_real_time_data(["BTCUSDT"])) as records:
                    async for record in records:
                        assert not isinstance(record, Gap)
                        ids.append(record.trade_id)  # type: ignore[union-attr]
                        if len(ids) > 100 and len(simulator.connections) > 1:
                            break

                assert ids == list(range(ids[0], ids[-1] + 1))
                assert all(is_known for _, _, is_known in proxy.seen)
                targets = [target for _, target, _ in proxy.seen]
                assert targets.count("stream.binance.invalid:443") == len(simulator.connections) == 2
                assert "api.binance.invalid:443" in targets
