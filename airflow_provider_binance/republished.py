"""Archive files that were published again since the ledger's rows were compared with them: they are to be read anew.

The listing tells when each file was published and its ETag, the ledger what they were when the file was read. Asking
costs no weight, and nothing is asked about files that were never read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from airflow_provider_binance.archive.folder import Listed
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, file_at, period_of
from airflow_provider_binance.errors import ArchiveError, UnreachableError
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.market import SECOND_US, Market, iso
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.planner import ArchivePiece, SourceChoice
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.base import ArchiveLine

log = logging.getLogger(__name__)

#: Series that are looked at at once: it is the archive's listing that they wait for.
_AT_ONCE = 8
#: What a file may have rows for.
_OPEN = frozenset({State.COMPLETE, State.EXCHANGE_GAP, State.UNAVAILABLE, State.UNPUBLISHED, State.FAILED})


def republished_tasks(runtime: Runtime, windows: Mapping[Series, tuple[int, int]]) -> list[SeriesTask]:
    """For each of some series, whose windows are given, a task that reads again what was published again."""
    if not windows or not runtime.archive_allowed:
        return []
    start_us, end_us = min(start for start, _ in windows.values()), max(end for _, end in windows.values())
    found = runtime.store.archive_lines_of(windows, start_us, end_us)
    asked = {
        series: [line for line in lines if line.start_us < windows[series][1] and line.end_us > windows[series][0]]
        for series, lines in found.items()
        if lines
    }
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="watch") as pool:
        looks = [pool.submit(copy_context().run, _newer, runtime, series, lines) for series, lines in asked.items()]
        newer = [look.result() for look in looks]
    tasks = []
    for series, files in zip(asked, newer, strict=True):
        pieces = [piece for file, listed in files if (piece := _piece(runtime, series, file, listed)) is not None]
        if pieces:
            stretches = [stretch for piece in pieces for stretch in piece.stretches]
            market = Market(series.market)
            now_us = runtime.near_now_us(market) or runtime.now_us(market)
            eyes = runtime.sources(series, SourceChoice.ARCHIVE, now_us)
            tasks.append(SeriesTask(series, stretches, eyes, now_us, confirms=True, pieces=[*pieces]))
    return tasks


def is_newer(listed: Listed, lines: Sequence[ArchiveLine]) -> bool:
    """Whether the file was published after the ledger's rows were last compared with it.

    `lines` are the ledger's lines of the file, oldest first; those of before migration 0002 do not tell.
    """

    def is_other(line: ArchiveLine) -> bool:
        if line.published_us is None or listed.last_modified_us is None:
            return False
        # The file's own header has no fractions of a second.
        is_later = listed.last_modified_us // SECOND_US > line.published_us // SECOND_US
        return is_later and not (line.etag and line.etag == listed.etag)

    current = [line for line in lines if not is_other(line)]
    low, high = min((c.start_us for c in current), default=0), max((c.end_us for c in current), default=0)
    return any(is_other(line) and not low <= line.start_us < line.end_us <= high for line in lines)


def _newer(runtime: Runtime, series: Series, lines: Iterable[ArchiveLine]) -> list[tuple[ArchiveFile, Listed]]:
    """The files of one series that were published again."""
    by_ref: dict[str, list[ArchiveLine]] = {}
    for line in lines:
        by_ref.setdefault(line.source_ref, []).append(line)
    found = []
    try:
        for ref, told in by_ref.items():
            file = _file(series, ref)
            listed = file and runtime.listing.folder(series, file).get(file.stamp)
            if file and listed and is_newer(listed, told):
                at_us = listed.last_modified_us
                log.warning("archive %s was published again at %s", ref, "?" if at_us is None else iso(at_us))
                found.append((file, listed))
    except (ArchiveError, UnreachableError) as error:
        log.warning("whether files of %s were published again is not known: %s", series, error)
    return found


def _file(series: Series, ref: str) -> ArchiveFile | None:
    """The file that a ledger line names, None if it is none of the archive's."""
    period = period_of(ref)
    partition = Partition.DAILY if "/daily/" in ref else Partition.MONTHLY
    file = file_at(series, partition, period[0]) if period else None
    return file if file is not None and file.path == ref else None


def _piece(runtime: Runtime, series: Series, file: ArchiveFile, listed: Listed) -> ArchivePiece | None:
    """What the ledger knows of the file's whole period, to be compared with the file."""
    ranges = runtime.store.coverage(series.dataset, [series], file.start_us, file.end_us)[series]
    stretches = tuple(_joined(ranges, file))
    return ArchivePiece(file, listed.size, stretches) if stretches else None


def _joined(ranges: Iterable[CoverageRange], file: ArchiveFile) -> Iterator[Stretch]:
    begin = end = 0
    for known in ranges:
        if known.state not in _OPEN:
            continue
        low, high = max(known.start_us, file.start_us), min(known.end_us, file.end_us)
        if low != end:
            if begin < end:
                yield Stretch(begin, end)
            begin = low
        end = high
    if begin < end:
        yield Stretch(begin, end)
