"""What a load did to a series, as the ledger tells it afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from airflow_provider_binance.coverage import stretches
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.reports import RangeReport, SeriesLoad
from airflow_provider_binance.store.base import Store
from airflow_provider_binance.tasks import Planned


def pieces(ranges: Sequence[CoverageRange], start_us: int, end_us: int) -> list[RangeReport]:
    """The window as it is known, piece by piece."""
    return [RangeReport(*piece) for piece in stretches((start_us, end_us), ranges)] if start_us < end_us else []


def load_reports(store: Store, planned: Sequence[Planned]) -> Iterator[SeriesLoad]:
    """What was done to each series; the ledger is read again, at once, for those alone that had something to do."""
    changed = [entry for entry in planned if entry.tasks or entry.not_listed or not entry.ranges]
    ledger: dict[Series, list[CoverageRange]] = {}
    if changed:
        start_us, end_us = min(entry.start_us for entry in changed), max(entry.end_us for entry in changed)
        ledger = store.coverage(changed[0].series.dataset, [entry.series for entry in changed], start_us, end_us)
    for entry in planned:
        yield load_report(entry, ledger.get(entry.series, entry.ranges))


def raise_refused(planned: Iterable[Planned]) -> None:
    """Raise what Binance refused first while series were planned, if it did."""
    for entry in planned:
        if entry.error is not None:
            raise entry.error


def load_report(entry: Planned, ranges: Sequence[CoverageRange]) -> SeriesLoad:
    """The counts of the entry's tasks, and every piece of its window that by `ranges` has no rows."""
    series = entry.series
    gaps = [gap for gap in pieces(ranges, entry.start_us, entry.end_us) if gap.state != State.COMPLETE]
    report = SeriesLoad(series, entry.start_us, entry.end_us, gaps=tuple(gaps), error=str(entry.error or ""))
    for task in entry.tasks:
        tally = task.tally
        report = replace(
            report,
            counts=report.counts + tally.counts,
            archive_files=report.archive_files + tally.archive_files,
            rest_requests=report.rest_requests + tally.rest_requests,
            weight_used=report.weight_used + tally.weight_used,
            bytes_downloaded=report.bytes_downloaded + tally.bytes_downloaded,
            archive_lacks=report.archive_lacks + tuple(tally.lacking),
            seconds=report.seconds + tally.seconds,
            error=report.error or str(task.error or ""),
        )
    return report
