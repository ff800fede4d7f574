"""A buffer with a spool behind it: in order, bounded, and nothing of what the disk has is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_provider_binance.errors import LocalStorageError
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream import spooling
from airflow_provider_binance.stream.batches import packed, unpacked
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.spool import Spool
from airflow_provider_binance.stream.spooling import SpooledBuffer, default_folder
from airflow_provider_binance.stream.subscriptions import Shard

BTC = Series("spot", "trades", "BTCUSDT")
ETH = Series("um", "klines", "ETHUSDT", "1m")
ROOM = 1 << 20


def records(first: int, end: int, series: Series = BTC) -> list[Item]:
    return [Record(series, number, number + 1, (number, "1.5", None)) for number in range(first, end)]


def ids(items: Sequence[Item]) -> list[int]:
    return [item.values[0] for item in items if isinstance(item, Record) and isinstance(item.values[0], int)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "BATCH_ITEMS", 10)
    monkeypatch.setattr(spooling, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(spooling, "AWAY_SECONDS", 0.05)


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def drained(folder: Path) -> list[Item]:
    """What the next start finds."""
    items: list[Item] = []
    with Spool(folder, max_bytes=ROOM) as spool:
        while (batch := spool.oldest()) is not None:
            items += unpacked(batch)
            spool.drop()
    return items


def test_items_come_back_from_bytes_as_they_were() -> None:
    items = [
        *records(1, 3),
        Lost(BTC, 5, 9),
        Record(ETH, None, 7, (2**62, None, "0.1")),
        Lost(ETH, 1, 2, "why not", is_for_good=True),
    ]
    assert unpacked(packed(items)) == items
    assert unpacked(packed([])) == []


def test_batches_of_a_later_version_are_refused() -> None:
    later = packed(records(1, 2)).replace(b"\x01", b"\x02", 1)
    with pytest.raises(LocalStorageError, match="version 2"):
        unpacked(later)


def test_while_the_store_answers_nothing_goes_to_the_disk(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        buffer = SpooledBuffer(100, spool)
        buffer.start()
        for first in range(0, 50, 10):
            buffer.put(records(first, first + 10))
            assert ids(buffer.take(10)) == list(range(first, first + 10))
            buffer.done()
        assert (len(spool), len(buffer)) == (0, 0)
        assert buffer.keep()


def test_a_store_that_is_away_has_all_of_it_spooled_and_drained_in_order(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        buffer = SpooledBuffer(1000, spool)
        buffer.start()
        buffer.put(records(0, 25))
        taken = list(ids(buffer.take(7)))
        until(lambda: len(spool) == 3)  # what was taken, and the rest in two
        buffer.put(records(25, 28))
        until(lambda: len(spool) == 4)
        buffer.done()  # the store came back, and took the first
        assert len(spool) == 3
        buffer.put(records(28, 30))
        while len(taken) < 30:
            taken += ids(buffer.take(10))
            buffer.done()
        assert taken == list(range(30))
        buffer.close()
        assert buffer.take(10) == []
        assert len(spool) == 0


def test_what_a_killed_one_had_spooled_is_taken_first(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        spool.append(packed(records(0, 3)))
        buffer = SpooledBuffer(100, spool)
        buffer.put(records(3, 5))
        assert buffer.has(99)
        assert ids(buffer.take(10)) == [0, 1, 2]
        # Killed before it was done: it comes again.
        assert ids(SpooledBuffer(100, spool).take(10)) == [0, 1, 2]
        buffer.done()
        assert ids(buffer.take(10)) == [3, 4]


def test_a_full_spool_fills_memory_until_reading_stops_and_room_is_told(tmp_path: Path) -> None:
    room = threading.Event()
    with Spool(tmp_path, max_bytes=2 * 4096) as spool:
        buffer = SpooledBuffer(40, spool)
        buffer.on_room = room.set
        buffer.start()
        assert buffer.put(records(0, 15))
        buffer.take(10)
        until(lambda: len(spool) == 2)
        assert room.is_set()
        assert buffer.put(records(15, 40))
        until(lambda: buffer.hindrance)
        assert "is full" in buffer.hindrance
        assert not buffer.put(records(40, 60))
        seen = list(range(10))
        buffer.done()
        while len(seen) < 60:
            seen += ids(buffer.take(10))
            buffer.done()
        assert seen == list(range(60))
        assert buffer.is_low


def test_what_nobody_takes_any_more_is_kept_for_the_next_start(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        buffer = SpooledBuffer(1000, spool)
        buffer.start()
        buffer.put([*records(0, 12), Lost(BTC, 1, 2)])
        buffer.take(4)
        buffer.close()
        assert buffer.keep()
        assert buffer.keep()  # nothing is kept twice
    found = drained(tmp_path)
    assert ids(found) == list(range(12))
    assert found[-1] == Lost(BTC, 1, 2)


def test_what_has_no_room_is_not_kept(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=4096) as spool:
        buffer = SpooledBuffer(1000, spool)
        buffer.start()
        buffer.put(records(0, 25))
        assert not buffer.keep()
    assert ids(drained(tmp_path)) == list(range(10))


def test_taking_and_spooling_at_once_keep_the_order(tmp_path: Path) -> None:
    """A store that is slow now and then, and a reader that goes on all the time."""
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        buffer = SpooledBuffer(60, spool)
        buffer.start()

        def read() -> None:
            for first in range(0, 3000, 3):
                if not buffer.put(records(first, first + 3)):
                    until(lambda: buffer.is_low)
            buffer.close()

        reader = threading.Thread(target=read)
        reader.start()
        seen: list[int] = []
        while items := buffer.take(7):
            seen += ids(items)
            if len(seen) % 11 == 0:
                time.sleep(0.005)
            buffer.done()
        reader.join()
        assert seen == list(range(3000))


def test_each_store_and_shard_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = {
        default_folder(url, shard) for url in ("sqlite:///a", "sqlite:///b") for shard in (Shard(1, 2), Shard(2, 2))
    }
    assert len(folders) == 4
    assert all(folder.is_relative_to(tmp_path / "airflow-provider-binance" / "spool") for folder in folders)
