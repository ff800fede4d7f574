"""Items as bytes and back: what a batch of the spool has in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_binance.errors import LocalStorageError
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.frames import Record

#: Goes up when older batches can no longer be read.
_VERSION = 1
_RECORD, _LOST = 0, 1


class _Batch(msgspec.Struct, array_like=True):
    """`items` have their kind, the place of their series in `series`, and the rest of what they are."""

    version: int
    series: list[Series]
    items: list[tuple[Any, ...]]


_decode = msgspec.msgpack.Decoder(_Batch).decode


def packed(items: Sequence[Item]) -> bytes:
    """The items as bytes."""
    places: dict[Series, int] = {}
    rows: list[tuple[Any, ...]] = [
        (_RECORD if isinstance(item, Record) else _LOST, places.setdefault(item.series, len(places)), *item[1:])
        for item in items
    ]
    return msgspec.msgpack.encode(_Batch(_VERSION, list(places), rows))


def unpacked(batch: bytes) -> list[Item]:
    """The items that `packed` made bytes of.

    Raises:
        LocalStorageError: they are of a later version of this package.
    """
    found = _decode(batch)
    if found.version != _VERSION:
        raise LocalStorageError(
            f"the spool has batches of version {found.version}, this package knows {_VERSION}: drain it with the one "
            "that wrote it"
        )
    return [_item(found.series[place], kind, rest) for kind, place, *rest in found.items]


def _item(series: Series, kind: int, rest: list[Any]) -> Item:
    if kind == _LOST:
        return Lost(series, *rest)
    event_us, received_us, values = rest
    return Record(series, event_us, received_us, tuple(values))
