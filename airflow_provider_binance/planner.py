"""The planner: missing stretches of one series → the cheapest pieces that bring them. Pure, but for the given `find`.

Prices are in units of request weight, the one thing that all processes behind an address share: a REST row costs its
part of a page's weight, an archive file costs one unit and one more per megabyte. So months of 1m … 1h come from the
archive, and a few hundred klines of a long interval by REST, where one page replaces many files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_provider_binance.archive.finding import Find
from airflow_provider_binance.archive.folder import Listed
from airflow_provider_binance.archive.layout import ArchiveFile, Partition, files_between
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.market import DAY_US, INTERVALS, MINUTE_US, Instants, Interval, Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.reports import PieceReport
from airflow_provider_binance.rest.pages import Page, page_weight, plan_pages, row_cost
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US

#: Bytes of a zipped kline, to price a file of unknown size (measured: 50).
_ROW_BYTES = 50
_MEGABYTE = 1_000_000
#: Klines of seconds have months of 60 MB; months of trades have up to some GB.
_MOST_MONTH_BYTES = 128 * _MEGABYTE
#: More than a month's days cost above the month.
_BIG_MONTH = 40.0
#: What REST serves for so long is not asked for in its last minutes: the first page comes some time after the plan.
_REACH_MARGIN_US = 10 * MINUTE_US
#: A row that nothing brings is dearer than any file, yet comparable with another such row.
_NOWHERE = 1e6
_SECONDS_PER_FILE = 0.4
_SECONDS_PER_MEGABYTE = 0.2
_SECONDS_PER_PAGE = 0.15


class SourceChoice(StrEnum):
    """Which sources a load may use."""

    AUTO = "auto"
    ARCHIVE = "archive"
    REST = "rest"

    @classmethod
    def parse(cls, name: str) -> SourceChoice:
        """The choice called `name`; raises InputError with the accepted names."""
        try:
            return cls(name)
        except ValueError:
            raise InputError(f"unknown source {name!r}: use {', '.join(cls)}") from None


class _Span:
    """From the first to the last of some stretches."""

    __slots__ = ()
    stretches: tuple[Stretch, ...]

    @property
    def start_us(self) -> int:
        """Start of the first stretch."""
        return self.stretches[0].start_us

    @property
    def end_us(self) -> int:
        """End of the last stretch."""
        return self.stretches[-1].end_us


@dataclass(frozen=True, slots=True)
class ArchivePiece(_Span):
    """Stretches to be read from one archive file."""

    file: ArchiveFile
    size: int
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class RestPiece(_Span):
    """Stretches to be read by REST: the pages span them all, and rows between them are passed over."""

    pages: tuple[Page, ...]
    stretches: tuple[Stretch, ...]

    @property
    def weight(self) -> int:
        """Request weight of all pages."""
        return sum(page.weight for page in self.pages)


@dataclass(frozen=True, slots=True)
class IdPiece(_Span):
    """Stretches to be read by REST from id to id; how many requests that takes is an estimate."""

    requests: int
    weight: int
    stretches: tuple[Stretch, ...]


Piece = ArchivePiece | RestPiece | IdPiece


@dataclass(frozen=True, slots=True)
class Preferred:
    """Where rows came from once, and are asked for first if they are to come again: the first of `files` that is there,
    or REST if none is named."""

    start_us: int
    end_us: int
    files: tuple[ArchiveFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """What may be asked for one series: `find` None means no archive, `rest` False that REST is not to be asked.

    `few`: rather few pages than cheap ones, since this series is all that is loaded. `preferred` (ascending, disjoint)
    goes before the cheapest. `rows_per_day` is what is expected of a series without a grid. `forced`: REST is asked for
    whatever it costs.
    """

    find: Find | None
    rest: bool
    few: bool = False
    preferred: tuple[Preferred, ...] = ()
    rows_per_day: float = 0.0
    forced: bool = False


def plan_stretches(series: Series, stretches: Iterable[Stretch], sources: Sources, now_us: int) -> list[Piece]:
    """Pieces for `stretches` (ascending, disjoint, on the grid), in order of time.

    A source that already had no rows for a stretch, by its evidence, is not asked again: not the same archive file, not
    REST within this call's now. A stretch that no source can bring yields no piece.
    """
    interval, market = _grid(series, sources), Market(series.market)
    by_file: dict[ArchiveFile, tuple[int, list[Stretch]]] = {}
    by_rest: list[Stretch] = []
    for stretch in stretches:
        for part, file, size in _sourced(series, interval, market, stretch, sources, now_us):
            if file is None:
                _append(by_rest, part)
            else:
                _append(by_file.setdefault(file, (size, []))[1], part)
    pieces: list[Piece] = [ArchivePiece(file, size, tuple(parts)) for file, (size, parts) in by_file.items()]
    if series.interval:
        pieces += _rest_pieces(by_rest, market, interval, few=sources.few)
    else:
        pieces += [_id_piece(series, part, interval) for part in by_rest]
    return sorted(pieces, key=lambda piece: piece.start_us)


def piece_report(series: Series, piece: Piece) -> PieceReport:
    """What the piece costs, for `plan`."""
    if isinstance(piece, ArchivePiece):
        seconds = _SECONDS_PER_FILE + piece.size / _MEGABYTE * _SECONDS_PER_MEGABYTE
        return PieceReport(
            piece.start_us, piece.end_us, "archive", piece.file.path, 1, piece.size, 0, 0, seconds
        )  # fmt: skip
    path = dataset(series.dataset).rest_path(Market(series.market))
    requests = piece.requests if isinstance(piece, IdPiece) else len(piece.pages)
    return PieceReport(
        piece.start_us, piece.end_us, "rest", path, 0, 0, requests, piece.weight, requests * _SECONDS_PER_PAGE
    )


Part = tuple[Stretch, ArchiveFile | None, int]


def _sourced(
    series: Series, interval: Interval, market: Market, stretch: Stretch, sources: Sources, now_us: int
) -> Iterator[Part]:
    """The stretch cut by where its rows came from; what nobody is preferred for comes from the cheapest."""
    at, evidence = stretch.start_us, stretch.evidence
    is_fresh = not (evidence.read or evidence.rest or evidence.corrupt)
    for choice in sources.preferred if is_fresh else ():
        start_us, end_us = max(at, choice.start_us), min(stretch.end_us, choice.end_us)
        if start_us >= end_us:
            continue
        file, size = _first_listed(choice.files, sources.find)
        if file is not None:
            part = _clip(Stretch(start_us, end_us), file, interval)
        else:
            part = Stretch(start_us, end_us) if not choice.files and sources.rest else None
        if part is None:
            continue
        if at < part.start_us:
            yield from _cheapest(series, interval, market, Stretch(at, part.start_us), sources, now_us)
        yield part, file, size or interval.count(part.start_us, part.end_us) * _ROW_BYTES
        at = part.end_us
    if at < stretch.end_us:
        yield from _cheapest(series, interval, market, Stretch(at, stretch.end_us, evidence), sources, now_us)


def _first_listed(files: Iterable[ArchiveFile], find: Find | None) -> tuple[ArchiveFile | None, int]:
    """The first of `files` that is there, and its size, 0 if that is not known."""
    for file in files if find is not None else ():
        if find is not None and (listed := find(file)) is not None:
            return file, listed.size
    return None, 0


def _cheapest(
    series: Series, interval: Interval, market: Market, stretch: Stretch, sources: Sources, now_us: int
) -> Iterator[Part]:
    """Parts of the stretch with the file (and its size) that brings each, or None for REST."""
    evidence = stretch.evidence
    # REST has answered within this load: asking again at once brings nothing new.
    by_rest = sources.rest and not (evidence.rest and evidence.rest[-1] >= now_us)
    if by_rest and (reach := _reach(series, sources, evidence, now_us)) > stretch.start_us:
        if reach < stretch.end_us:
            yield from _cheapest(series, interval, market, replace(stretch, end_us=reach), sources, now_us)
            yield from _cheapest(series, interval, market, replace(stretch, start_us=reach), sources, now_us)
            return
        by_rest = False
    is_away = bool(evidence.away) and evidence.away[-1] >= now_us
    if sources.find is None or evidence.corrupt or is_away:
        parts: Iterable[Part] = [(stretch, None, 0)]
    elif evidence.read:
        # A month's hole is asked of its days before REST: the archive's own word first.
        parts = _unread_days(series, interval, stretch, sources.find, now_us)
    else:
        row_price = _row_price(series, market) if by_rest else _NOWHERE
        months = files_between(series, Partition.MONTHLY, stretch.start_us, stretch.end_us)
        parts = (
            part
            for month in months
            for part in _by_month(series, interval, month, stretch, sources.find, row_price, now_us)
        )
    yield from (part for part in parts if part[1] is not None or by_rest)


def _by_month(
    series: Series,
    interval: Interval,
    month: ArchiveFile,
    stretch: Stretch,
    find: Find,
    row_price: float,
    now_us: int,
) -> Iterator[Part]:
    """The stretch's part in one month: by its file, by its days' files and REST, or all by REST."""
    part = _clip(stretch, month, interval)
    if part is None:
        return
    rest_price = interval.count(part.start_us, part.end_us) * row_price
    listed = find(month) if month.end_us <= now_us else None
    month_price = _price(interval, month, listed) if listed else float("inf")
    if listed and month_price < min(rest_price, (part.end_us - part.start_us) / DAY_US):
        yield part, month, _size(interval, month, listed)  # no day's file costs less than 1: need not be looked at
        return
    daily = list(_by_days(series, interval, part, find, row_price, now_us))
    daily_price = sum(price for _, _, _, price in daily)
    if listed and month_price < min(daily_price, rest_price):
        yield part, month, _size(interval, month, listed)
    else:
        for day_part, file, size, _ in daily:
            yield day_part, file, size


def _by_days(
    series: Series, interval: Interval, part: Stretch, find: Find, row_price: float, now_us: int
) -> Iterator[tuple[Stretch, ArchiveFile | None, int, float]]:
    """The stretch day by day, each by its file or by REST, whichever is cheaper, with its price."""
    if not interval.has_daily_files:
        yield part, None, 0, interval.count(part.start_us, part.end_us) * row_price
        return
    for day in files_between(series, Partition.DAILY, part.start_us, part.end_us):
        if (day_part := _clip(part, day, interval)) is None:
            continue
        rest_price = interval.count(day_part.start_us, day_part.end_us) * row_price
        listed = find(day) if day.end_us <= now_us else None
        if listed and (price := _price(interval, day, listed)) <= rest_price:
            yield day_part, day, _size(interval, day, listed), price
        else:
            yield day_part, None, 0, rest_price


def _unread_days(series: Series, interval: Interval, part: Stretch, find: Find, now_us: int) -> Iterator[Part]:
    """The stretch day by day, each with its file if that is out and was not read yet."""
    for day in files_between(series, Partition.DAILY, part.start_us, part.end_us):
        if (day_part := _clip(part, day, interval)) is None:
            continue
        is_out = interval.has_daily_files and day.end_us <= now_us and day.name not in part.evidence.read
        listed = find(day) if is_out else None
        yield day_part, day if listed else None, _size(interval, day, listed) if listed else 0


def _size(interval: Interval, file: ArchiveFile, listed: Listed) -> int:
    return listed.size or interval.count(file.start_us, file.end_us) * _ROW_BYTES


def _price(interval: Interval, file: ArchiveFile, listed: Listed) -> float:
    size = _size(interval, file, listed)
    # A big month is rather read day by day: what is cut is then a day, and its rows are settled a day at a time.
    is_big = file.partition is Partition.MONTHLY and size > _MOST_MONTH_BYTES
    return 1 + size / _MEGABYTE + (_BIG_MONTH if is_big else 0)


def _grid(series: Series, sources: Sources) -> Interval:
    """The grid of the series; without one, all instants and how many rows to expect among them."""
    return INTERVALS[series.interval] if series.interval else Instants(rows_per_day=sources.rows_per_day)


def _row_price(series: Series, market: Market) -> float:
    """The weight of one row by REST."""
    paging = dataset(series.dataset).by_id.get(market)
    return row_cost(market) if paging is None else page_weight(paging) / paging.limit


def _reach(series: Series, sources: Sources, evidence: Evidence, now_us: int) -> int:
    """From when on REST may be asked for the series; what it serves too dearly, only for what the archive lacks."""
    paging = dataset(series.dataset).by_id.get(Market(series.market))
    if paging is None:
        return EARLIEST_US
    if paging.is_dear and not (sources.forced or evidence.read):
        return LATEST_US
    return EARLIEST_US if paging.reach_us is None else now_us - paging.reach_us + _REACH_MARGIN_US


def _id_piece(series: Series, stretch: Stretch, interval: Interval) -> IdPiece:
    """The piece of a stretch, with what it is expected to cost."""
    paging = dataset(series.dataset).by_id[Market(series.market)]
    requests = 1 + interval.count(stretch.start_us, stretch.end_us) // paging.limit
    return IdPiece(requests, requests * page_weight(paging), (stretch,))


def _clip(stretch: Stretch, file: ArchiveFile, interval: Interval) -> Stretch | None:
    """What the file brings of the stretch. A kline belongs to the file in which it opens, to the kline's own end."""
    start_us, end_us = interval.align(file.start_us, file.end_us)
    start_us, end_us = max(stretch.start_us, start_us), min(stretch.end_us, end_us)
    return Stretch(start_us, end_us, stretch.evidence) if start_us < end_us else None


def _append(parts: list[Stretch], part: Stretch) -> None:
    """Add a part, joined with the one before where they touch and know the same."""
    if parts and parts[-1].end_us == part.start_us and parts[-1].evidence == part.evidence:
        part = Stretch(parts.pop().start_us, part.end_us, part.evidence)
    parts.append(part)


def _rest_pieces(stretches: Sequence[Stretch], market: Market, interval: Interval, *, few: bool) -> Iterator[RestPiece]:
    """REST stretches joined as long as pages over all of them are no more than pages of their own."""
    group: list[Stretch] = []
    pages: list[Page] = []
    for stretch in stretches:
        own = list(plan_pages(market, interval, stretch.start_us, stretch.end_us, few=few))
        if group:
            joined = list(plan_pages(market, interval, group[0].start_us, stretch.end_us, few=few))
            if _weigh(joined) <= _weigh([*pages, *own]):
                group.append(stretch)
                pages = joined
                continue
            yield RestPiece(tuple(pages), tuple(group))
        group, pages = [stretch], own
    if group:
        yield RestPiece(tuple(pages), tuple(group))


def _weigh(pages: Sequence[Page]) -> tuple[int, int]:
    return sum(page.weight for page in pages), len(pages)
