"""`Incoming`: the rows of a batch where SQL can read them beside the table, a chunk at a time, in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

from airflow_provider_binance.ahead import OneAhead
from airflow_provider_binance.records import Image, Row, Rows

#: Names of databases in memory that are attached for one transaction.
_PREFIX = "incoming_"
_TUPLES = f"{_PREFIX}tuples"
#: Images of one transaction, each of which stays in its place until the end: newer versions of SQLite replace none that
#: the transaction has read. With the tuples' database these are fewer than the ten that may be attached by default.
_MOST_IMAGES = 8


class Chunk(NamedTuple):
    """So many rows in `table`; `values` says in SQL what the columns of the rows are there."""

    table: str
    values: tuple[str, ...]
    rows: int


class Incoming:
    """The rows of a batch, for as long as its transaction, which may have others before it."""

    def __init__(self, db: sqlite3.Connection, rows: Rows) -> None:
        self._db, self._rows = db, rows
        taken = _attached(db)
        places = [f"{_PREFIX}{number}" for number in range(_MOST_IMAGES)] if takes_images(db) else []
        self._places = [place for place in places if place not in taken]

    def chunks(self) -> Generator[Chunk]:
        """Chunk by chunk, each made while the one before it is being used."""
        with closing(OneAhead(self._rows.sqlite_chunks(images=len(self._places)))) as coming:
            for chunk in coming:
                yield self._take_image(chunk) if isinstance(chunk, Image) else self._take_tuples(chunk)

    def _take_image(self, image: Image) -> Chunk:
        place = self._places.pop()
        self._db.execute(f"ATTACH ':memory:' AS {place}")
        self._db.deserialize(image.data, name=place)
        return Chunk(f"{place}.rows", image.columns, image.rows)

    def _take_tuples(self, rows: list[Row]) -> Chunk:
        width = len(self._rows.columns)
        table, values = f"{_TUPLES}.rows_of_{width}", tuple(f"value_{number}" for number in range(width))
        if _TUPLES not in _attached(self._db):
            self._db.execute(f"ATTACH ':memory:' AS {_TUPLES}")
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(values)})")
        self._db.execute(f"DELETE FROM {table}")
        self._db.executemany(f"INSERT INTO {table} VALUES ({', '.join(['?'] * width)})", rows)
        return Chunk(table, values, len(rows))


def takes_images(db: sqlite3.Connection) -> bool:
    """Whether SQLite can read images beside this database: many builds before 3.36 cannot, and UTF-16 accepts no other
    encoding beside it."""
    return hasattr(db, "deserialize") and db.execute("PRAGMA encoding").fetchone() == ("UTF-8",)


def let_go(db: sqlite3.Connection) -> None:
    """Free what the last transaction took, before the next one begins."""
    for name in _attached(db):
        if name.startswith(_PREFIX):
            db.execute(f"DETACH {name}")


def _attached(db: sqlite3.Connection) -> list[str]:
    return [name for _, name, _ in db.execute("PRAGMA database_list")]
