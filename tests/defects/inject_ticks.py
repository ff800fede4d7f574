"""Damages stored aggregates and trades by plain SQL, past the ledger, and prints what it did. Imports nothing of the
package under test.

python tests/defects/inject_ticks.py sqlite:///ingest.db agg_trades --count 200 --seed 7

Each defect has rows of its own, by their place in the order of ids, and defects keep away from one another. Prints one
JSON document: the seed and, per defect, kind, series, first and last id, and `[start, end)` in microseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from inject import DAY, Database  # type: ignore[import-not-found]  # beside this script, which runs alone

KEYS = {"agg_trades": "agg_trade_id", "trades": "trade_id"}
#: Rows that a defect has to itself.
SLOT_ROWS = 40


class Injector:
    """Chooses where, and does it."""

    def __init__(self, database: Database, dataset: str, chance: random.Random) -> None:
        self.db, self.dataset, self.chance = database, dataset, chance
        self.key, self.table = KEYS[dataset], f"{dataset}_data"
        self.done: list[dict[str, Any]] = []
        self.ends: dict[int, tuple[Any, ...]] = {}
        self.free: list[tuple[int, str, str, list[tuple[int, int]]]] = []
        for number, market, symbol in self.db.run("SELECT series_id, market, symbol FROM series ORDER BY series_id"):
            rows = self.db.run(
                f"SELECT {self.key}, trade_time FROM {self.table} WHERE series_id = %s ORDER BY 1", number
            )
            slots = [rows[at : at + SLOT_ROWS] for at in range(SLOT_ROWS, len(rows) - 2 * SLOT_ROWS, SLOT_ROWS)]
            # Within one day, so that a range of the ledger has all of it.
            self.free += [(number, market, symbol, s) for s in slots if s[0][1] // DAY == s[-1][1] // DAY]
        self.chance.shuffle(self.free)

    def slot(self) -> tuple[int, list[tuple[int, int]], dict[str, Any]]:
        """The number of a series, rows of it that nothing else happens to, and the note of that."""
        number, market, symbol, rows = self.free.pop()
        note = {"market": market, "symbol": symbol, "first_id": rows[0][0], "last_id": rows[-1][0],
                "start": rows[0][1], "end": rows[-1][1] + 1}  # fmt: skip
        return number, rows, note

    def change(self, sets: str, number: int, row_id: int, *values: Any) -> None:
        """Change a row."""
        self.db.run(f"UPDATE {self.table} SET {sets} WHERE series_id = %s AND {self.key} = %s", *values, number, row_id)

    def hole(self) -> None:
        """Some neighbouring rows are gone."""
        number, rows, note = self.slot()
        first = self.chance.randrange(5, 15)
        last = first + self.chance.randrange(1, 15)
        self.db.run(
            f"DELETE FROM {self.table} WHERE series_id = %s AND {self.key} BETWEEN %s AND %s",
            number, rows[first][0], rows[last][0],
        )  # fmt: skip
        self.done.append({"kind": "hole", **note})

    def digit(self) -> None:
        """A value is another."""
        number, rows, note = self.slot()
        row_id = rows[self.chance.randrange(5, 35)][0]
        column = self.chance.choice(["price", "quantity"])
        [(old,)] = self.db.run(
            f"SELECT {column} FROM {self.table} WHERE series_id = %s AND {self.key} = %s", number, row_id
        )
        text = str(old)
        place = self.chance.choice([at for at, each in enumerate(text) if each.isdigit()])
        digit = str((int(text[place]) + self.chance.randrange(1, 9)) % 10)
        value = text[:place] + digit + text[place + 1 :]
        if float(value) == float(text):
            return self.digit()
        self.change(f"{column} = %s{'' if self.db.is_sqlite else '::numeric'}", number, row_id, value)
        self.done.append({"kind": "digit", **note})
        return None

    def taker(self) -> None:
        """Who bought is turned round."""
        number, rows, note = self.slot()
        turned = "1 - is_buyer_maker" if self.db.is_sqlite else "NOT is_buyer_maker"
        self.change(f"is_buyer_maker = {turned}", number, rows[self.chance.randrange(5, 35)][0])
        self.done.append({"kind": "taker", **note})

    def late(self) -> None:
        """A time is another, of the same day."""
        number, rows, note = self.slot()
        row_id, at = rows[self.chance.randrange(5, 35)]
        by = self.chance.choice([-1, 1]) * self.chance.randrange(1, 600_000) * 1000
        if (at + by) // DAY != at // DAY:
            return self.late()
        self.change(f"trade_time = {self.db.later('trade_time', by)}", number, row_id)
        self.done.append({"kind": "late", **note, "start": min(note["start"], at + by),
                          "end": max(note["end"], at + by + 1)})  # fmt: skip
        return None

    def renumbered(self) -> None:
        """An id is one that nobody has."""
        number, rows, note = self.slot()
        self.change(
            f"{self.key} = {self.key} + %s", number, rows[self.chance.randrange(5, 35)][0],
            self.chance.choice([-1, 1]) * self.chance.randrange(5, 9) * 10**7,
        )  # fmt: skip
        self.done.append({"kind": "renumbered", **note})

    def other_day(self) -> None:
        """A row is under the next day, time and all."""
        number, rows, note = self.slot()
        row_id, at = rows[self.chance.randrange(5, 35)]
        if not (days := self.another_day(number, at)):
            return self.other_day()
        day = "" if self.db.is_sqlite else f", trade_day = trade_day + {days}"
        self.change(f"trade_time = {self.db.later('trade_time', days * DAY)}{day}", number, row_id)
        self.done.append({"kind": "other_day", **note})
        return None

    def twice(self) -> None:
        """A row is there a second time, in another day (SQLite's key allows none: there it is made up)."""
        if self.db.is_sqlite:
            return self.renumbered()
        number, rows, note = self.slot()
        row_id, at = rows[self.chance.randrange(5, 35)]
        if not (days := self.another_day(number, at)):
            return self.twice()
        columns = [
            name for (name,) in self.db.run(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                "AND attname NOT IN ('trade_time', 'trade_day')", self.table,
            )
        ]  # fmt: skip
        self.db.run(
            f"INSERT INTO {self.table} ({', '.join(columns)}, trade_time, trade_day) SELECT {', '.join(columns)}, "
            f"trade_time + interval '{days} days', trade_day + {days} FROM {self.table} "
            f"WHERE series_id = %s AND {self.key} = %s",
            number, row_id,
        )  # fmt: skip
        self.done.append({"kind": "twice", **note})
        return None

    def misdated(self) -> None:
        """A row's time is of another day than its partition (SQLite has no such column)."""
        if self.db.is_sqlite:
            return self.other_day()
        number, rows, note = self.slot()
        self.change("trade_time = trade_time + interval '1 day'", number, rows[self.chance.randrange(5, 35)][0])
        self.done.append({"kind": "misdated", **note})
        return None

    def another_day(self, number: int, at: int) -> int:
        """By how many days a row is put elsewhere, among the others; 0 if there is no such day."""
        if number not in self.ends:
            [ends] = self.db.run(
                f"SELECT min(trade_time), max(trade_time) FROM {self.table} WHERE series_id = %s", number
            )
            self.ends[number] = ends
        first, last = self.ends[number]
        return 1 if at + DAY < last else -1 if at - DAY > first else 0

    def miscounted(self) -> None:
        """A range of the ledger counts wrongly."""
        lines = self.db.run(
            "SELECT market, symbol, range_start, range_end FROM coverage WHERE dataset = %s AND state = 'complete' "
            "ORDER BY 1, 2, 3",
            self.dataset,
        )
        market, symbol, start, end = self.chance.choice(lines)
        self.db.run(
            "UPDATE coverage SET row_count = row_count + 3 WHERE dataset = %s AND market = %s AND symbol = %s "
            "AND range_start = %s",
            self.dataset, market, symbol, self.db.time(start),
        )  # fmt: skip
        self.done.append({"kind": "miscounted", "market": market, "symbol": symbol, "first_id": 0, "last_id": 0,
                          "start": start, "end": end})  # fmt: skip

    def kinds(self, count: int) -> list[Callable[[], None]]:
        """So many defects of all kinds; what is wrong with the ledger comes last."""
        shares = {self.digit: 0.25, self.taker: 0.08, self.late: 0.12, self.renumbered: 0.06, self.other_day: 0.06,
                  self.twice: 0.06, self.misdated: 0.04}  # fmt: skip
        chosen = [kind for kind, share in shares.items() for _ in range(max(1, round(share * count)))]
        chosen += [self.hole] * (count - 1 - len(chosen))
        self.chance.shuffle(chosen)
        return [*chosen, self.miscounted]


def main(argv: Sequence[str] | None = None) -> int:
    """Damage the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="sqlite:///… or postgresql://…")
    parser.add_argument("dataset", choices=sorted(KEYS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    injector = Injector(Database(options.store), options.dataset, random.Random(seed))
    for inject in injector.kinds(options.count):
        inject()
    print(json.dumps({"seed": seed, "defects": injector.done}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
