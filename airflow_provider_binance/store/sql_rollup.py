"""`SqlRollup`: do the klines of a short interval add up to those of the longer ones? Asked of the database.

Each level is made of the longest one before it that fits (15m of 5m, 1d of 12h), so that the shortest klines are read
two or three times and not fourteen. What is stored of a level is never used to make another.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_provider_binance.market import DAY_US, Interval, parse_interval
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import Column, Dataset, Kind
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.store.inspection import Rolled
from airflow_provider_binance.store.schema import quoted
from airflow_provider_binance.store.sql_inspect import MOST_ROWS, SqlInspector

#: Read beyond the window, so that a kline that opens in it is whole: the longest is a month.
_BEYOND_US = 31 * DAY_US


@dataclass(frozen=True, slots=True)
class _Level:
    interval: Interval
    table: str


class SqlRollup(SqlInspector):
    """Adds up."""

    @abstractmethod
    def _decimals_differ(self, left: str, right: str) -> str:
        """Whether two decimals differ, NULLs being equal to each other."""

    @abstractmethod
    def _decimal_text(self, value: str) -> str:
        """A decimal as canonical text."""

    @abstractmethod
    def _decimal_aggregate(self, name: str, value: str) -> str:
        """`sum`, `max` or `min` of decimals, exactly."""

    def rollup(
        self, base: Series, targets: Iterable[Series], start_us: int, end_us: int
    ) -> Iterator[tuple[Series, int, list[Rolled]]]:
        entry, shortest = registered(base.dataset), parse_interval(base.interval)
        found: list[tuple[Series, int, list[Rolled]]] = []
        with self._looking(entry) as is_there:
            base_id = self._find_series(base) if is_there else None
            levels: list[_Level] = []
            for target in sorted(targets, key=lambda series: parse_interval(series.interval).size_us):
                interval = parse_interval(target.interval)
                target_id = None if base_id is None else self._find_series(target)
                if base_id is None or target_id is None or not fits(shortest, interval):
                    found.append((target, 0, []))
                    continue
                below = [level for level in levels if fits(level.interval, interval)]
                level = _Level(interval, f"rollup_{len(levels)}")
                window = start_us, end_us + _BEYOND_US
                self._build(entry, shortest, base_id, below[-1] if below else None, level, window)
                levels.append(level)
                found.append((target, *self._compare(entry, shortest, base_id, target_id, level, (start_us, end_us))))
        yield from found

    def _build(
        self, entry: Dataset, shortest: Interval, base_id: int, below: _Level | None, level: _Level,
        window: tuple[int, int],
    ) -> None:  # fmt: skip
        """Make the level's temporary table: a row per kline, with its parts counted."""
        rule = entry.rollup
        assert rule is not None
        time = quoted(entry.time_column)
        if below is None:
            traded = f"CASE WHEN d.{quoted(rule.traded)} > 0 THEN"
            high, low = f"d.{quoted(rule.highest)}", f"d.{quoted(rule.lowest)}"
            source = self._data(entry)
            parts = {
                "n": "1", "first": f"d.{time}", "last": f"d.{time}", "traded": f"{traded} d.{time} END", "high": high,
                "low": low, "traded_high": f"{traded} {high} END", "traded_low": f"{traded} {low} END",
            }  # fmt: skip
            at = f"d.{time}"
            where = (
                f" WHERE d.series_id = {base_id} AND d.{time} >= %s AND d.{time} < %s "
                f"AND d.{time} = {self._bucket(f'd.{time}', shortest)}"
            )
        else:
            source, at, where = f"{below.table} d", "d.at", ""
            names = ("n", "first", "last", "traded", "high", "low", "traded_high", "traded_low")
            parts = {name: f"d.{name}_" for name in names}
        bucket = self._bucket(at, level.interval)
        made = [f"{bucket} AS at", f"sum({parts['n']}) AS n_"]
        made += [f"{way}({parts[name]}) AS {name}_" for name, way in _ENDS]
        for name, way in _EXTREMES:
            made.append(f"{self._decimal_aggregate(way, parts[name])} AS {name}_")
        for column in summed(entry):
            value = f"d.{quoted(column.name)}"
            total = self._decimal_aggregate("sum", value) if column.kind is Kind.DECIMAL else f"sum({value})"
            made.append(f"{total} AS {quoted(column.name)}")
        values = [self._time(at_us) for at_us in window] if below is None else []
        self._change(
            f"CREATE TEMPORARY TABLE {level.table} AS SELECT {', '.join(made)} FROM {source}{where} GROUP BY {bucket}",
            values,
        )

    def _compare(
        self, entry: Dataset, shortest: Interval, base_id: int, target_id: int, level: _Level,
        window: tuple[int, int],
    ) -> tuple[int, list[Rolled]]:  # fmt: skip
        rule = entry.rollup
        assert rule is not None
        time, table = quoted(entry.time_column), self._data(entry).removesuffix(" d")
        length = f"({self._us(self._next_open('l.at', level.interval))} - {self._us('l.at')})"
        whole = (
            f"FROM {level.table} l JOIN {table} d ON d.series_id = {target_id} AND d.{time} = l.at "
            f"WHERE l.n_ * {shortest.size_us} = {length} AND l.at >= %s AND l.at < %s"
        )
        values = [self._time(at_us) for at_us in window]
        counted = int(self._query(f"SELECT count(*) {whole}", values)[0][0])
        made = {
            rule.first: (f"o.{quoted(rule.first)}", f"t.{quoted(rule.first)}"),
            rule.highest: ("l.traded_high_", "l.high_"),
            rule.lowest: ("l.traded_low_", "l.low_"),
            rule.last: (f"c.{quoted(rule.last)}",),
            **{column.name: (f"l.{quoted(column.name)}",) for column in summed(entry)},
        }
        # Where no minute traded, there is but one price; where the first ones did not, Binance has been seen to take
        # neither: both are accepted.
        differs = {name: self._differs(entry.column(name), ways) for name, ways in made.items()}
        shown = [
            f"{differs[name]}, {self._shown(entry.column(name), f'd.{quoted(name)}')}, "
            f"{self._shown(entry.column(name), ways[0])}"
            for name, ways in made.items()
        ]
        joins = " ".join(
            f"LEFT JOIN {table} {alias} ON {alias}.series_id = {base_id} AND {alias}.{time} = l.{of}_"
            for alias, of in (("o", "first"), ("t", "traded"), ("c", "last"))
        )
        lines = self._query(
            f"SELECT {self._us('l.at')}, {', '.join(shown)} "
            f"{whole.replace(' WHERE', f' {joins} WHERE', 1)} AND ({' OR '.join(differs.values())}) "
            f"ORDER BY l.at LIMIT {MOST_ROWS}",
            values,
        )
        return counted, [
            Rolled(
                line[0],
                {
                    name: (None if stored is None else str(stored), None if told is None else str(told))
                    for name, is_other, stored, told in zip(made, line[1::3], line[2::3], line[3::3], strict=True)
                    if is_other
                },
            )
            for line in lines
        ]

    def _differs(self, column: Column, ways: Iterable[str]) -> str:
        stored = f"d.{quoted(column.name)}"
        if column.kind is not Kind.DECIMAL:
            return " AND ".join(f"coalesce({stored} <> {way}, false)" for way in ways)
        return "(" + " AND ".join(self._decimals_differ(stored, way) for way in ways) + ")"

    def _shown(self, column: Column, value: str) -> str:
        return self._decimal_text(value) if column.kind is Kind.DECIMAL else value


_ENDS = (("first", "min"), ("last", "max"), ("traded", "min"))
_EXTREMES = (("high", "max"), ("low", "min"), ("traded_high", "max"), ("traded_low", "min"))


def summed(entry: Dataset) -> list[Column]:
    """The columns of a longer kline that are sums."""
    rule = entry.rollup
    assert rule is not None
    ends = {rule.first, rule.highest, rule.lowest, rule.last}
    return [column for column in entry.columns if column.kind is not Kind.TIME and column.name not in ends]


def fits(short: Interval, long: Interval) -> bool:
    """Whether every kline of `long` is made of whole klines of `short`."""
    if short.is_calendar or short.size_us >= long.size_us:
        return False
    if long.is_calendar:
        return DAY_US % short.size_us == 0
    return long.size_us % short.size_us == 0 and (long.anchor_us - short.anchor_us) % short.size_us == 0
