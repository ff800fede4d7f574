"""What a look at ledger and rows finds, before any source is asked. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_binance.findings import Blame, Finding, FindingKind, Status
from airflow_provider_binance.market import grid_of
from airflow_provider_binance.records import CoverageRange, Series, Source, State
from airflow_provider_binance.reports import UNCOVERED
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.amounts import lacking, rows_in
from airflow_provider_binance.upkeep.known import known_defect
from airflow_provider_binance.upkeep.spans import Span, common, of_row, touch, united, without

#: What the ledger says of rows: while any of it is found in a stretch, the others are not mended.
_OF_LEDGER = frozenset(
    {
        FindingKind.ROWS_MISSING,
        FindingKind.ROWS_UNCOVERED,
        FindingKind.ROWS_IN_GAP,
        FindingKind.ROW_COUNT,
        FindingKind.LEDGER_LINE,
        FindingKind.GAP,
        FindingKind.HALT,
    }
)
_GAPS = frozenset({State.UNPUBLISHED, State.FAILED})
_HALTS = frozenset({State.EXCHANGE_GAP, State.UNAVAILABLE})


def ledgered(audit: Audit) -> Span | None:
    """From the first to the last instant that the ledger has ever had to do with; None if it never had."""
    starts = [r.start_us for r in audit.ranges if r.state is not State.NOT_LISTED]
    ends = [r.end_us for r in audit.ranges if r.state is not State.NOT_LISTED]
    starts += [line.start_us for line in audit.lines]
    ends += [line.end_us for line in audit.lines]
    if not starts:
        return None
    start, end = max(min(starts), audit.start_us), min(max(ends), audit.end_us)
    return (start, end) if start < end else None


def complete(audit: Audit) -> list[Span]:
    """What the ledger calls complete, within the window."""
    return _within(((r.start_us, r.end_us) for r in audit.ranges if r.state is State.COMPLETE), audit)


def uncovered(audit: Audit, bounds: Span | None) -> list[Span]:
    """What the ledger says nothing of within `bounds`."""
    if bounds is None:
        return []
    return without([bounds], [(r.start_us, r.end_us) for r in audit.ranges])


def ledger_findings(series: Series, audit: Audit, *, adopt: bool = False) -> list[Finding]:
    """Everything that ledger and rows tell by themselves. With `adopt`, rows of before the ledger count as its own, so
    that holes between them are gaps."""
    bounds = ledgered(audit)
    if adopt and audit.islands:
        known = [bounds] if bounds else []
        everything = united([*known, *audit.islands])
        bounds = everything[0][0], everything[-1][1]
    return sorted(
        (
            *_missing(series, audit),
            *_outside(series, audit, ledgered(audit)),
            *_strays(series, audit),
            *_counts(series, audit),
            *_unlogged(series, audit),
            *_gaps(series, audit, bounds),
            *_broken(series, audit),
            *_overfull(series, audit),
        ),
        key=lambda finding: (finding.start_us, finding.end_us),
    )


def afterwards(before: Iterable[Finding], now: Sequence[Finding]) -> list[Finding]:
    """Findings of one series with what became of them, told by those of a second look: what is not found again is
    fixed, and a gap that the ledger explains now is explained, and Binance's."""
    settled = []
    for finding in before:
        if finding.status is not Status.OPEN:
            settled.append(finding)
            continue
        left = [
            other
            for other in now
            if touch((finding.start_us, finding.end_us), [(other.start_us, other.end_us)])
            and (other.kind is finding.kind or {other.kind, finding.kind} <= _OF_LEDGER)
        ]
        if any(other.status is Status.OPEN for other in left):
            settled.append(finding)
        elif explained := [other for other in left if other.kind is FindingKind.HALT]:
            evidence = explained[0].evidence
            settled.append(replace(finding, blame=Blame.BINANCE, status=Status.EXPLAINED, evidence=evidence))
        else:
            settled.append(replace(finding, status=Status.FIXED))
    return settled


def _missing(series: Series, audit: Audit) -> Iterator[Finding]:
    for start, end, rows in lacking(series, audit, complete(audit)):
        state = next((str(r.state) for r in audit.ranges if r.start_us <= start < r.end_us), str(State.COMPLETE))
        evidence: dict[str, Any] = {"ledger": state, "rows_expected": rows, "rows_found": 0}
        if not series.interval:
            evidence["ids"] = [
                [h.first_id, h.last_id] for h in audit.lacking if h.first_id and start <= h.start_us < end
            ][:4]
        yield Finding(series, start, end, FindingKind.ROWS_MISSING, Blame.OURS, rows=rows, evidence=evidence)


def _outside(series: Series, audit: Audit, bounds: Span | None) -> Iterator[Finding]:
    """Rows that no complete range has."""
    left = without(audit.islands, complete(audit))
    for known in audit.ranges:
        if known.state is State.COMPLETE:
            continue
        for start, end in common(left, [(known.start_us, known.end_us)]):
            evidence = {"ledger": str(known.state), **_told(known.evidence)}
            yield Finding(
                series, start, end, FindingKind.ROWS_IN_GAP, Blame.OURS, rows=rows_in(series, audit, start, end),
                evidence=evidence,
            )  # fmt: skip
    inside = [bounds] if bounds else []
    for start, end in without(left, [(r.start_us, r.end_us) for r in audit.ranges]):
        beyond = without([(start, end)], [*inside, *_untold(audit)])
        for is_known, parts in ((True, common([(start, end)], inside)), (False, beyond)):
            for a, b in parts:
                logged = sorted({line.source_ref for line in audit.lines if line.start_us < b and line.end_us > a})
                evidence = {"ledger": UNCOVERED, **({"logged": logged[:4]} if logged else {})}
                if not is_known:
                    evidence["note"] = "there before the ledger, or written past it: --adopt takes them over"
                yield Finding(
                    series, a, b, FindingKind.ROWS_UNCOVERED, Blame.OURS, rows=rows_in(series, audit, a, b),
                    evidence=evidence,
                )  # fmt: skip


def _untold(audit: Audit) -> list[Span]:
    """Where rows are that a stream brought and tells the ledger of with what follows: the instant in which it began,
    and what came behind the end of what it told."""
    told = united(complete(audit))
    if not told:
        return []
    start, end = told[0][0], told[-1][1]
    return common([(start - 1, start), (end, audit.end_us)], [one for one in audit.flushed if touch(one, told)])


def _strays(series: Series, audit: Audit) -> Iterator[Finding]:
    grid = grid_of(series.interval)
    for at in audit.strays:
        yield Finding(series, *of_row(grid, at), FindingKind.OFF_GRID, Blame.UNKNOWN, rows=1)
    for start, end, rows, *ids in audit.misplaced:
        yield Finding(series, start, end, FindingKind.OFF_GRID, Blame.UNKNOWN, rows=rows, evidence={"ids": ids})
    if audit.misdated:
        span = ledgered(audit) or (audit.start_us, audit.end_us)
        yield Finding(series, *span, FindingKind.ROWS_MISDATED, Blame.OURS, rows=audit.misdated)


def _counts(series: Series, audit: Audit) -> Iterator[Finding]:
    """Coverage that counts wrongly although its rows are there (where they are not, that is the finding)."""
    grid = grid_of(series.interval)
    missing = [(start, end) for start, end, _ in lacking(series, audit, complete(audit))]
    for known in audit.ranges:
        evidence: dict[str, Any] = {"ledger": str(known.state), "row_count": known.row_count}
        wanted = grid.count(known.start_us, known.end_us) if known.state is State.COMPLETE else 0
        is_right = known.row_count == wanted
        if not series.interval:
            wanted, is_right = _counted(known, audit)
            evidence["ids"] = [known.first_id, known.last_id]
        if is_right or common([(known.start_us, known.end_us)], missing):
            continue
        evidence["rows_expected"] = wanted
        yield Finding(
            series, known.start_us, known.end_us, FindingKind.ROW_COUNT, Blame.OURS, rows=wanted, evidence=evidence
        )


def _counted(known: CoverageRange, audit: Audit) -> tuple[int, bool]:
    """How many rows a range of ids should count, and whether it says so, and between which ids they are."""
    told = next((held for held in audit.counted if held.start_us == known.start_us), None)
    if told is None:
        return known.row_count, True
    if known.state is not State.COMPLETE:
        return told.rows, told.rows >= known.row_count  # what is too much is told of by itself
    says, should = (known.first_id, known.last_id), (told.first_id, told.last_id)
    return told.rows, known.row_count == told.rows and (None in should or says == should)


def _unlogged(series: Series, audit: Audit) -> Iterator[Finding]:
    """Complete ranges that no line of `ingest_log` brought; of a confirmed one, the line must name the file's hash."""
    every = united([*((line.start_us, line.end_us) for line in audit.lines), *audit.flushed])
    by_file: dict[str, list[Span]] = {}
    for line in audit.lines:
        if line.source is Source.ARCHIVE and line.sha256:
            by_file.setdefault(line.sha256, []).append((line.start_us, line.end_us))
    for known in audit.ranges:
        if known.state is not State.COMPLETE:
            continue
        logged = united(by_file.get(known.confirmed_by, ())) if known.confirmed_by else every
        for start, end in without(_within([(known.start_us, known.end_us)], audit), logged):
            evidence = {"ledger": "complete", "confirmed_by": known.confirmed_by}
            yield Finding(
                series, start, end, FindingKind.LEDGER_LINE, Blame.OURS, rows=rows_in(series, audit, start, end),
                evidence=evidence,
            )  # fmt: skip


def _gaps(series: Series, audit: Audit, bounds: Span | None) -> Iterator[Finding]:
    for known in audit.ranges:
        for start, end in _within([(known.start_us, known.end_us)], audit):
            evidence = {"ledger": str(known.state), **_told(known.evidence)}
            note = known_defect(series, start, end)
            if note:
                evidence["known"] = note
            if known.state in _HALTS:
                yield Finding(series, start, end, FindingKind.HALT, Blame.BINANCE, Status.EXPLAINED, evidence=evidence)
            elif known.state in _GAPS:
                blame = Blame.BINANCE if note else Blame.UNKNOWN
                yield Finding(series, start, end, FindingKind.GAP, blame, evidence=evidence)
    for start, end in without(uncovered(audit, bounds), audit.islands):
        yield Finding(series, start, end, FindingKind.GAP, Blame.OURS, evidence={"ledger": UNCOVERED})


def _broken(series: Series, audit: Audit) -> Iterator[Finding]:
    grid = grid_of(series.interval)
    for at, rules, _ in audit.broken:
        if rules:
            evidence = {"broken": list(rules)}
            yield Finding(series, *of_row(grid, at), FindingKind.RULE_BROKEN, Blame.UNKNOWN, rows=1, evidence=evidence)


def _overfull(series: Series, audit: Audit) -> Iterator[Finding]:
    """Neighbouring rows with values in the same columns that the market has not."""
    grid = grid_of(series.interval)
    last: Finding | None = None
    for at, _, columns in audit.broken:
        if not columns:
            continue
        start, end = of_row(grid, at)
        if last is not None and last.end_us == start and last.evidence["columns"] == list(columns):
            last = replace(last, end_us=end, rows=last.rows + 1)
            continue
        if last is not None:
            yield last
        evidence = {"columns": list(columns), "note": f"{series.market} has no such columns"}
        last = Finding(series, start, end, FindingKind.COLUMN_FOREIGN, Blame.OURS, rows=1, evidence=evidence)
    if last is not None:
        yield last


def _within(spans: Iterable[Span], audit: Audit) -> list[Span]:
    return common(spans, [(audit.start_us, audit.end_us)])


def _told(evidence: str) -> dict[str, Any]:
    """The ledger's evidence as facts."""
    if not evidence:
        return {}
    try:
        loaded = json.loads(evidence)
    except ValueError:
        return {"note": evidence}
    return loaded if isinstance(loaded, dict) else {"note": evidence}
