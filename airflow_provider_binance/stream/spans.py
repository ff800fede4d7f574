"""What of the time line a stream has brought whole, told flush by flush. Pure but for what it remembers.

Klines tell it themselves: each is a range. Ticks tell it by their ids (`runs`). Other events do not tell: the time
between them is claimed, but for what is said to be lost (`seen`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any

from airflow_provider_binance.evidence import Evidence, Stretch, hole
from airflow_provider_binance.market import INTERVALS
from airflow_provider_binance.records import CoverageRange, Rows, Series, State
from airflow_provider_binance.registry import Continuity, dataset
from airflow_provider_binance.stream.buffer import Lost
from airflow_provider_binance.stream.runs import Claim, Run, joined
from airflow_provider_binance.stream.seen import Seen

MISSED = "missed by the stream"


class Spans:
    """Remembers of each series how far what came is claimed."""

    def __init__(self) -> None:
        self._runs: dict[Series, list[Run]] = {}
        self._seen: dict[Series, Seen] = {}

    def take(self, series: Series, rows: Rows | None, lost: Sequence[Lost], now_us: int) -> list[CoverageRange]:
        """What is to be told with `rows` (None or at least one): what is lost, then what is complete and was not told
        before, each ascending.

        `lost` is what the sequences of the series say was not received; it comes before the rows behind it.
        """
        times = rows.times_us() if rows is not None else ()
        entry = dataset(series.dataset)
        match entry.continuity:
            case Continuity.GRID:
                claims = _of_grid(series, times)
            case Continuity.ID:
                claims = self._of_ids(series, rows) if rows is not None else []
            case Continuity.NONE:
                if series not in self._seen:
                    self._seen[series] = Seen(is_alone=entry.key == (entry.time_column,))
                claims, lost = self._seen[series].take(sorted(times), lost)
        return [*(_hole(one, now_us) for one in lost), *(_range(claim, now_us) for claim in claims)]

    def _of_ids(self, series: Series, rows: Rows) -> list[Claim]:
        ticks: list[Any] = sorted(map(_id_and_time(series.dataset, rows.columns), rows.tuples()))
        if ticks[-1][0] - ticks[0][0] + 1 == len(ticks):
            fresh = [Run.of(ticks)]
        else:
            cuts = [at for at, (a, b) in enumerate(pairwise(ticks), 1) if b[0] != a[0] + 1]
            fresh = [Run.of(ticks[low:high]) for low, high in pairwise([0, *cuts, len(ticks)])]
        self._runs[series], claims = joined(self._runs.get(series, []), fresh)
        return claims


@cache
def _id_and_time(name: str, columns: tuple[str, ...]) -> Callable[[Any], Any]:
    entry = dataset(name)
    return itemgetter(columns.index(entry.key[0]), columns.index(entry.time_column))


def _range(claim: Claim, now_us: int) -> CoverageRange:
    start_us, end_us, count, first_id, last_id = claim
    return CoverageRange(start_us, end_us, State.COMPLETE, count, first_id, last_id, checked_at_us=now_us)


def _hole(lost: Lost, now_us: int) -> CoverageRange:
    """What was lost is due at once where REST or the archive may have it; else it is `unavailable`."""
    evidence = Evidence(note=lost.why or MISSED)
    if dataset(lost.series.dataset).is_streamed_only or lost.is_for_good:
        return CoverageRange(lost.start_us, lost.end_us, State.UNAVAILABLE, 0, None, None, None, str(evidence), now_us)
    return hole(Stretch(lost.start_us, lost.end_us, evidence), now_us)


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
