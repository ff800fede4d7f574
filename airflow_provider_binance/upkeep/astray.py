"""Rows at times at which Binance cannot have had any: before it began, after now, beyond the calendar. Pure.

No source need be asked about them, and most could not be: they answer such times with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from airflow_provider_binance.findings import Blame, Finding, FindingKind
from airflow_provider_binance.market import grid_of
from airflow_provider_binance.records import Series
from airflow_provider_binance.store.inspection import NOTHING_BEYOND, Audit, Held
from airflow_provider_binance.tasks import GENESIS_US
from airflow_provider_binance.upkeep.amounts import rows_in
from airflow_provider_binance.upkeep.ledger import complete
from airflow_provider_binance.upkeep.spans import MOMENT_US, Span, common, of_row, touch, united, without
from airflow_provider_binance.windows import LATEST_US

_NOTES = {"past": "before Binance began", "future": "after now"}


def may_be_late(audit: Audit) -> bool:
    """Whether only the time can tell if a row is one of the future: the ledger has not seen it pass."""
    known_us = max((r.checked_at_us for r in audit.ranges), default=0)
    ends = [end for _, end in without(audit.islands, complete(audit))]
    return max([*ends, *audit.strays], default=0) > known_us


def astray(series: Series, audit: Audit, now_us: int | None) -> tuple[Audit, list[Finding]]:
    """The audit without such rows, and what is found of them; `now_us`: the time after the look, None if not known.

    What the ledger has of the future is left to the ledger: it was written while the clock was asked.
    """
    grid = grid_of(series.interval)
    spans = {"past": [(min(audit.start_us, GENESIS_US), GENESIS_US)]}
    if now_us is not None:
        ahead = [(grid.ceil(now_us), LATEST_US + grid.size_us)]
        spans["future"] = without(ahead, [*complete(audit), *((line.start_us, line.end_us) for line in audit.lines)])
    taken = united(span for each in spans.values() for span in each)
    findings = [
        Finding(series, start, end, FindingKind.ROWS_FOREIGN, Blame.OURS, rows=rows, evidence={"note": _NOTES[when]})
        for when, out in spans.items()
        for start, end, rows in _rows_in(series, audit, out)
    ]
    if audit.beyond.rows:
        evidence = {"note": "beyond the calendar", "times": list(audit.beyond.times)}
        beyond = Finding(
            series, LATEST_US - MOMENT_US, LATEST_US, FindingKind.ROWS_FOREIGN, Blame.OURS, rows=audit.beyond.rows,
            evidence=evidence,
        )  # fmt: skip
        findings.append(beyond)
    sound = replace(
        audit,
        islands=tuple(without(audit.islands, taken)),
        strays=tuple(at for at in audit.strays if not touch((at, at + 1), taken)),
        broken=tuple(broken for broken in audit.broken if not touch((broken.at_us, broken.at_us + 1), taken)),
        beyond=NOTHING_BEYOND,
    )
    return sound, findings


def is_beyond(finding: Finding) -> bool:
    """Whether it tells of rows whose time no window has."""
    return finding.end_us == LATEST_US and finding.start_us == LATEST_US - MOMENT_US


def held_by(finding: Finding) -> Held:
    """The rows that it tells of."""
    return Held(finding.start_us, finding.end_us, finding.rows)


def _rows_in(series: Series, audit: Audit, spans: Iterable[Span]) -> Iterator[tuple[int, int, int]]:
    """Rows of the audit within `spans`, as stretches with their number."""
    grid, spans = grid_of(series.interval), list(spans)
    for start, end in common(audit.islands, spans):
        yield start, end, rows_in(series, audit, start, end)
    for at in audit.strays:
        if touch((at, at + 1), spans):
            yield (*of_row(grid, at), 1)
