"""The database goes away in mid-transaction, or has no room: a clear error, nothing lost, and the next load goes on.

SOAK_SEED repeats the choices of a soak.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests.fix_postgres import Server, driver_url
from tests.kill.conftest import MakeScene
from tests.kill.proxy import Proxy
from tests.kill.scene import SEED, Child, Scene, assert_at_one, has_tables
from tests.realdata.stored import select

#: The exit status of a store error.
STORE = 5
#: About as many bytes go to PostgreSQL in a load.
LOAD_BYTES = 700_000

FEW_AND_MANY = [pytest.param(1, id="one"), pytest.param(25, id="many", marks=pytest.mark.soak)]


def soaked(*values: int) -> Iterator[Any]:
    """More values, for the soak."""
    return (pytest.param(value, marks=pytest.mark.soak) for value in values)


def wait_for(child: Child, *places: str) -> None:
    """Wait until the load is there, or has ended."""
    while child.process.poll() is None and child.place() not in places:
        time.sleep(0.001)


def strike(scene: Scene, blow: Callable[[], object], chance: random.Random) -> bool:
    """A load that is struck where it works in the database; whether it felt that."""
    child = scene.start()
    for _ in range(chance.randint(1, 4)):
        wait_for(child, "copy", "ledger", "commit", "migration")
        time.sleep(chance.uniform(0, 0.03))
    blow()
    status, said = child.ended(STORE)
    assert status in (0, STORE), said
    if status:
        assert "StoreUnavailableError: the store" in said
        assert "is not available now" in said
    return bool(status)


def go_on(scene: Scene) -> None:
    """What is there is consistent."""
    scene.settle()
    scene.assert_tidy()
    if has_tables(scene.url):
        assert_at_one(scene.url)


def until(scene: Scene, times: int, blow: Callable[[], object], after: Callable[[], object] = lambda: None) -> None:
    """Strike until it was felt so many times; whenever a load gets through, begin with an empty store."""
    chance = random.Random(SEED)
    felt = tries = 0
    while felt < times:
        tries += 1
        assert tries < 10 * times, f"{felt} of {tries} blows were felt"
        is_felt = strike(scene, blow, chance)
        felt += is_felt
        after()
        go_on(scene)
        if not is_felt:
            scene.assert_whole()
            scene.empty()
    assert scene.run() == 0
    scene.assert_whole()


# --- the connection goes --------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_sessions_are_terminated(make_scene: MakeScene, postgres_database: str, times: int) -> None:
    """By an administrator, while the load copies, writes the ledger or commits."""
    scene = make_scene(postgres_database)
    others = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    until(scene, times, lambda: select(scene.url, others))


@pytest.fixture
def proxied(make_scene: MakeScene, postgres_database: str) -> Iterator[tuple[Scene, Scene, Proxy]]:
    """The scene as it is, the scene through a proxy, and the proxy."""
    direct = make_scene(postgres_database)
    url = make_url(postgres_database)
    with Proxy(int(url.port or 5432)) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        yield direct, replace(direct, url=through), proxy


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_connections_are_reset(proxied: tuple[Scene, Scene, Proxy], times: int) -> None:
    """After any number of bytes: in a COPY, in a statement, in the tables' making."""
    direct, through, proxy = proxied
    chance = random.Random(SEED)
    resets = 0
    while resets < times:
        proxy.arm(cut_after=chance.randint(1_000, LOAD_BYTES))
        status, said = through.start().ended(STORE)
        assert bool(status) == bool(proxy.resets), said
        resets += bool(status)
        assert not status or "StoreUnavailableError" in said
        go_on(direct)
        if not status:
            direct.assert_whole()
            direct.empty()
    proxy.arm()
    assert through.run() == 0
    direct.assert_whole()


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_the_answer_to_a_commit_is_lost(proxied: tuple[Scene, Scene, Proxy], times: int) -> None:
    """The load cannot know what came of it; what came of it is whole, and is not written a second time."""
    direct, through, proxy = proxied
    chance = random.Random(SEED)
    lost = 0
    while lost < times:
        proxy.arm(lost=chance.randint(1, 8))
        status, said = through.start().ended(STORE)
        go_on(direct)
        if proxy.resets:
            lost += 1
            assert status == STORE, said
        else:
            direct.assert_whole()
            direct.empty()
    proxy.arm()
    assert through.run() == 0
    direct.assert_whole()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, which may be stopped."""
    home = Path(tempfile.mkdtemp(prefix="binance-pg-", dir="/tmp"))
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, home, ignore_errors=True)
        server = Server(home)
        ending.callback(server.stop)
        server.start()
        yield server


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_the_server_restarts(make_scene: MakeScene, own_server: Server, times: int) -> None:
    """Without shutting down: it recovers what was committed, and all of that is there."""
    scene = make_scene(f"postgresql+psycopg://postgres@127.0.0.1:{own_server.port}/postgres")
    until(scene, times, own_server.stop, own_server.start)


# --- the disk is full -----------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of its own, in memory, that can be filled up."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def leave(self, size: int) -> None:
        """Fill it up to so many bytes."""
        self.make_room()
        os.sync()
        free = shutil.disk_usage(self.path).free
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - size))

    def make_room(self) -> None:
        """Free what was filled up."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A small disk at `path`, where this process may mount one."""
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("free", [600_000, *soaked(0, 30_000, 200_000, 900_000)])
def test_the_disk_of_a_sqlite_store_is_full(make_scene: MakeScene, tmp_path: Path, free: int) -> None:
    """As the tables are made, or in the middle of the rows; with room, the next load goes on from the ledger."""
    with small_disk(tmp_path / "disk", 16) as disk:
        scene = make_scene(f"sqlite:///{disk.path / 'ingest.db'}")
        disk.leave(free)
        status, said = scene.start().ended(STORE)
        assert status == STORE, said
        assert "StoreUnavailableError" in said
        assert f"bytes are free in {disk.path}: make room there" in said
        disk.make_room()  # even reading takes some
        go_on(scene)
        assert scene.run() == 0
        scene.assert_whole()


def test_a_sqlite_file_that_may_not_grow(make_scene: MakeScene, tmp_path: Path) -> None:
    """A quota, not a disk, is at its end."""
    scene = make_scene(f"sqlite:///{tmp_path / 'ingest.db'}")
    status, said = scene.start(file_size=500_000).ended(STORE)
    assert status == STORE, said
    assert "StoreUnavailableError: the store" in said
    go_on(scene)
    assert scene.run() == 0
    scene.assert_whole()


def test_the_disk_of_the_downloads_is_full(make_scene: MakeScene, tmp_path: Path) -> None:
    """The folder is named, with the way out."""
    scene = make_scene(f"sqlite:///{tmp_path / 'ingest.db'}")
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.leave(50_000)
        status, said = scene.start(environment={"TMPDIR": str(disk.path)}).ended(STORE)
        assert status == STORE, said
        assert "LocalStorageError: archive data/spot/monthly/klines/BTCUSDT" in said
        assert str(disk.path) in said
        assert "TMPDIR" in said
        go_on(scene)
        disk.make_room()
        assert scene.start(environment={"TMPDIR": str(disk.path)}).ended()[0] == 0
        assert list(disk.path.iterdir()) == []
        scene.assert_whole()


@pytest.mark.postgres
@pytest.mark.parametrize("free", [900_000, *soaked(0, 300_000, 600_000)])
def test_the_disk_of_a_postgresql_server_is_full(make_scene: MakeScene, free: int) -> None:
    """A server that cannot extend a table or its log refuses, or ends; with room it is there again, and all is."""
    home = Path(tempfile.mkdtemp(prefix="binance-pg-", dir="/tmp"))
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, home, ignore_errors=True)
        disk = ending.enter_context(small_disk(home, 160))
        server = Server(home, "--wal-segsize=1")
        ending.callback(server.stop)
        scene = make_scene(server.start())
        disk.leave(free)
        status, said = scene.start().ended(STORE)
        assert status == STORE, said
        assert "StoreUnavailableError" in said
        disk.make_room()
        if not is_up(server):
            server.start()
        go_on(scene)
        assert scene.run() == 0
        scene.assert_whole()


def is_up(server: Server) -> bool:
    """Whether the server takes connections, waiting for one that recovers."""
    import psycopg

    url = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    for _ in range(20):
        try:
            psycopg.connect(driver_url(url), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "refused" in str(error):
                return False
            time.sleep(0.5)
        else:
            return True
    return False
