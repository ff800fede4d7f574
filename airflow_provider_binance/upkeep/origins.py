"""Where stored rows came from, so that they are asked for there again: the very file, or REST."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_binance.archive.layout import ArchiveFile, Partition, files_between
from airflow_provider_binance.errors import ArchiveFileMissingError, CorruptArchiveError
from airflow_provider_binance.planner import Preferred
from airflow_provider_binance.records import CoverageRange, Series, Source, State
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.spans import Span, common, united, without

#: Gives the hash that a file's CHECKSUM says; raises ArchiveFileMissingError or CorruptArchiveError.
Published = Callable[[ArchiveFile], str]


class Origins:
    """Tells for one series what its ledger (as it was looked at) says of the origin of rows.

    What a file confirmed is asked of that file; if no line of `ingest_log` names the file any more, the archive's
    checksums are asked which one it was. What is complete without that came by REST. Other rows are asked of the file
    that the newest line names, else of REST if it has a line, else of any file.
    """

    def __init__(self, series: Series, audit: Audit, published: Published | None, *, files_first: bool = False) -> None:
        self._series = series
        self._audit = audit
        self._published = published
        self._by_hash: dict[str, ArchiveFile | None] = {}

    def preferred(self, spans: Iterable[Span]) -> tuple[Preferred, ...]:
        """Whom to ask first for `spans`; what nobody brought is left out."""
        wanted = united(spans)
        found = list(self._by_coverage(wanted))
        left = without(wanted, [(r.start_us, r.end_us) for r in self._audit.ranges if r.state is State.COMPLETE])
        # A file's word is worth more than REST's, whose line may span what it was not asked for.
        files = [line for line in self._audit.lines if line.source is Source.ARCHIVE]
        others = [line for line in self._audit.lines if line.source is not Source.ARCHIVE]
        for line in (*files[::-1], *others[::-1]):
            for start, end in common(left, [(line.start_us, line.end_us)]):
                is_file = line.source is Source.ARCHIVE
                found += in_file(self._series, line.source_ref, start, end) if is_file else [Preferred(start, end)]
            left = without(left, [(line.start_us, line.end_us)])
        # Rows that are there and that nobody is known to have brought.
        found += (choice for start, end in common(left, self._audit.islands) for choice in self._any_file(start, end))
        return tuple(sorted(found, key=lambda choice: choice.start_us))

    def _by_coverage(self, wanted: list[Span]) -> Iterator[Preferred]:
        for known in self._audit.ranges:
            if known.state is not State.COMPLETE:
                continue
            parts = common(wanted, [(known.start_us, known.end_us)])
            if not parts:
                continue
            file = self._file_of(known) if known.confirmed_by else None
            if file is not None or not known.confirmed_by:
                yield from (Preferred(start, end, (file,) if file else ()) for start, end in parts)

    def _file_of(self, known: CoverageRange) -> ArchiveFile | None:
        """The file that confirmed a range."""
        sha256 = known.confirmed_by or ""
        if sha256 not in self._by_hash:
            self._by_hash[sha256] = next(self._candidates(known, sha256), None)
        return self._by_hash[sha256]

    def _candidates(self, known: CoverageRange, sha256: str) -> Iterator[ArchiveFile]:
        files = [
            file
            for partition in Partition
            for file in files_between(self._series, partition, known.start_us, known.end_us)
            if file.start_us <= known.start_us < file.end_us
        ]
        named = {line.source_ref for line in self._audit.lines if line.sha256 == sha256}
        yield from (file for file in files if file.path in named)
        if named or self._published is None:
            return
        for file in files:
            try:
                if self._published(file) == sha256:
                    yield file
            except (ArchiveFileMissingError, CorruptArchiveError):
                continue

    def _any_file(self, start_us: int, end_us: int) -> Iterator[Preferred]:
        """Month by month and day by day, the file of the month, or else that of the day."""
        for day in files_between(self._series, Partition.DAILY, start_us, end_us):
            [month] = files_between(self._series, Partition.MONTHLY, day.start_us, day.start_us + 1)
            yield Preferred(max(start_us, day.start_us), min(end_us, day.end_us), (month, day))


def in_file(series: Series, path: str, start_us: int, end_us: int) -> Iterator[Preferred]:
    """The file called `path` as the one to be asked for a stretch, if it is one of the series' there."""
    partition = Partition.DAILY if "/daily/" in path else Partition.MONTHLY
    for file in files_between(series, partition, start_us, end_us):
        if file.path == path:
            yield Preferred(start_us, end_us, (file,))
