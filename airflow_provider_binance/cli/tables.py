"""Reports as people read them: small tables, gaps with their reason, and one closing line that says what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_binance.evidence import Evidence, next_check
from airflow_provider_binance.market import DAY_US, HOUR_US, MINUTE_US, SECOND_US, from_us
from airflow_provider_binance.plot import percent
from airflow_provider_binance.records import Series, State
from airflow_provider_binance.reports import (
    UNCOVERED,
    CoverageReport,
    LackReport,
    LoadReport,
    PieceReport,
    PlanReport,
    RangeReport,
    SeriesLoad,
)

if TYPE_CHECKING:
    from airflow_provider_binance.doctor import DoctorReport

#: What a state means to someone who has not read the documentation.
REASONS: dict[str, str] = {
    State.EXCHANGE_GAP: "Binance has no rows there",
    State.NOT_LISTED: "not listed at that time",
    State.UNAVAILABLE: "Binance offers it nowhere",
    State.RETIRED: "given up on purpose",
    State.UNPUBLISHED: "Binance gave no rows yet, not believed before it is confirmed",
    State.FAILED: "fetching failed",
    UNCOVERED: "not loaded yet",
}
_SHOWN_PIECES = 30
_SHOWN_GAPS = 50


def load_lines(report: LoadReport) -> Iterator[str]:
    """What a load did, for people."""
    yield from load_rows(report.loads)
    yield from _gaps((load.series, gap) for load in report.loads for gap in load.gaps)
    yield from _lacks((load.series, lack) for load in report.loads for lack in load.archive_lacks)
    yield ""
    kept = report.counts.rows_kept
    if kept:
        yield f"{plural(kept, 'row')} differed from the source and were kept: a source of higher rank gave them."
    yield _load_verdict(report)


def doctor_lines(report: DoctorReport) -> Iterator[str]:
    """The checks, each failure and warning with its remedy, and how many failed."""
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        word = ("warn" if check.remedy else "ok") if check.ok else "FAIL"
        yield f"{word:<4}  {check.name:<{width}}  {check.detail}"
        if check.remedy:
            yield f"{'':<{width + 6}}→ {check.remedy}"
    failed = [check.name for check in report.checks if not check.ok]
    yield ""
    yield f"{plural(len(failed), 'check')} failed: {', '.join(failed)}." if failed else "Nothing stands in the way."


def _lacks(found: Iterable[tuple[Series, LackReport]]) -> Iterator[str]:
    lacks = list(found)
    if not lacks:
        return
    yield ""
    yield "rows that the archive's files lack, kept since another source has them:"
    rows = [
        (str(series), span(lack.start_us, lack.end_us), f"{lack.rows:,}", ", ".join(lack.files))
        for series, lack in lacks[:_SHOWN_GAPS]
    ]
    yield from table((), rows, "<<><")
    if len(lacks) > _SHOWN_GAPS:
        yield f"… and {len(lacks) - _SHOWN_GAPS} more stretches (--json has them all)"


def load_rows(loads: Sequence[SeriesLoad]) -> Iterator[str]:
    """The table of what loads did, series by series."""
    rows = [
        (
            str(load.series),
            span(load.start_us, load.end_us),
            *(f"{n:,}" for n in (load.counts.rows_read, load.counts.rows_inserted, load.counts.rows_updated)),
            f"{load.counts.rows_unchanged:,}",
            _sources(load),
        )
        for load in loads
    ]
    yield from table(("series", "window (UTC)", "read", "inserted", "updated", "unchanged", "from"), rows, "<<>>>><")


def _load_verdict(report: LoadReport) -> str:
    if not report.loads:
        return "Nothing to do: no series is selected."
    if left := report.unexplained:
        states = sorted({str(gap.state) for _, gap in left})
        names = some(sorted({str(series) for series, _ in left}))
        return (
            f"Not finished: {plural(len(left), 'gap')} unexplained ({', '.join(states)}) in {names}. "
            f"{_next_step([gap for _, gap in left])}"
        )
    if all(load.start_us >= load.end_us for load in report.loads):
        return "Nothing to do: no kline of the window has closed yet."
    counts = report.counts
    if not counts.rows_read and not any(load.archive_files or load.rest_requests for load in report.loads):
        return "Nothing to do: everything was there already; nothing was fetched."
    explained = sum(len(load.gaps) for load in report.loads)
    tail = f"; {plural(explained, 'gap')} explained" if explained else ""
    return f"Complete: {plural(counts.rows_inserted, 'row')} inserted, {counts.rows_updated:,} updated{tail}."


def _next_step(gaps: Sequence[RangeReport]) -> str:
    asked = [Evidence.parse(gap.evidence) for gap in gaps if gap.state == State.UNPUBLISHED]
    if any(gap.state == State.FAILED for gap in gaps):
        return "Run the same command again after a quarter of an hour, or at once with --reload."
    if len(asked) < len(gaps):
        return "Run the same command again; what is there already is not fetched again."
    times = [next_check(evidence, evidence.rest[-1]) for evidence in asked if evidence.rest]
    when = f"after {_moment(-(-min(times) // MINUTE_US) * MINUTE_US, whole=False)} UTC" if times else "later"
    return f"Run the same command again {when}: a gap is believed once the archive, or an answer 24 h later, agrees."


def _sources(load: SeriesLoad) -> str:
    parts = []
    if load.archive_files:
        parts.append(f"{plural(load.archive_files, 'archive file')}, {size(load.bytes_downloaded)}")
    if load.rest_requests:
        parts.append(f"{plural(load.rest_requests, 'REST request')}, weight {load.weight_used}")
    return "; ".join(parts) or "-"


def plan_lines(report: PlanReport) -> Iterator[str]:
    """What a load would do, for people."""
    for plan in report.plans:
        yield f"{plan.series}  {span(plan.start_us, plan.end_us)}"
        if not plan.pieces:
            yield "  nothing to fetch"
        shown = plan.pieces if len(plan.pieces) <= _SHOWN_PIECES else plan.pieces[: _SHOWN_PIECES - 1]
        rows = [(span(p.start_us, p.end_us), p.source, p.ref, _cost(p)) for p in shown]
        yield from (f"  {line}" for line in table((), rows, "<<<<"))
        if len(plan.pieces) > len(shown):
            yield f"  … and {len(plan.pieces) - len(shown)} more pieces (--json has them all)"
    yield from (f"note: {note}" for note in report.notes)
    yield ""
    totals = report.totals()
    pieces = sum(len(plan.pieces) for plan in report.plans)
    if not pieces:
        yield "Nothing to fetch: everything is there already."
        return
    yield (
        f"Total: {plural(pieces, 'piece')}; {plural(int(totals['files']), 'archive file')}, "
        f"{size(totals['bytes'])}; {plural(int(totals['requests']), 'REST request')}, weight {totals['weight']:,.0f}; "
        f"about {duration(int(totals['seconds'] * SECOND_US))}. Nothing was fetched; `load` does it."
    )


def _cost(piece: PieceReport) -> str:
    if piece.files:
        return f"{plural(piece.files, 'file')}, {size(piece.bytes)}"
    return f"{plural(piece.requests, 'request')}, weight {piece.weight}"


def coverage_lines(report: CoverageReport) -> Iterator[str]:
    """What is there, for people."""
    if not report.coverage:
        yield "Nothing is there: the store knows no such series. `load` brings it."
        return
    rows = [
        (
            str(entry.series),
            span(entry.start_us, entry.end_us),
            f"{entry.rows:,}",
            "-" if entry.expected is None else f"{entry.expected:,}",
            percent(entry.rows, entry.expected),
        )
        for entry in report.coverage
    ]
    yield from table(("series", "window (UTC)", "rows", "expected", "complete"), rows, "<<>>>")
    stretches = [(entry.series, stretch) for entry in report.coverage for stretch in entry.ranges]
    yield from _gaps((series, gap) for series, gap in stretches if gap.state != State.COMPLETE)
    yield ""
    left = [(series, gap) for series, gap in stretches if not gap.is_explained]
    if left:
        names = some(sorted({str(series) for series, _ in left}))
        yield f"{plural(len(left), 'gap')} unexplained in {names}: `load` with the same selection goes on there."
    else:
        yield "Complete: every instant of the window has its rows or a reason why not."


def merged_by_state(report: CoverageReport) -> CoverageReport:
    """The same report with neighbouring ranges of one state as one; their evidence, each text once, stays."""
    return CoverageReport(tuple(replace(entry, ranges=_merged(entry.ranges)) for entry in report.coverage))


def _merged(ranges: Sequence[RangeReport]) -> tuple[RangeReport, ...]:
    merged: list[RangeReport] = []
    for stretch in sorted(ranges, key=lambda r: r.start_us):
        last = merged[-1] if merged else None
        if last is None or last.state != stretch.state or last.end_us != stretch.start_us:
            merged.append(stretch)
            continue
        evidence = _both(last.evidence, stretch.evidence)
        merged[-1] = replace(last, end_us=stretch.end_us, evidence=evidence)
    return tuple(merged)


def _both(one: str, other: str) -> str:
    if one == other or not other:
        return one
    a, b = Evidence.parse(one), Evidence.parse(other)
    return str(
        Evidence(
            archive=tuple(dict.fromkeys(a.archive + b.archive)),
            corrupt=tuple(dict.fromkeys(a.corrupt + b.corrupt)),
            rest=tuple(sorted({*a.rest, *b.rest})),
            note="; ".join(dict.fromkeys(filter(None, (a.note, b.note)))),
        )
    )


def _because(evidence: str) -> str:
    """The evidence in words, in brackets; nothing for none."""
    facts = Evidence.parse(evidence)
    parts = []
    if facts.archive:
        parts.append(f"not in {some(facts.archive, 2)}")
    if facts.corrupt:
        parts.append(f"unreadable: {some(facts.corrupt, 2)}")
    if facts.rest:
        asked = sorted({facts.rest[0], facts.rest[-1]})
        parts.append("no rows by REST at " + " and ".join(_moment(at - at % SECOND_US, whole=False) for at in asked))
    if facts.note:
        parts.append(facts.note)
    return f" ({'; '.join(parts)})" if parts else ""


def span(start_us: int, end_us: int) -> str:
    """`2024-01-01 … 2024-02-01`, with times of day only where there are any."""
    whole = not (start_us % DAY_US or end_us % DAY_US)
    return f"{_moment(start_us, whole=whole)} … {_moment(end_us, whole=whole)}"


def _moment(at_us: int, *, whole: bool) -> str:
    at = from_us(at_us)
    if whole:
        return f"{at:%Y-%m-%d}"
    if at_us % SECOND_US:
        return f"{at:%Y-%m-%d %H:%M:%S.%f}".rstrip("0")
    return f"{at:%Y-%m-%d %H:%M:%S}" if at_us % MINUTE_US else f"{at:%Y-%m-%d %H:%M}"


def duration(span_us: int) -> str:
    """`80 min`, `3.5 h`, `12 d`: one unit, as people say it."""
    for unit_us, unit in ((DAY_US, "d"), (HOUR_US, "h"), (MINUTE_US, "min")):
        if span_us >= 2 * unit_us:
            return f"{span_us / unit_us:.1f}".removesuffix(".0") + f" {unit}"
    return f"{span_us / SECOND_US:.1f}".removesuffix(".0") + " s"


def size(count: float) -> str:
    """`12.3 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _gaps(gaps: Iterable[tuple[Series, RangeReport]]) -> Iterator[str]:
    found = list(gaps)
    if not found:
        return
    yield ""
    yield f"gaps: {len(found):,}"
    # What needs doing comes first, and is never cut off.
    found.sort(key=lambda pair: pair[1].is_explained)
    unexplained = sum(not gap.is_explained for _, gap in found)
    shown = found[: max(_SHOWN_GAPS, unexplained)]
    rows = [
        (
            str(series),
            span(gap.start_us, gap.end_us),
            duration(gap.end_us - gap.start_us),
            f"{gap.state}: {REASONS.get(gap.state, '')}{_because(gap.evidence)}",
        )
        for series, gap in shown
    ]
    yield from (f"  {line}" for line in table((), rows, "<<><"))
    if len(found) > len(shown):
        yield f"  … and {len(found) - len(shown):,} more (--json has them all)"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    """The rows in columns; `align` has `<` or `>` for each."""
    lines = [header, *rows] if header else list(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(align))] if lines else []
    for line in lines:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True))
        yield "  ".join(cells).rstrip()


def some(names: Sequence[str], most: int = 5) -> str:
    """`a, b and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
