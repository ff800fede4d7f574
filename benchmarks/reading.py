"""Reading what we store beside the plain table: a symbol's year, a day, the newest kline of one symbol and of many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.measure import Took, timed


@dataclass(frozen=True, slots=True)
class Question:
    """The same question to the plain table, in its best form, and to ours."""

    name: str
    plain: str
    ours: str


# The series that is asked for, of the tables and of the function. Both end in a WHERE: a question goes on with AND.
_ONE = "market = 'spot' AND symbol = 'BTCUSDT' AND \"interval\" = '{interval}'"
_OF = "ours.klines_of('spot', 'BTCUSDT', '{interval}') WHERE true"


def through(name: str, text: str) -> Question:
    """Asked of the view `klines` in the very words that the plain table is asked; `{}` is the one or the other."""
    return Question(f"{name}, through `klines`", text.replace("{}", "plain"), text.replace("{}", "ours.klines"))


def of_one(name: str, text: str) -> tuple[Question, Question]:
    """Asked of one series, through the view and by the function; `{}` is the series."""
    asked = through(name, text.replace("{}", f"{{}} WHERE {_ONE}"))
    return asked, Question(f"{name}, by `klines_of`", asked.plain, text.replace("{}", _OF))


_YEAR = "SELECT count(*), sum(close), max(high) FROM {} AND open_time >= '2024-01-01Z' AND open_time < '2025-01-01Z'"
_DAY = "SELECT * FROM {} AND open_time >= '2024-01-15Z' AND open_time < '2024-01-16Z' ORDER BY open_time"
_NEWEST = "SELECT * FROM {} ORDER BY open_time DESC LIMIT 1"
_NEWEST_TIME = "SELECT max(open_time) FROM {}"

#: Of one symbol, 24 months of it in the full run.
OF_ONE = [
    *of_one("one symbol-year", _YEAR),
    *of_one("one day", _DAY),
    *of_one("newest kline of one symbol", _NEWEST),
    *of_one("newest time of one symbol", _NEWEST_TIME),
]

SYMBOLS, MINUTES = 500, 1000
_NAMES = "(SELECT symbol FROM ours.series WHERE market = 'spot' AND \"interval\" = '1m') n"
_EACH = f"SELECT k.* FROM {_NAMES} CROSS JOIN LATERAL (SELECT * FROM {{}} ORDER BY open_time DESC LIMIT 1) k"
_OF_NAME = "{} WHERE market = 'spot' AND symbol = n.symbol AND \"interval\" = '1m'"
_PLAIN_EACH = _EACH.replace("{}", _OF_NAME.replace("{}", "plain"))
_ALL = "market = 'spot' AND \"interval\" = '1m'"
_NEWEST_OF_ALL = f"newest klines of {SYMBOLS} symbols"

#: Of many symbols, with a thousand minutes each. The plain table's best form goes from symbol to symbol.
OF_MANY = [
    Question(f"{_NEWEST_OF_ALL}, `klines_latest`", _PLAIN_EACH, f"SELECT * FROM ours.klines_latest WHERE {_ALL}"),
    Question(
        f"{_NEWEST_OF_ALL}, one by one by `klines_of`",
        _PLAIN_EACH,
        _EACH.replace("{}", "ours.klines_of('spot', n.symbol, '1m')"),
    ),
    through(f"{_NEWEST_OF_ALL}, one by one", _EACH.replace("{}", _OF_NAME)),
    through(
        f"{_NEWEST_OF_ALL}, `DISTINCT ON`",
        f"SELECT DISTINCT ON (symbol) * FROM {{}} WHERE {_ALL} ORDER BY symbol, open_time DESC",
    ),
    through(
        f"{_NEWEST_OF_ALL}, `DISTINCT ON` the last hour",
        f"SELECT DISTINCT ON (symbol) * FROM {{}} WHERE {_ALL} AND open_time >= '2024-01-01 15:40Z' "
        "ORDER BY symbol, open_time DESC",
    ),
    through(
        f"newest times of {SYMBOLS} symbols, `GROUP BY`",
        f"SELECT symbol, max(open_time) FROM {{}} WHERE {_ALL} GROUP BY symbol",
    ),
]

_MANY = f"""
DELETE FROM ours.series;
INSERT INTO ours.series (market, symbol, "interval")
SELECT 'spot', 'S' || lpad(n::text, 3, '0') || 'USDT', '1m' FROM generate_series(1, {SYMBOLS}) n;
INSERT INTO ours.klines_data (open_time, series_id, trade_count, open, high, low, close, volume, quote_volume,
    taker_buy_base_volume, taker_buy_quote_volume)
SELECT '2024-01-01Z'::timestamptz + t * interval '1 minute', series_id, t, 42283.58 + t, 42300.11 + t, 42200.5,
    42250.75, 12.34567, 522012.12345678, 6.5, 260000.5
FROM ours.series, generate_series(0, {MINUTES - 1}) t ORDER BY series_id, t;
INSERT INTO plain SELECT * FROM ours.klines ORDER BY symbol, open_time
"""


class Reading:
    """Puts the times of each question, by table, into `took`, and the plan of ours into `plans`."""

    #: How often a query of milliseconds is asked: a few answers of it say nothing.
    MOST = 101

    def __init__(
        self, db: psycopg.Connection[Any], took: dict[str, dict[str, list[Took]]], plans: dict[str, str], rounds: int
    ) -> None:
        """A slow query is asked as often as `rounds` seconds allow, at least `rounds` times."""
        self._db = db
        self._rounds = rounds
        self.took = took
        self.plans = plans

    def measure(self, questions: list[Question], **given: str) -> None:
        """Ask each of both, by turns; both must give the same rows."""
        for table in ("plain", "ours.klines_data", "ours.series"):
            self._db.execute(f"VACUUM (ANALYZE) {table}")
        for one in questions:
            texts = {name: text.format(**given) for name, text in (("plain", one.plain), ("ours", one.ours))}
            answers = [sorted(map(str, self._db.execute(text).fetchall())) for text in texts.values()]
            assert answers[0] == answers[1], f"{one.name}: {len(answers[0])} rows and {len(answers[1])} others"
            self.took[one.name] = self._by_turns(texts)
            text = texts["ours"]
            plan = self._db.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {text}").fetchall()
            self.plans[one.name] = "\n".join([text, *(line for (line,) in plan if "Time:" not in line)])

    def _by_turns(self, texts: dict[str, str]) -> dict[str, list[Took]]:
        found: dict[str, list[Took]] = {name: [] for name in texts}
        end = time.monotonic() + self._rounds
        for number in range(self.MOST):
            if number >= self._rounds and time.monotonic() > end:
                break
            for name in sorted(texts, reverse=bool(number % 2)):
                found[name].append(timed(lambda text=texts[name]: self._db.execute(text).fetchall()))
        return found

    def of_many(self) -> None:
        """The same klines of 500 symbols in both, then the questions of many."""
        self._db.execute("TRUNCATE plain, ours.klines_data")
        for statement in _MANY.split(";"):
            self._db.execute(statement)
        self.measure(OF_MANY)
