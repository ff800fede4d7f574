"""The proof, in real minutes: eight processes, wrong clocks, slow answers and a stranger use up both pools.

Over three full minutes in a row at least 95 % of each limit is used, by all together and as the simulator counts it,
and nobody is refused. Part of `make soak`, about four minutes a test; the figures are printed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_binance.simulator.limits import WEIGHT_LIMIT
from tests.budget.fleet import KLINES, Fleet, Venue, go, ready, result, simulator, windows_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(580)]

MINUTES = 3
LEAST = 0.95


class Host:
    """Where four of the processes run: files of its own, and perhaps a network of its own."""

    def __init__(self, home: Path, settings: Mapping[str, str], within: Sequence[str] = ()) -> None:
        self.home = home
        self.settings = settings
        self.within = within


def prove(venue: Venue, hosts: Sequence[Host]) -> None:
    """Load with four processes on each host, clocks 3 s before and behind, and judge what the simulator counted."""
    seconds = 60 * MINUTES + 40
    with Fleet(venue.settings) as fleet:
        processes = [
            fleet.start(
                host.home, settings=host.settings, within=host.within, skew=3 * (-1) ** i, seconds=seconds,
                threads={"spot": 4, "um": 2, "cm": 2},
            )
            for host in hosts
            for i in range(8 // len(hosts))
        ]  # fmt: skip
        ready(*processes)
        venue.set_clock("2026-11-20T12:00:40Z")
        for market, per_minute in (("spot", 600), ("um", 480)):
            fleet.foreigner(venue.url, KLINES[market], per_minute, seconds)
        time.sleep(3)  # they begin
        go(venue.now_ms(), *processes)
        reports = [result(process) for process in processes]
    told(venue, reports)


def told(venue: Venue, reports: Sequence[Mapping[str, Any]]) -> None:
    """Print the figures and assert what they must be."""
    records = venue.records()
    refused = sum(record["status"] in (418, 429) for record in records)
    shares = [sum(report["sent"].values()) for report in reports]
    print(f"\nrefused (429, 418): {refused}; requests by process: {shares}")
    print(f"steps of the store by process: {[report['steps'] for report in reports]}")
    print(f"ms of a step, median and 99 %, by process: {[report['step_ms'] for report in reports]}")
    used = {}
    for pool, windows in windows_of(records).items():
        full = windows[1 : 1 + MINUTES]
        assert [each.minute - full[0].minute for each in full] == list(range(MINUTES))
        used[pool] = [each.used / WEIGHT_LIMIT[pool] for each in full]
        print(
            f"{pool}: " + ", ".join(f"{each.used} ({share:.1%})" for each, share in zip(full, used[pool], strict=True))
        )
    assert refused == 0
    assert {record["status"] for record in records} == {200}
    assert [report["errors"] for report in reports] == [[]] * len(reports)
    assert min(min(shares) for shares in used.values()) >= LEAST
    assert min(shares) >= 0.5 * sum(shares) / len(shares), "a fair share of each process"
    for report in reports:
        assert report["steps"] <= 2.2 * sum(report["sent"].values()) + 2 * 14 * (MINUTES + 2)


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Venue]:
    with simulator(tmp_path, "--fault", "latency=200") as running:
        yield running


def test_one_host_with_a_file(venue: Venue, tmp_path: Path) -> None:
    prove(venue, [Host(tmp_path / "host", {"BINANCE_STORE_URL": f"sqlite:///{tmp_path}/ingest.db"})])


@pytest.mark.postgres
def test_two_hosts_with_the_postgresql_of_their_store(venue: Venue, tmp_path: Path, postgres_database: str) -> None:
    settings = {"BINANCE_STORE_URL": postgres_database}
    prove(venue, [Host(tmp_path / name, settings) for name in ("one", "two")])


def test_two_hosts_with_a_valkey(venue: Venue, tmp_path: Path, redis_url: str) -> None:
    settings = {"BINANCE_RATE_LIMIT_STORE": redis_url}
    prove(venue, [Host(tmp_path / name, settings) for name in ("one", "two")])


# --- Two networks behind one address ----------------------------------------------------------------------------------


@contextmanager
def forwarder(address: str, ports: Sequence[int]) -> Iterator[None]:
    """Carries connections to `address` on to the same ports of this host's loopback, as one address."""
    started, stop = threading.Event(), asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        for port in ports:

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
                there, back = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(carry(reader, back), carry(there, writer))

            servers.append(await asyncio.start_server(accept, address, port))
        started.set()
        await stop.wait()
        for server in servers:
            server.close()

    loops: list[asyncio.AbstractEventLoop] = []
    servers: list[asyncio.Server] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def network(number: int, ports: Sequence[int]) -> Iterator[tuple[str, str]]:
    """A network namespace that reaches nothing but `ports` of this host; its name, and this host's address there."""
    name, outside, inside = f"bn{os.getpid()}x{number}", f"bo{os.getpid()}x{number}", f"bi{os.getpid()}x{number}"
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    with ExitStack() as undo:
        ip("netns", "add", name)
        undo.callback(ip, "netns", "delete", name)
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        ip("address", "add", f"{here}/30", "dev", outside)
        ip("link", "set", outside, "up")
        ip("-n", name, "address", "add", f"{there}/30", "dev", inside)
        ip("-n", name, "link", "set", inside, "up")
        undo.enter_context(forwarder(here, ports))
        yield name, here


def can_make_networks() -> bool:
    name = f"bn{os.getpid()}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        ip("netns", "delete", name)
    return made


@pytest.mark.skipif(not can_make_networks(), reason="network namespaces need root and iproute2")
def test_two_networks_behind_one_address(venue: Venue, tmp_path: Path, postgres_database: str) -> None:
    """Neither reaches the other, nor its files: all that they share is the server, and the address they come from."""
    server = urlsplit(postgres_database)
    ports = [venue.port, int(server.port or 5432)]
    with ExitStack() as networks:
        hosts = []
        for number in (1, 2):
            name, here = networks.enter_context(network(number, ports))
            settings = {key: value.replace("127.0.0.1", here) for key, value in venue.settings.items()}
            settings["BINANCE_STORE_URL"] = postgres_database.replace("127.0.0.1", here)
            # Not loopback any more, so it must be said; and both leave by the same address.
            settings |= {"BINANCE_ENVIRONMENT": "simulator", "BINANCE_EGRESS_ID": "shared"}
            hosts.append(Host(tmp_path / name, settings, ("ip", "netns", "exec", name)))
        prove(venue, hosts)
