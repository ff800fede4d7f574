"""Whose doing a difference is: what the source told, what the ledger says of the rows, and what the other source says.

Pure. A row that differs is ours when the file that the ledger names says otherwise, byte for byte the same file; it is
Binance's when that file was replaced, or when the two sources disagree. What nobody can decide stays unknown, and
nothing of it is taken out of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_binance.findings import Blame, Finding, FindingKind, Status
from airflow_provider_binance.market import grid_of
from airflow_provider_binance.records import CoverageRange, Series, Source, State
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.runs import Run, Told, Way
from airflow_provider_binance.upkeep.spans import Span, common, touch, without


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding and the runs behind it. `foreign`: its rows are to be taken out; `from_told`: the rows are to come from
    whom the run names, not from where they came."""

    finding: Finding
    runs: tuple[Run, ...] = ()
    foreign: bool = False
    from_told: bool = False


def known_at(audit: Audit, at_us: int) -> CoverageRange | None:
    """What the ledger says of an instant."""
    return next((r for r in audit.ranges if r.start_us <= at_us < r.end_us), None)


def asks(run: Run, audit: Audit) -> Source | None:
    """The other source, if its word is needed to decide."""
    known = known_at(audit, run.start_us)
    is_complete = known is not None and known.state is State.COMPLETE
    confirmed = known.confirmed_by if known is not None and is_complete else None
    if run.way is Way.LACKING:
        return None
    if run.told.source is Source.ARCHIVE:
        if confirmed is not None or (run.way is Way.DIFFERS and not is_complete):
            return None
        return Source.REST
    return Source.ARCHIVE if confirmed is not None or run.way is Way.EXTRA else None


def judge(run: Run, audit: Audit, others: Sequence[Run], answered: Sequence[Span]) -> Iterator[Judged]:
    """What follows from a run. `others`: what the other source, asked about it, told otherwise than the store;
    `answered`: the part of the run about which it said anything."""
    known = known_at(audit, run.start_us)
    if run.way is Way.LACKING:
        yield from _lacking(run, known, audit)
    elif asks(run, audit) is None or not common([run.span], answered):
        yield _alone(run, audit, known)
    else:
        yield from _of_two(run, others, known)


def undecided(run: Run) -> Judged:
    """What is left of a run where the other source, whose word was needed, refused to answer."""
    kind = {Way.DIFFERS: FindingKind.VALUE, Way.LACKING: FindingKind.PUBLISHED_LATE}.get(run.way) or _extra_kind(run)[0]
    evidence = {**_evidence(run), "note": "the other source could not be asked"}
    return Judged(_finding(run, kind, Blame.UNKNOWN, evidence=evidence), (run,))


def republished(series: Series, span: Span, told: Told, audit: Audit, runs: Iterable[Run]) -> Judged | None:
    """The finding that the file that confirmed a range was replaced, with the runs that say so; None if it was not."""
    named = {line.sha256 for line in audit.lines if line.source_ref == told.ref}
    old = [
        known
        for known in audit.ranges
        if known.confirmed_by in named - {told.sha256, None} and touch(span, [(known.start_us, known.end_us)])
    ]
    if not old:
        return None
    start, end = min(known.start_us for known in old), max(known.end_us for known in old)
    differing = tuple(run for run in runs if run.told == told and run.way is not Way.EXTRA)
    evidence = {
        "source": told.ref,
        "sha256": told.sha256,
        "was": sorted({str(known.confirmed_by) for known in old}),
        "rows": [row for run in differing for row in run.shown][:3],
    }
    status = Status.OPEN if differing else Status.EXPLAINED
    rows = sum(run.rows for run in differing)
    return Judged(
        Finding(series, start, end, FindingKind.REPUBLISHED, Blame.BINANCE, status, rows, evidence), differing
    )


def settled(finding: Finding, judged: Sequence[Judged], compared: Sequence[Span]) -> Finding:
    """A finding of the store's own, with what the sources have said about its rows since.

    `judged` and `compared` are those of every series that it rests on.
    """
    if finding.blame is not Blame.UNKNOWN or finding.kind is FindingKind.GAP or without([_span(finding)], compared):
        return finding
    against = [
        j.finding for j in judged if j.finding.status is Status.OPEN and touch(_span(finding), [_span(j.finding)])
    ]
    if any(other.blame is Blame.OURS for other in against):
        return replace(finding, blame=Blame.OURS)
    if against:
        return replace(finding, blame=against[0].blame)
    evidence = {**finding.evidence, "note": "the source says the same"}
    return replace(finding, blame=Blame.BINANCE, status=Status.EXPLAINED, evidence=evidence)


def _lacking(run: Run, known: CoverageRange | None, audit: Audit) -> Iterator[Judged]:
    """The source has rows that the store has not; where the ledger calls them there, that was found without asking,
    unless others were in their place and the count was right."""
    if known is None:
        return
    if known.state is State.COMPLETE:
        if run.first_id is not None and not without([run.span], audit.islands):
            yield Judged(_finding(run, FindingKind.ROWS_MISSING, Blame.OURS), (run,))
        return
    evidence = {"ledger": str(known.state), **_evidence(run)}
    blame = Blame.OURS if known.state is State.NOT_LISTED else Blame.BINANCE
    yield Judged(_finding(run, FindingKind.PUBLISHED_LATE, blame, evidence=evidence), (run,))


def _alone(run: Run, audit: Audit, known: CoverageRange | None) -> Judged:
    """One source has said all that is to be had."""
    is_complete = known is not None and known.state is State.COMPLETE
    confirmed = known.confirmed_by if known is not None and is_complete else None
    if run.way is Way.DIFFERS:
        if run.told.source is Source.ARCHIVE:
            is_same_file = confirmed == run.told.sha256
            blame = Blame.OURS if is_same_file or not is_complete else Blame.UNKNOWN
        else:
            blame = Blame.UNKNOWN if confirmed else Blame.OURS
        return Judged(_finding(run, FindingKind.VALUE, blame), (run,))
    kind, is_stray = _extra_kind(run)
    # By the ledger it does not belong there, or there is nothing at all, and the file has not got it either.
    is_denied = run.first_id is not None and known is not None and (is_stray or not is_complete)
    if run.told.source is Source.ARCHIVE and (confirmed == run.told.sha256 or is_denied):
        return Judged(_finding(run, kind, Blame.OURS), (run,), foreign=True)
    if run.told.source is Source.REST and (is_stray or not is_complete):
        return Judged(_finding(run, kind, Blame.OURS), (run,), foreign=True)
    if is_complete and not confirmed and not is_stray:
        # REST gave them once, and nobody can ask it again: kept, as every row that a file lacks and REST had.
        return Judged(_finding(run, FindingKind.SOURCES_DISAGREE, Blame.BINANCE, Status.EXPLAINED), ())
    return Judged(_finding(run, kind, Blame.UNKNOWN), (run,))


def _of_two(run: Run, others: Sequence[Run], known: CoverageRange | None) -> Iterator[Judged]:
    """Both sources have spoken."""
    apart = [other for other in others if touch(run.span, [other.span])]
    agreed = without([run.span], [other.span for other in apart])
    if run.way is Way.EXTRA:
        for other in apart:
            if other.way is Way.EXTRA:
                yield Judged(_finding(other, _extra_kind(other)[0], Blame.OURS, first=run), (other,), foreign=True)
            else:
                yield Judged(_finding(other, FindingKind.VALUE, Blame.OURS, first=run), (other,))
        yield from _agreed(run, agreed, Status.EXPLAINED)
    elif run.told.source is Source.REST:
        # The archive's word: where the store says the same, REST is the one that differs.
        for other in apart:
            is_same_file = known is not None and known.confirmed_by == other.told.sha256
            blame = Blame.OURS if is_same_file else Blame.UNKNOWN
            if other.way is Way.DIFFERS:
                yield Judged(_finding(other, FindingKind.VALUE, blame, first=run), (other,))
        yield from _agreed(run, agreed, Status.EXPLAINED)
    elif apart:
        # Neither the file nor REST has what is stored.
        yield Judged(_finding(run, FindingKind.VALUE, Blame.OURS), (run,))
    else:
        yield Judged(_finding(run, FindingKind.SOURCES_DISAGREE, Blame.BINANCE), (run,), from_told=True)


def _agreed(run: Run, spans: Sequence[Span], status: Status) -> Iterator[Judged]:
    for start, end in spans:
        finding = _finding(run, FindingKind.SOURCES_DISAGREE, Blame.BINANCE, status)
        rows = grid_of(run.series.interval).count(start, end) if run.series.interval else run.rows
        yield Judged(replace(finding, start_us=start, end_us=end, rows=rows))


def _extra_kind(run: Run) -> tuple[FindingKind, bool]:
    return (FindingKind.OFF_GRID if run.is_stray else FindingKind.ROWS_FOREIGN), run.is_stray


def _finding(
    run: Run, kind: FindingKind, blame: Blame, status: Status = Status.OPEN, *, first: Run | None = None,
    evidence: dict[str, Any] | None = None,
) -> Finding:  # fmt: skip
    told = evidence or _evidence(run)
    if first is not None:
        told = {**told, "also": first.told.ref}
    return Finding(run.series, run.start_us, run.end_us, kind, blame, status, run.rows, told)


def _evidence(run: Run) -> dict[str, Any]:
    told: dict[str, Any] = {"source": run.told.ref}
    if run.told.sha256:
        told["sha256"] = run.told.sha256
    if run.columns:
        told["columns"] = sorted(run.columns)
    if run.is_rest:
        told["note"] = "everything different behind what is told one by one"
    return {**told, "rows": run.shown}


def _span(finding: Finding) -> Span:
    return finding.start_us, finding.end_us
