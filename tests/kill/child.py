"""A load that kills itself with SIGKILL at a named point, the n-th time it comes there. Run as a program.

    python -m tests.kill.child '{"point": "before_commit", "times": 2, "marker": "…", "config": {…}, "load": {…}}'

`point` "" runs to the end. The marker file is written, and only then the signal sent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from airflow_provider_binance import ingest, kline_rows
from airflow_provider_binance.archive import files
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.kline_rows import KlineRows
from airflow_provider_binance.store.sql import SqlStore


class Killer:
    """Counts how often `point` is reached."""

    def __init__(self, point: str, times: int, marker: str) -> None:
        self.point, self.left, self.marker = point, times, Path(marker)

    def reached(self, point: str) -> None:
        """Be killed here, if it is the point and the time."""
        if point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            self.marker.write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)


def make_small() -> None:
    """Several blocks a download, parts a file, and chunks a part, so that there is a middle to be killed in."""
    files._BLOCK = 16 * 1024
    files.PART_BYTES = 150_000
    kline_rows._CHUNK_ROWS = 200


def arm(killer: Killer, store_class: type[SqlStore]) -> None:
    """Put the killer at every point."""
    original_take = files._Download.take

    def take(self: Any, answer: Any) -> None:
        blocks = answer.iter_content

        def counted(size: int) -> Iterator[bytes]:
            for number, block in enumerate(blocks(size)):
                if number == 1:
                    killer.reached("download")
                yield block

        answer.iter_content = counted
        original_take(self, answer)

    files._Download.take = take  # type: ignore[method-assign]
    for form in ("copy_chunks", "tuples"):
        setattr(KlineRows, form, _killed_midway(killer, getattr(KlineRows, form), 2 if form == "copy_chunks" else 300))
    _before(killer, store_class, "_write_line", "rows_without_line")
    commit, write_line = store_class._commit, store_class._write_line
    in_batch = [False]

    def noted(self: Any, *arguments: Any) -> Any:
        in_batch[0] = True  # schema and environment are committed, too: those are not counted
        return write_line(self, *arguments)

    def committed(self: Any) -> None:
        is_batch, in_batch[0] = in_batch[0], False
        if is_batch:
            killer.reached("before_commit")
        commit(self)
        if is_batch:
            killer.reached("after_commit")

    store_class._write_line = noted  # type: ignore[method-assign, assignment]
    store_class._commit = committed  # type: ignore[method-assign]


def _killed_midway(killer: Killer, form: Any, middle: int) -> Any:
    @wraps(form)
    def wrapped(self: KlineRows, *arguments: Any) -> Iterator[Any]:
        for number, item in enumerate(form(self, *arguments)):
            if number == middle:
                killer.reached("mid_rows")
            yield item

    return wrapped


def _before(killer: Killer, owner: type, name: str, point: str) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(self: Any, *arguments: Any) -> Any:
        killer.reached(point)
        return original(self, *arguments)

    setattr(owner, name, wrapped)


def main(text: str) -> int:
    """Run the load that `text` describes; its exit status."""
    order = json.loads(text)
    make_small()
    if order["config"]["store_url"].startswith("sqlite"):
        from airflow_provider_binance.store.sqlite import SqliteStore as StoreClass
    else:
        from airflow_provider_binance.store.postgres import (  # type: ignore[assignment]
            PostgresStore as StoreClass,
        )
    arm(Killer(order["point"], order["times"], order["marker"]), StoreClass)
    return ingest.load(**order["load"], config=BinanceConfig(**order["config"])).exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
