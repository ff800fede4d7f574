"""Damages a store by plain SQL, past the ledger, and prints what it did. Imports nothing of the package under test.

python tests/defects/inject.py sqlite:///ingest.db --count 1000 --seed 7

It writes to the physical tables that the documentation names: `klines_data`, `coverage`, `ingest_log`. Each defect has
a stretch of time of its own; stretches without rows (halts) are left alone, but for rows made up in some of them.
Prints one JSON document: the seed and, per defect, kind, series and `[start, end)` in microseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

MINUTE = 60_000_000
DAY = 1440 * MINUTE
SIZES = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE, "4h": 240 * MINUTE, "1d": DAY}
VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_base_volume")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A defect and the air around it; the klines of one slot are at least this many.
SLOT_ROWS = 12


class Database:
    """SQLite or PostgreSQL, times as microseconds on both."""

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite:///")
        if self.is_sqlite:
            self.connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        else:
            import psycopg

            self.connection = psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1), autocommit=True)

    def time(self, at_us: int) -> Any:
        """A time as a value."""
        return at_us if self.is_sqlite else EPOCH + timedelta(microseconds=at_us)

    def later(self, column: str, by_us: int) -> str:
        """A time column, so much later."""
        return f"{column} + {by_us}" if self.is_sqlite else f"{column} + interval '{by_us} microseconds'"

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement whose values are marked by %s."""
        cursor = self.connection.execute(statement.replace("%s", "?") if self.is_sqlite else statement, values)
        rows = cursor.fetchall() if cursor.description else []
        return [tuple(map(_microseconds, row)) for row in rows]


def _microseconds(value: Any) -> Any:
    return (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


@dataclass(frozen=True)
class Series:
    """A series of the store."""

    id: int
    market: str
    symbol: str
    interval: str

    @property
    def size(self) -> int:
        """Length of a kline."""
        return SIZES[self.interval]


class Injector:
    """Chooses where, and does it."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self.db = database
        self.chance = chance
        self.done: list[dict[str, Any]] = []
        self.series = [
            Series(*row)
            for row in self.db.run('SELECT series_id, market, symbol, "interval" FROM series ORDER BY series_id')
        ]
        self.free: dict[Series, list[int]] = {series: self._slots(series) for series in self.series}

    def _slots(self, series: Series) -> list[int]:
        """Starts of stretches that have every row, in random order."""
        length = SLOT_ROWS * series.size
        times = [
            row[0]
            for row in self.db.run("SELECT open_time FROM klines_data WHERE series_id = %s ORDER BY 1", series.id)
        ]
        counts: dict[int, int] = {}
        for at in times:
            counts[at - at % length] = counts.get(at - at % length, 0) + 1
        whole = [at for at, count in counts.items() if count == SLOT_ROWS]
        self.chance.shuffle(whole)
        return whole

    def slot(self) -> tuple[Series, int]:
        """A stretch that nothing else happens to."""
        series = self.chance.choice([s for s in self.series if self.free[s]])
        return series, self.free[series].pop()

    def note(self, kind: str, series: Series, start: int, end: int) -> None:
        """Write down a defect."""
        self.done.append(
            {"kind": kind, "market": series.market, "symbol": series.symbol, "interval": series.interval,
             "start": start, "end": end}
        )  # fmt: skip

    # --- the defects --------------------------------------------------------------------------------------------------

    def hole(self) -> None:
        """Delete 1 … 8 rows."""
        series, at = self.slot()
        start = at + self.chance.randrange(2) * series.size
        end = start + self.chance.randint(1, 8) * series.size
        self.db.run(
            "DELETE FROM klines_data WHERE series_id = %s AND open_time >= %s AND open_time < %s",
            series.id, self.db.time(start), self.db.time(end),
        )  # fmt: skip
        self.note("hole", series, start, end)

    def digit(self) -> None:
        """Change one digit of one value."""
        series, at = self.slot()
        at += self.chance.randrange(SLOT_ROWS) * series.size
        while True:
            column = self.chance.choice(VALUES)
            key = series.id, self.db.time(at)
            [(old,)] = self.db.run(f"SELECT {column} FROM klines_data WHERE series_id = %s AND open_time = %s", *key)
            text = str(old)
            place = self.chance.choice([i for i, c in enumerate(text) if c.isdigit()])
            digit = str((int(text[place]) + self.chance.randint(1, 9)) % 10)
            new = text[:place] + digit + text[place + 1 :]
            if Decimal(new) != Decimal(text):
                break
        cast = "" if self.db.is_sqlite else "::numeric"
        value: Any = int(new) if column == "trade_count" else new
        self.db.run(
            f"UPDATE klines_data SET {column} = %s{'' if column == 'trade_count' else cast} "
            "WHERE series_id = %s AND open_time = %s",
            value, *key,
        )  # fmt: skip
        self.note("digit", series, at, at + series.size)

    def duplicate(self) -> None:
        """The same row once more, a little later: the key allows no exact one."""
        series, at = self.slot()
        at += self.chance.randrange(SLOT_ROWS) * series.size
        late = self.chance.randrange(1, series.size // 1_000_000) * 1_000_000
        self._copy(series, at, late)
        self.note("duplicate", series, at + late, at + late + 1)

    def _copy(self, series: Series, at: int, by: int) -> None:
        columns = (*VALUES, "close_time", "taker_buy_quote_volume", "contracts", "taker_buy_contracts")
        self.db.run(
            f"INSERT INTO klines_data (series_id, open_time, {', '.join(columns)}) "
            f"SELECT series_id, {self.db.later('open_time', by)}, {', '.join(columns)} FROM klines_data "
            "WHERE series_id = %s AND open_time = %s",
            series.id, self.db.time(at),
        )  # fmt: skip

    def shift(self) -> None:
        """Some rows moved by a part of their length."""
        series, at = self.slot()
        end = at + SLOT_ROWS * series.size
        by = series.size // 2
        self.db.run(
            f"UPDATE klines_data SET open_time = {self.db.later('open_time', by)} "
            "WHERE series_id = %s AND open_time >= %s AND open_time < %s",
            series.id, self.db.time(at), self.db.time(end),
        )  # fmt: skip
        self.note("shift", series, at, end)

    def shifted_day(self) -> None:
        """A day's rows under the times of the next day, whose own are gone."""
        for series in self.chance.sample(self.series, len(self.series)):
            free = set(self.free[series])
            length = SLOT_ROWS * series.size
            for at in sorted(free, key=lambda _: self.chance.random()):
                day = at - at % DAY
                slots = {slot - slot % length for slot in range(day, day + 2 * DAY, length)}
                if slots <= free and min(slots) >= day and max(slots) + length <= day + 2 * DAY:
                    self.free[series] = [slot for slot in self.free[series] if slot not in slots]
                    self._shift_day(series, day)
                    return
        raise SystemExit("no two days are left to be shifted")

    def _shift_day(self, series: Series, day: int) -> None:
        between = "WHERE series_id = %s AND open_time >= %s AND open_time < %s"
        first, second, third = (self.db.time(day + n * DAY) for n in range(3))
        self.db.run(f"DELETE FROM klines_data {between}", series.id, second, third)
        self.db.run(
            f"UPDATE klines_data SET open_time = {self.db.later('open_time', DAY)} {between}", series.id, first, second
        )
        self.note("shifted_day", series, day, day + 2 * DAY)

    def swap(self) -> None:
        """Rows of two symbols under each other's name."""
        series, at = self.slot()
        others = [
            other for other in self.series
            if (other.market, other.interval) == (series.market, series.interval) and at in self.free[other]
        ]  # fmt: skip
        if not others:
            self.free[series].append(at)
            return self.hole()
        other = self.chance.choice(others)
        self.free[other].remove(at)
        end = at + self.chance.randint(1, SLOT_ROWS) * series.size
        for new, old in ((-1, series.id), (series.id, other.id), (other.id, -1)):
            self.db.run(
                "UPDATE klines_data SET series_id = %s WHERE series_id = %s AND open_time >= %s AND open_time < %s",
                new, old, self.db.time(at), self.db.time(end),
            )  # fmt: skip
        self.note("swap", series, at, end)
        return None

    def lost_line(self) -> None:
        """A line of the ledger is gone: of coverage in one half of the series, of the log in the other.

        Not of both: then nothing would be left that tells where the rows came from.
        """
        series = self.chance.choice(self.series)
        table, where = ("coverage", "state IN ('complete', 'exchange_gap')"), ("ingest_log", "rows_read > 0")
        table, where = (table, where)[series.id % 2]
        key = series.market, series.symbol, series.interval
        lines = self.db.run(
            f'SELECT range_start, range_end FROM {table} WHERE market = %s AND symbol = %s AND "interval" = %s '
            f"AND {where} ORDER BY 1, 2",
            *key,
        )
        if not lines:
            return self.lost_line()
        start, end = self.chance.choice(lines)
        self.db.run(
            f'DELETE FROM {table} WHERE market = %s AND symbol = %s AND "interval" = %s AND range_start = %s '
            "AND range_end = %s",
            *key, self.db.time(start), self.db.time(end),
        )  # fmt: skip
        self.note(f"lost_{table}", series, start, end)
        return None

    def made_up(self) -> None:
        """A row in a halt, a copy of the one before it."""
        halts = self.db.run(
            "SELECT market, symbol, \"interval\", range_start, range_end FROM coverage WHERE state = 'exchange_gap' "
            "ORDER BY 1, 2, 3, 4"
        )
        market, symbol, interval, start, _ = self.chance.choice(halts)
        series = next(s for s in self.series if (s.market, s.symbol, s.interval) == (market, symbol, interval))
        before = start - series.size
        taken = self.db.run(
            "SELECT open_time FROM klines_data WHERE series_id = %s AND open_time IN (%s, %s)",
            series.id, self.db.time(before), self.db.time(start),
        )  # fmt: skip
        if taken != [(before,)]:
            return self.hole()
        self._copy(series, before, series.size)
        self.note("made_up", series, start, start + series.size)
        return None

    def kinds(self, count: int) -> Iterator[Callable[[], None]]:
        """So many defects of all kinds, ledger lines last: until then coverage says where halts are."""
        shares = {self.shifted_day: 0.01, self.shift: 0.03, self.swap: 0.08, self.duplicate: 0.15, self.made_up: 0.03,
                  self.lost_line: 0.05, self.digit: 0.3}  # fmt: skip
        numbers = {kind: max(1, round(share * count)) for kind, share in shares.items()}
        first = [self.shifted_day] * numbers.pop(self.shifted_day)
        last = [self.lost_line] * numbers.pop(self.lost_line)
        middle = [kind for kind, number in numbers.items() for _ in range(number)]
        middle += [self.hole] * (count - len(first) - len(middle) - len(last))
        self.chance.shuffle(middle)
        yield from (*first, *middle, *last)


def main(argv: Sequence[str] | None = None) -> int:
    """Damage the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="sqlite:///… or postgresql://…")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    injector = Injector(Database(options.store), random.Random(seed))
    for inject in injector.kinds(options.count):
        inject()
    print(json.dumps({"seed": seed, "defects": injector.done}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
