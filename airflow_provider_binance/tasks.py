"""From a caller's words and the ledger to tasks: which stretches of which series are to be loaded, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_provider_binance.errors import BinanceError, InputError
from airflow_provider_binance.evidence import Evidence, Stretch
from airflow_provider_binance.market import DAY_US, INTERVALS, MINUTE_US, Market, grid_of, parse_interval
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.planner import SourceChoice
from airflow_provider_binance.records import SETTLED, CoverageRange, Series, State
from airflow_provider_binance.registry import dataset as registered
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.base import ArchiveLine
from airflow_provider_binance.texts import listed
from airflow_provider_binance.windows import EARLIEST_US, LATEST_US, LISTING, NOW, Instant, check_window, parse_instant

#: Nothing was listed at Binance before its first trade on 2017-07-14.
GENESIS_US = 1_498_867_200_000_000

#: A load that confirms looks back so far before its window: what a daily load got by REST is confirmed by later ones,
#: though a day's file comes a day later and a month's in the next month.
CONFIRM_BACK_US = 40 * DAY_US

#: After a complete range that ends where the missing part begins, REST is taken to serve so much of it.
_LATELY_US = 7 * DAY_US

#: The archive's clock and REST's, by which files and rows are dated, may be so far apart.
_CLOCKS_US = MINUTE_US

When = datetime | str | None
Names = Sequence[str] | str


@dataclass(frozen=True, slots=True)
class Selection:
    """A caller's words, checked without asking anybody."""

    market: Market
    dataset: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    start: Instant
    end: Instant
    choice: SourceChoice
    reload: bool
    confirm: bool
    republished: bool = True
    few: bool = False


@dataclass(slots=True)
class Planned:
    """One series of a plan: its window, what is to be loaded, what the ledger had of it, and what needs no source
    (`not_listed`).

    `confirming`: what rests on REST alone, though a file is out; a task once it is known which files were read for it.
    `error`: what Binance refused while this was planned, so that there is nothing to be done.
    """

    series: Series
    start_us: int
    end_us: int
    tasks: list[SeriesTask]
    ranges: Sequence[CoverageRange] = ()
    not_listed: tuple[CoverageRange, ...] = ()
    confirming: SeriesTask | None = None
    error: BinanceError | None = None


def select(
    market: str,
    dataset: str,
    symbols: Names,
    intervals: Names | None,
    start: When,
    end: When,
    source: str = "auto",
    reload: bool = False,
    confirm: bool = False,
    republished: bool = True,
    *,
    now_us: Callable[[Market], int],
) -> Selection:
    """The arguments of a load, checked. Raises InputError naming the value, the accepted ones and the way out.

    `now_us` gives the server's time; it is asked for texts such as `30d` only.
    """
    kind = Market.parse(market)
    entry = registered(dataset)
    if kind not in entry.markets:
        raise InputError(f"dataset {dataset} does not exist in market {kind}; it has: {' '.join(entry.markets)}")
    entry.refuse_streamed("load")
    names = tuple(names_of(symbols))
    if not names:
        raise InputError("no symbol given: name one or more, such as BTCUSDT, or a pattern such as *USDT")
    chosen = tuple(dict.fromkeys(parse_interval(name, kind).name for name in names_of(intervals or ())))
    if not chosen and entry.has_interval:
        raise InputError(f"no interval given: {dataset} needs one or more of {' '.join(INTERVALS)}")
    if chosen and not entry.has_interval:
        raise InputError(f"dataset {dataset} has no intervals: leave {' '.join(chosen)} out", argument="intervals")
    choice = SourceChoice.parse(source)
    begin, stop = instants(start, end, lambda: now_us(kind))
    return Selection(kind, dataset, names, chosen, begin, stop, choice, reload, confirm, republished)


def names_of(values: Names) -> list[str]:
    """One or more names, however they are listed; raises InputError for what lists none."""
    try:
        return listed(values)
    except ValueError as error:
        raise InputError(f"{values!r} {error}") from None


def instants(start: When, end: When, now_us: Callable[[], int]) -> tuple[Instant, Instant]:
    """Both ends of a window; raises InputError if they are in the wrong order."""
    begin = parse_instant(start, now_us=now_us, name="start")
    stop = parse_instant(end, now_us=now_us, name="end")
    if isinstance(begin, int) and isinstance(stop, int):
        check_window(begin, stop)
    return begin, stop


def resolved_start(
    runtime: Runtime, series: Series, start: Instant, ranges: Sequence[CoverageRange], now_us: int | None = None
) -> int:
    """The instant that `start` means for this series; None goes on from the last covered instant."""
    if isinstance(start, int):
        return start
    market = Market(series.market)
    if start is NOW:
        return runtime.now_us(market)
    if start is LISTING:
        if (first := begins(ranges)) is not None:
            return first.end_us
        bound = runtime.symbols.listed_from(series, GENESIS_US, now_us or runtime.now_us(market))
        return max(bound.at_us, GENESIS_US) if bound else GENESIS_US
    covered = [r.end_us for r in ranges if r.state in SETTLED]
    if not covered:
        raise InputError(
            f"no start given, and the store has nothing of {series} to go on from: give --start, "
            f"for example --start 2024-01, or --start listing for all there is"
        )
    return max(covered)


def begins(ranges: Iterable[CoverageRange]) -> CoverageRange | None:
    """The range before the series' first kline, if the ledger has it."""
    return next((r for r in ranges if r.start_us <= GENESIS_US and r.state is State.NOT_LISTED), None)


def touching(
    ranges: Iterable[CoverageRange], start_us: int, end_us: int, *, provisional: bool = False
) -> list[CoverageRange]:
    """The ranges that overlap a window; with `provisional`, only complete ones that no archive file has confirmed."""
    return [
        known
        for known in ranges
        if known.start_us < end_us and known.end_us > start_us and (known.is_provisional or not provisional)
    ]


def due(known: CoverageRange, choice: SourceChoice) -> CoverageRange:
    """The range, due at once if it waits only because another source than the one now chosen had been forced."""
    waits = known.state in (State.UNPUBLISHED, State.FAILED) and known.next_check_at_us is not None
    if waits and Evidence.parse(known.evidence).forced not in ("", choice):
        return replace(known, next_check_at_us=None)
    return known


def with_evidence(gaps: Iterable[tuple[int, int]], ranges: Sequence[CoverageRange]) -> Iterator[Stretch]:
    """The gaps, cut where the ledger knows something of them."""
    for start_us, end_us in gaps:
        at = start_us
        for known in ranges:
            if known.end_us <= at or known.start_us >= end_us:
                continue
            if known.start_us > at:
                yield Stretch(at, known.start_us)
            until = min(known.end_us, end_us)
            # What failed is tried afresh; what an answer lacked is not asked of the same file again.
            evidence = Evidence() if known.state is State.FAILED else Evidence.parse(known.evidence)
            yield Stretch(max(at, known.start_us), until, evidence)
            at = until
        if at < end_us:
            yield Stretch(at, end_us)


def add_task(
    runtime: Runtime,
    selection: Selection,
    entry: Planned,
    wanted: list[Stretch],
    ranges: Sequence[CoverageRange],
    now_us: int,
) -> tuple[CoverageRange, ...]:
    """Add the task for `wanted`, cut to the symbol's life, and return the ranges outside that life."""
    series, start_us, end_us = entry.series, wanted[0].start_us, wanted[-1].end_us
    outside: list[CoverageRange] = []
    dawn = dusk = None
    if selection.start is LISTING and not begins(ranges):
        start_us = min(start_us, GENESIS_US)
    was_listed = any(r.state is State.COMPLETE and r.start_us <= start_us for r in ranges)
    if (not was_listed or selection.reload) and (first := runtime.symbols.listed_from(series, start_us, now_us)):
        dawn = (first.at_us, first.at_us + first.slack_us) if first.slack_us else None
        if first.at_us > start_us:
            # From the first trade of all on, so that `listing` knows next time where the series begins.
            outside.append(_not_listed(min(GENESIS_US, start_us), first.at_us, first.evidence, now_us))
            wanted = _cut(wanted, first.at_us, LATEST_US)
    is_served = None if selection.reload else _was_served_lately(wanted, ranges) or None
    if wanted and not is_served and (last := runtime.symbols.listed_until(series, end_us, now_us)):
        at_us = grid_of(series.interval).ceil(last.at_us)
        dusk = (at_us - last.slack_us, at_us) if last.slack_us else None
        outside += [_not_listed(s.start_us, s.end_us, last.evidence, now_us) for s in _cut(wanted, at_us, LATEST_US)]
        wanted = _cut(wanted, EARLIEST_US, at_us)
    if wanted:
        sources = runtime.sources(series, selection.choice, now_us, few=selection.few, serves=is_served)
        is_gone = not is_served and (
            not runtime.symbols.rest_serves(selection.market, series.symbol, now_us)
            and runtime.symbols.listed_until(series, LATEST_US, now_us) is not None
        )
        forced = "" if selection.choice is SourceChoice.AUTO else str(selection.choice)
        entry.tasks.append(SeriesTask(series, wanted, sources, now_us, dawn, dusk, is_gone=is_gone, forced=forced))
    return tuple(outside)


def _not_listed(start_us: int, end_us: int, note: str, now_us: int) -> CoverageRange:
    return CoverageRange(
        start_us, end_us, State.NOT_LISTED, evidence=str(Evidence(note=note)), checked_at_us=now_us
    )  # fmt: skip


def _cut(parts: Iterable[Stretch], start_us: int, end_us: int) -> list[Stretch]:
    return [
        replace(part, start_us=max(part.start_us, start_us), end_us=min(part.end_us, end_us))
        for part in parts
        if part.end_us > start_us and part.start_us < end_us
    ]


def provisional(
    runtime: Runtime, series: Series, ranges: Iterable[CoverageRange], start_us: int, end_us: int
) -> Iterator[Stretch]:
    """Complete stretches that no archive file has confirmed, with the files that were read for them already."""
    for known in touching(ranges, start_us, end_us, provisional=True):
        a, b = max(known.start_us, start_us), min(known.end_us, end_us)
        yield Stretch(a, b, files_read(runtime.store.archive_lines(series, a, b), [known], a, b))


def files_read(lines: Iterable[ArchiveLine], ranges: Iterable[CoverageRange], start_us: int, end_us: int) -> Evidence:
    """The files that were read for a provisional stretch of `ranges` since its rows are there. One that was read before
    they came may well have them: it is to be read again."""
    there_us = max((known.checked_at_us for known in touching(ranges, start_us, end_us, provisional=True)), default=0)
    read = {
        line.source_ref.rpartition("/")[2]
        for line in lines
        if line.start_us < end_us and line.end_us > start_us and line.started_us > there_us - _CLOCKS_US
    }
    return Evidence(archive=tuple(sorted(read)))


def _was_served_lately(wanted: Sequence[Stretch], ranges: Iterable[CoverageRange]) -> bool:
    """Whether a few days are missing right behind complete ones, and nobody was asked for them yet.

    Then the symbol need not be looked up: if it has ended since, REST says so, and the next load looks it up.
    """
    if not wanted or wanted[-1].end_us - wanted[0].start_us > _LATELY_US:
        return False
    if any(stretch.evidence != Evidence() for stretch in wanted):
        return False
    return any(known.state is State.COMPLETE and known.end_us == wanted[0].start_us for known in ranges)
