"""Minutes into hours, days, weeks: which longer klines of a symbol are to be added up from which shorter ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_binance.findings import Blame, Finding, FindingKind
from airflow_provider_binance.market import INTERVALS, MINUTE_US
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.spans import united


@dataclass(frozen=True, slots=True)
class Summed:
    """One series added up from another: how many klines were compared, and which are not the sum of their parts."""

    base: Series
    target: Series
    compared: int
    findings: list[Finding]


def add_up(store: Store, audits: Mapping[Series, Audit]) -> list[Summed]:
    """Add up every longer series of one symbol from its minutes, or from the shortest there is above them.

    Seconds are added up to minutes only: what they make of an hour, its minutes make too.
    """
    if not audits or dataset(next(iter(audits)).dataset).rollup is None:
        return []
    series = sorted((s for s, audit in audits.items() if audit.islands), key=lambda s: INTERVALS[s.interval].size_us)
    found: list[Summed] = []
    seconds = [s for s in series if INTERVALS[s.interval].size_us < MINUTE_US]
    longer = series[len(seconds) :]
    if seconds and longer:
        found += _from(store, seconds[0], longer[:1], audits)
    if longer:
        found += _from(store, longer[0], longer[1:], audits)
    return found


def _from(store: Store, base: Series, targets: list[Series], audits: Mapping[Series, Audit]) -> list[Summed]:
    if not targets:
        return []
    islands = united(audits[base].islands)
    start = max(islands[0][0], min(audits[target].start_us for target in targets))
    end = min(islands[-1][1], max(audits[target].end_us for target in targets))
    found = []
    for target, compared, differing in store.rollup(base, targets, start, end):
        grid, audit = INTERVALS[target.interval], audits[target]
        findings = [
            Finding(
                target,
                rolled.at_us,
                grid.next_open(rolled.at_us),
                FindingKind.ROLLUP,
                Blame.UNKNOWN,
                rows=1,
                evidence={
                    "from": base.interval,
                    "columns": {name: {"stored": a, "sum": b} for name, (a, b) in rolled.columns.items()},
                },
            )
            for rolled in differing
            if audit.start_us <= rolled.at_us < audit.end_us
        ]
        found.append(Summed(base, target, compared, findings))
    return found
