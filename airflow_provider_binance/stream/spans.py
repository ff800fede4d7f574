"""What of the time line a stream has brought whole, told flush by flush. Pure but for what it remembers.

Klines tell it themselves: each is a range. Ticks tell it by their ids (`runs`). Other events do not tell: what was
received is claimed from one flush to the next, but for what is said to be lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any

from airflow_provider_binance.market import INTERVALS
from airflow_provider_binance.records import CoverageRange, Rows, Series, State
from airflow_provider_binance.registry import Continuity, dataset
from airflow_provider_binance.stream.buffer import Lost
from airflow_provider_binance.stream.runs import Claim, Run, joined


class Spans:
    """Remembers of each series how far what came is claimed."""

    def __init__(self) -> None:
        self._runs: dict[Series, list[Run]] = {}
        self._ends: dict[Series, int] = {}

    def take(self, series: Series, rows: Rows | None, lost: Iterable[Lost], now_us: int) -> list[CoverageRange]:
        """The ranges that are complete with `rows` (None or at least one), and were not told before; ascending.

        `lost` is what the sequences of the series say was not received; it comes before the rows behind it.
        """
        match dataset(series.dataset).continuity:
            case Continuity.GRID:
                return [_range(claim, now_us) for claim in _of_grid(series, rows.times_us() if rows else ())]
            case Continuity.ID:
                claims = self._of_ids(series, rows) if rows else []
            case Continuity.NONE:
                claims = self._of_events(series, rows.times_us() if rows else (), lost)
        return [_range(claim, now_us) for claim in claims]

    def _of_ids(self, series: Series, rows: Rows) -> list[Claim]:
        ticks: list[Any] = sorted(map(_id_and_time(series.dataset, rows.columns), rows.tuples()))
        if ticks[-1][0] - ticks[0][0] + 1 == len(ticks):
            fresh = [Run.of(ticks)]
        else:
            cuts = [at for at, (a, b) in enumerate(pairwise(ticks), 1) if b[0] != a[0] + 1]
            fresh = [Run.of(ticks[low:high]) for low, high in pairwise([0, *cuts, len(ticks)])]
        self._runs[series], claims = joined(self._runs.get(series, []), fresh)
        return claims

    def _of_events(self, series: Series, times: Sequence[int], lost: Iterable[Lost]) -> list[Claim]:
        holes = sorted((one.start_us, one.end_us) for one in lost)
        claims = []
        if times:
            at, end_us = min(self._ends.get(series, times[0]), times[0]), times[-1] + 1
            for hole_us, behind_us in [*holes, (end_us, end_us)]:
                until_us = min(hole_us, end_us)
                if at < until_us:
                    claims.append(Claim(at, until_us, bisect_left(times, until_us) - bisect_left(times, at)))
                at = max(at, behind_us)
            holes.append((times[0], end_us))
        if holes:
            self._ends[series] = max(self._ends.get(series, 0), *(behind_us for _, behind_us in holes))
        return claims


@cache
def _id_and_time(name: str, columns: tuple[str, ...]) -> Callable[[Any], Any]:
    entry = dataset(name)
    return itemgetter(columns.index(entry.key[0]), columns.index(entry.time_column))


def _range(claim: Claim, now_us: int) -> CoverageRange:
    start_us, end_us, count, first_id, last_id = claim
    return CoverageRange(start_us, end_us, State.COMPLETE, count, first_id, last_id, checked_at_us=now_us)


def _of_grid(series: Series, opens: Sequence[int]) -> list[Claim]:
    """The runs of klines that follow one another."""
    interval = INTERVALS[series.interval]
    claims: list[Claim] = []
    for opened in opens:
        end_us = interval.next_open(opened)
        if claims and claims[-1].end_us == opened:
            claims[-1] = Claim(claims[-1].start_us, end_us, claims[-1].row_count + 1)
        else:
            claims.append(Claim(opened, end_us, 1))
    return claims
