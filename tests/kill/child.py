"""A load in a process of its own, which can be killed, starved of disk, and watched. Run as a program.

    python -m tests.kill.child '{"config": {…}, "load": {…}, "kill": ["before_commit", 2], "marker": "…", …}'

Told with `kill`, it sends itself SIGKILL the n-th time it comes to a point; the marker file is written before. In the
file `places` it keeps the name of what it is doing, for whoever kills it from outside. `file_size` limits its files.
`begin_at` makes several of them begin at once; `work` is `load`, `repair` or `verify`. What a failed one says goes to
stderr, its exit status is the command line's.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from airflow_provider_binance import ingest, kline_rows, tick_rows
from airflow_provider_binance.archive import files
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.store import holding
from airflow_provider_binance.store.sql import SqlStore
from airflow_provider_binance.tick_rows import TickRows

#: What a load may be doing when it is killed, by the byte that stands for it.
PLACES = ("elsewhere", "migration", "download", "copy", "ledger", "commit")


class Watched:
    """Counts how often `point` is reached, and tells where the load is."""

    def __init__(self, point: str = "", times: int = 0, marker: str = "", places: str = "") -> None:
        self.point, self.left, self.marker = point, times, Path(marker)
        self._map: Any = bytearray(2)
        if places:
            with Path(places).open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 2)

    def reached(self, point: str) -> None:
        """Be killed here, if it is the point and the time."""
        if point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            self.marker.write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Be there for a while; downloads run beside whatever else is done."""
        slot, value = (1, 1) if place == "download" else (0, PLACES.index(place))
        before, self._map[slot] = self._map[slot], value
        try:
            yield
        finally:
            self._map[slot] = before


def place_of(noted: bytes) -> str:
    """Where a process was that left these two bytes."""
    return PLACES[noted[0]] if noted[0] or not noted[1] else "download"


def make_small(held_rows: int) -> None:
    """Several blocks a download, parts a file, and chunks a part, so that there is a middle to be killed in. A
    transaction holds `held_rows`: with one, each part commits, however fast the next one is read."""
    files._BLOCK = 16 * 1024
    files.PART_BYTES = 150_000
    kline_rows._CHUNK_ROWS = tick_rows._CHUNK_ROWS = 200
    holding.HELD_ROWS = held_rows


def arm(watched: Watched, store_class: type[SqlStore]) -> None:
    """Put the watch at every point and place."""
    original_take = files._Download.take

    def take(self: Any, answer: Any) -> None:
        blocks = answer.iter_content

        def counted(size: int) -> Iterator[bytes]:
            for number, block in enumerate(blocks(size)):
                if number == 1:
                    watched.reached("download")
                yield block

        answer.iter_content = counted
        with watched.at("download"):
            original_take(self, answer)

    files._Download.take = take  # type: ignore[method-assign]
    for rows in (KlineRows, TickRows):
        for form in ("copy_chunks", "sqlite_chunks"):
            setattr(rows, form, _killed_midway(watched, getattr(rows, form), 2))
    _watch(watched, store_class, "_write_rows", "copy")
    _watch(watched, store_class, "_write_line", "ledger", "rows_without_line")
    _watch(watched, store_class, "_write_coverage", "ledger")
    _watch(watched, store_class, "_apply", "migration")
    _watch(watched, store_class, "_define", "migration", "migration")
    commit, write_line = store_class._commit, store_class._write_line
    in_batch = [False]

    def noted(self: Any, *arguments: Any) -> Any:
        in_batch[0] = True  # schema and environment are committed, too: those are not counted
        return write_line(self, *arguments)

    def committed(self: Any) -> None:
        is_batch, in_batch[0] = in_batch[0], False
        with watched.at("commit"):
            if is_batch:
                watched.reached("before_commit")
            commit(self)
            if is_batch:
                watched.reached("after_commit")

    store_class._write_line = noted  # type: ignore[method-assign, assignment]
    store_class._commit = committed  # type: ignore[method-assign]


def _killed_midway(watched: Watched, form: Any, middle: int) -> Any:
    @wraps(form)
    def wrapped(self: KlineRows | TickRows, *arguments: Any, **named: Any) -> Iterator[Any]:
        for number, item in enumerate(form(self, *arguments, **named)):
            if number == middle:
                watched.reached("mid_rows")
            yield item

    return wrapped


def _watch(watched: Watched, owner: type, name: str, place: str, point: str = "") -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(self: Any, *arguments: Any) -> Any:
        with watched.at(place):
            if point:
                watched.reached(point)
            return original(self, *arguments)

    setattr(owner, name, wrapped)


def main(text: str) -> int:
    """Run the load that `text` describes; its exit status."""
    order = json.loads(text)
    make_small(order.get("held_rows", 1_500))
    if order["config"]["store_url"].startswith("sqlite"):
        from airflow_provider_binance.store.sqlite import SqliteStore as StoreClass
    else:
        from airflow_provider_binance.store.postgres import (  # type: ignore[assignment]
            PostgresStore as StoreClass,
        )
    point, times = order.get("kill") or ("", 0)
    arm(Watched(point, times, order.get("marker", ""), order.get("places", "")), StoreClass)
    if limit := order.get("file_size"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    time.sleep(max(0.0, order.get("begin_at", 0) - time.time()))
    try:
        work = {"load": ingest.load, "repair": ingest.repair, "verify": ingest.verify}[order.get("work", "load")]
        report = work(**order["load"], config=BinanceConfig(**order["config"]))
        print(*getattr(report, "unexplained", ()), file=sys.stderr)
        return report.exit_status
    except IngestError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
