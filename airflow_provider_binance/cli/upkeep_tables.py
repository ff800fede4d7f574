"""What `repair`, `verify` and `forget` found and did, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_binance.cli.tables import load_rows, plural, some, span, table
from airflow_provider_binance.findings import (
    MEANINGS,
    Blame,
    Finding,
    FindingKind,
    ForgetReport,
    RepairReport,
    Status,
    VerifyReport,
)

_SHOWN = 60
_WHOSE = {Blame.OURS: "ours", Blame.BINANCE: "Binance's", Blame.UNKNOWN: "unknown"}


def verify_lines(report: VerifyReport) -> Iterator[str]:
    """What was looked at, what was found, and what is to be done."""
    if not report.checked:
        yield "Nothing is there to verify: the store has no such series."
        return
    rows = [
        (
            str(entry.series),
            span(entry.start_us, entry.end_us),
            f"{entry.rows:,}",
            f"{entry.rolled_up:,}" if entry.rolled_up else "-",
            ", ".join(f"{source} {count:,}" for source, count in entry.compared.items()) or "-",
        )
        for entry in report.checked
    ]
    yield from table(("series", "window (UTC)", "rows", "added up", "compared with"), rows, "<<>><")
    yield from _findings(report.findings)
    yield ""
    yield _verdict(report.findings)


def repair_lines(report: RepairReport) -> Iterator[str]:
    """What was found and loaded."""
    if not report.loads:
        yield "Nothing is there to repair: the store has no such series."
        return
    done = [load for load in report.loads if load.counts.rows_read or load.archive_files or load.rest_requests]
    if done:
        yield from load_rows(done)
    yield from _findings(report.findings)
    if done or report.findings:
        yield ""
    counts = [load.counts for load in report.loads]
    inserted, updated = sum(c.rows_inserted for c in counts), sum(c.rows_updated for c in counts)
    if report.open:
        yield f"{_verdict(report.findings)} `verify` tells more."
    elif not done:
        yield "Nothing to repair: everything that is covered is there; nothing was fetched."
    else:
        yield f"Repaired: {plural(inserted, 'row')} inserted, {updated:,} updated; nothing is lacking."


def forget_lines(report: ForgetReport) -> Iterator[str]:
    """What is gone, or would be."""
    if not report.forgotten:
        yield "Nothing was forgotten."
        return
    rows = [
        (str(entry.series), *(f"{n:,}" for n in (entry.rows, entry.ranges, entry.lines, entry.corrections)))
        for entry in report.forgotten
    ]
    yield from table(("series", "rows", "coverage", "ingest_log", "corrections"), rows, "<>>>>")
    yield ""
    count = sum(entry.rows for entry in report.forgotten)
    if report.dry_run:
        yield f"Would delete {plural(count, 'row')} and the ledger of {series_of(report)}; nothing was deleted."
    else:
        yield f"Forgotten: {plural(count, 'row')} and the ledger of {series_of(report)}. `load` brings them back."


def series_of(report: ForgetReport) -> str:
    """The series in a few words."""
    return some([str(entry.series) for entry in report.forgotten], 3)


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        return
    yield ""
    counts = Counter((finding.kind, finding.blame, finding.status) for finding in findings)
    yield f"findings: {len(findings):,}"
    summary = [
        (f"{count:,}", str(kind), _WHOSE[blame], str(status), MEANINGS[kind])
        for (kind, blame, status), count in sorted(counts.items(), key=lambda item: (_urgency(item[0][2]), item[0]))
    ]
    yield from (f"  {line}" for line in table((), summary, "><<<<"))
    yield ""
    # What needs doing comes first.
    ordered = sorted(findings, key=lambda finding: _urgency(finding.status))
    shown = ordered[:_SHOWN]
    rows = [
        (
            str(finding.series),
            span(finding.start_us, finding.end_us),
            str(finding.kind),
            f"{_WHOSE[finding.blame]}, {finding.status}",
            " ".join(_told(finding)),
        )
        for finding in shown
    ]
    yield from (f"  {line}" for line in table((), rows, "<<<<<"))
    if len(ordered) > len(shown):
        yield f"  … and {len(ordered) - len(shown):,} more (--json has them all, --plot draws them)"


def _urgency(status: Status) -> int:
    return (Status.OPEN, Status.FIXED, Status.EXPLAINED).index(status)


def _told(finding: Finding) -> Iterable[str]:
    """The evidence in words."""
    evidence: Mapping[str, Any] = finding.evidence
    if finding.rows:
        yield plural(finding.rows, "row")
    if "broken" in evidence:
        yield "not so: " + ", ".join(evidence["broken"])
    if "columns" in evidence:
        yield "in " + ", ".join(evidence["columns"])
    for row in list(evidence.get("rows", ()))[:1]:
        values = [
            f"{name} {pair['stored'] or '-'} (source: {pair['source'] or '-'})"
            for name, pair in row.items()
            if name != "at"
        ]
        yield "such as " + "; ".join(values[:2])
    if finding.kind is FindingKind.ROLLUP:
        pairs = evidence["columns"]
        yield "; ".join(
            f"{name} {pair['stored']}, of {evidence['from']}: {pair['sum']}" for name, pair in pairs.items()
        )
    for name in ("known", "note"):
        if evidence.get(name):
            yield f"({evidence[name]})"


def _verdict(findings: Sequence[Finding]) -> str:
    left = [finding for finding in findings if finding.status is Status.OPEN]
    fixed = sum(finding.status is Status.FIXED for finding in findings)
    tail = f" {plural(fixed, 'finding')} fixed." if fixed else ""
    if not left:
        explained = sum(finding.status is Status.EXPLAINED for finding in findings)
        but = f", but for {plural(explained, 'thing')} explained" if explained else ""
        return f"Sound: nothing different remains{but}.{tail}"
    whose = Counter(_WHOSE[finding.blame] for finding in left)
    parts = ", ".join(f"{count:,} {name}" for name, count in whose.most_common())
    way = "`--fix` repairs what is ours"
    if any("--adopt" in str(finding.evidence.get("note", "")) for finding in left):
        way += "; `--adopt` takes over rows that were there before the ledger"
    elif any(finding.blame is Blame.UNKNOWN for finding in left):
        way += ", `--against archive rest` tells whose the unknown are"
    return f"Different: {plural(len(left), 'finding')} open ({parts}).{tail} {way}."
