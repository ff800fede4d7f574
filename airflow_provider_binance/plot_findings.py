"""The picture of `verify`: series × time, what was sound in one colour, every finding in the colour of whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from airflow_provider_binance.findings import Blame, Checked, Finding, FindingKind, Status, VerifyReport
from airflow_provider_binance.plot import Lane, Look, draw

_SOUND, _HALT, _FIXED = "sound", "halt", "fixed"

#: Ours in red, above all else; a halt is drawn as in the coverage picture.
LOOKS: Final[dict[str, Look]] = {
    _SOUND: Look("#7FB8DA", "sound", calm=True),
    _HALT: Look("#F28E00", "halt: Binance has no rows"),
    Blame.BINANCE: Look("#8C6D46", "Binance's: republished, late, disagreeing"),
    _FIXED: Look("#2E7D5B", "ours, fixed"),
    Blame.UNKNOWN: Look("#2B2B2B", "unknown whose"),
    Blame.OURS: Look("#B2182B", "ours: open"),
}


def draw_findings(report: VerifyReport, path: str | Path) -> None:
    """Write the picture of `report` to `path` as a PNG; raises InputError where that cannot be written.

    One row per series in the order of the report, with the number of open findings and of rows at the right.
    """
    of_series: dict[object, list[Finding]] = {}
    for finding in report.findings:
        of_series.setdefault(finding.series, []).append(finding)
    lanes = []
    for entry in report.checked:
        found = of_series.get(entry.series, [])
        left = sum(finding.status is Status.OPEN for finding in found)
        stretches = list(_stretches(entry, found))
        texts = (f"{left:,}" if left else "-", f"{entry.rows:,}")
        lanes.append(Lane(entry.series, entry.start_us, entry.end_us, stretches, texts, is_bold=bool(left)))
    draw(lanes, LOOKS, ("open", "rows"), path, title="Verified:")


def _stretches(entry: Checked, found: list[Finding]) -> Iterator[tuple[int, int, str]]:
    yield entry.start_us, entry.end_us, _SOUND
    for finding in found:
        if finding.kind is FindingKind.HALT:
            look = _HALT
        elif finding.status is Status.FIXED:
            look = _FIXED
        else:
            look = str(finding.blame)
        yield finding.start_us, finding.end_us, look
