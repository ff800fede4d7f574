"""How many rows of a series a stretch has or should have: told by its grid, or by what was counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_binance.market import grid_of
from airflow_provider_binance.records import Series
from airflow_provider_binance.store.inspection import Audit, Held
from airflow_provider_binance.upkeep.spans import Span, touch, united, without


def rows_in(series: Series, audit: Audit, start_us: int, end_us: int) -> int:
    """How many rows there are within what `audit` calls filled."""
    if series.interval:
        return grid_of(series.interval).count(start_us, end_us)
    return _sum(audit.held, (start_us, end_us))


def lacking(series: Series, audit: Audit, complete: Iterable[Span]) -> Iterator[tuple[int, int, int]]:
    """Stretches without rows that the ledger has, and how many; `complete`: what it calls so."""
    if series.interval:
        for start, end in without(complete, audit.islands):
            yield start, end, grid_of(series.interval).count(start, end)
        return
    for span in united((held.start_us, held.end_us) for held in audit.lacking):
        yield *span, _sum(audit.lacking, span)


def _sum(parts: Iterable[Held], span: Span) -> int:
    return sum(held.rows for held in parts if touch(span, [(held.start_us, held.end_us)]))
