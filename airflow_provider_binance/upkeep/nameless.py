"""Rows and lines that belong to no series of Binance's: told, and given their name back where it is plain."""

from __future__ import annotations

from airflow_provider_binance.findings import Blame, Finding, FindingKind, Status
from airflow_provider_binance.records import Series
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.upkeep.choosing import Wanted, strangeness, unknown


def orphaned(store: Store, dataset: str, *, fix: bool) -> list[Finding]:
    """What is found of rows without a line of `series`; with `fix` they get it back where it is plain which it was."""
    found = []
    for orphans in store.orphans(dataset):
        series = orphans.series or Series("", dataset, f"series_id={orphans.series_id}", "")
        status = Status.FIXED if fix and store.name_orphans(orphans) else Status.OPEN
        evidence: dict[str, object] = {"series_id": orphans.series_id}
        if status is Status.OPEN:
            evidence["note"] = (
                "--fix gives them their line of `series` back"
                if orphans.series
                else "whose they were is not known: insert their line of `series`, or delete them by their series_id"
            )
        span = orphans.first_us, max(orphans.last_us, orphans.first_us + 1)
        found.append(Finding(series, *span, FindingKind.ROWS_ORPHANED, Blame.OURS, status, orphans.rows, evidence))
    return found


def unknown_series(store: Store, words: Wanted) -> list[Finding]:
    """What is found of series whose market or interval is none of Binance's."""
    found = []
    for series, (start_us, end_us) in unknown(store, words).items():
        evidence = {"note": f"{strangeness(series)}; correct the line of `series`, or delete it and its rows"}
        span = start_us, max(end_us, start_us + 1)
        found.append(Finding(series, *span, FindingKind.SERIES_UNKNOWN, Blame.OURS, evidence=evidence))
    return found
