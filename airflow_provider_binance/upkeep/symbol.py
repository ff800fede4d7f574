"""One symbol under examination: all its intervals are looked at, compared, judged and mended together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_binance.errors import BinanceError
from airflow_provider_binance.evidence import Stretch
from airflow_provider_binance.findings import Blame, Checked, Finding, FindingKind
from airflow_provider_binance.market import Market, grid_of
from airflow_provider_binance.pipeline import SeriesTask
from airflow_provider_binance.planner import SourceChoice
from airflow_provider_binance.records import Series, Source, State
from airflow_provider_binance.registry import dataset
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.store.inspection import Audit
from airflow_provider_binance.upkeep.astray import astray, may_be_late
from airflow_provider_binance.upkeep.choosing import Wanted
from airflow_provider_binance.upkeep.comparing import Comparison, Marks, compare
from airflow_provider_binance.upkeep.fixing import Fixer
from airflow_provider_binance.upkeep.judging import Judged, asks, judge, republished, settled, undecided
from airflow_provider_binance.upkeep.ledger import afterwards, ledger_findings
from airflow_provider_binance.upkeep.mending import OnProgress, published_by
from airflow_provider_binance.upkeep.origins import Origins
from airflow_provider_binance.upkeep.runs import Run
from airflow_provider_binance.upkeep.spans import Span, aligned, common, united, without
from airflow_provider_binance.upkeep.sums import Summed, add_up


@dataclass(slots=True)
class _Looked:
    """One series: what it looked like, what was found of itself, and what the sources said."""

    audit: Audit
    own: list[Finding]
    judged: list[Judged] = field(default_factory=list)
    known: list[Span] = field(default_factory=list)  # what any source was heard about
    rows: dict[Source, int] = field(default_factory=dict)


#: Found row by row.
_OF_ONE_ROW = frozenset({FindingKind.OFF_GRID, FindingKind.RULE_BROKEN, FindingKind.COLUMN_FOREIGN, FindingKind.ROLLUP})

#: What only a source can decide.
_SUSPECT = frozenset({FindingKind.OFF_GRID, FindingKind.RULE_BROKEN, FindingKind.ROWS_IN_GAP})

#: What another source said: its runs, and about what it spoke, by series.
_Opinion = tuple[dict[Series, list[Run]], dict[Series, list[Span]]]


class Symbol:
    """All series of one symbol: they are looked at together, since minutes add up to hours.

    `only`: the kinds that the caller cares for; without it all, sums included. `choice`: who may be asked about what is
    suspect. Where Binance refuses, `error` says so, and what was found till then stands.
    """

    def __init__(
        self, runtime: Runtime, words: Wanted, sources: Sequence[Source], jobs: int, on_progress: OnProgress, *,
        choice: SourceChoice = SourceChoice.AUTO, only: frozenset[FindingKind] | None = None,
    ) -> None:  # fmt: skip
        self.error: BinanceError | None = None
        self._now_us: int | None = None
        self._choice = choice
        self._only = only
        self._runtime = runtime
        self._words = words
        self._sources = sources
        self._jobs = jobs
        self._on_progress = on_progress
        self._series: dict[Series, _Looked] = {}
        self._sums: list[Summed] = []
        self._runs: list[Comparison] = []

    def look(self, group: Sequence[Series], *, timely: bool = False, adopt: bool = False) -> None:
        """Everything that the store tells by itself; `timely`: it may ask for the time, to know the future."""
        store = self._runtime.store
        audits = {}
        for series in group:
            window = grid_of(series.interval).align(self._words.start_us, self._words.end_us)
            audits[series] = store.audit(series, *window)
        if timely and any(may_be_late(audit) for audit in audits.values()):
            try:
                self._now_us = self._runtime.latest_us(Market(group[0].market))
            except BinanceError as error:
                self.error = error
        for series, seen in audits.items():
            audit, strange = astray(series, seen, self._now_us)
            self._series[series] = _Looked(
                audit, self._wanted([*ledger_findings(series, audit, adopt=adopt), *strange])
            )
        if self._only is None:
            self._sums = add_up(store, {series: looked.audit for series, looked in self._series.items()})
        for summed in self._sums:
            self._series[summed.target].own += summed.findings

    def _wanted(self, findings: list[Finding]) -> list[Finding]:
        return [finding for finding in findings if self._only is None or finding.kind in self._only]

    def ask(self, *, suspects: bool, adopt: bool) -> None:
        """Compare with the sources that are wished, and with where the rows came from what is suspect."""
        for source in self._sources:
            self._compare(source, {s: self._everything(looked) for s, looked in self._series.items()})
        if suspects:
            doubtful = self._doubtful(adopt=adopt)
            left = {s: without(spans, self._series[s].known) for s, spans in doubtful.items()}
            self._compare(None, left)

    def _everything(self, looked: _Looked) -> list[Span]:
        """What there is to compare: rows, what is called complete, and halts, which may have been filled since."""
        states = (State.COMPLETE, State.EXCHANGE_GAP, State.UNAVAILABLE)
        spans = [(r.start_us, r.end_us) for r in looked.audit.ranges if r.state in states]
        spans += [*looked.audit.islands, *((at, at + 1) for at in looked.audit.strays)]
        return common(spans, [(looked.audit.start_us, looked.audit.end_us)])

    def _doubtful(self, *, adopt: bool) -> dict[Series, list[Span]]:
        """What only a source can decide."""
        found: dict[Series, list[Span]] = {}
        for series, looked in self._series.items():
            for finding in looked.own:
                is_suspect = finding.kind in _SUSPECT or (adopt and finding.kind is FindingKind.ROWS_UNCOVERED)
                # Of ids more than should be there only the source tells which are too many.
                if is_suspect or (finding.kind is FindingKind.ROW_COUNT and not series.interval):
                    found.setdefault(series, []).append((finding.start_us, finding.end_us))
        for summed in self._sums:
            for finding in summed.findings:
                for series in (summed.target, summed.base):
                    found.setdefault(series, []).append((finding.start_us, finding.end_us))
        return found

    def _compare(self, source: Source | None, wanted_of: dict[Series, list[Span]]) -> Comparison | None:
        """Ask `source` (None: where the rows came from) about spans of some series; nobody once Binance has refused."""
        if self.error is not None:
            return None
        try:
            found = self._heard(source, wanted_of)
        except BinanceError as error:
            self.error = error
            return None
        self.error = found.error if found is not None else None
        return found

    def _heard(self, source: Source | None, wanted_of: dict[Series, list[Span]]) -> Comparison | None:
        runtime = self._runtime
        tasks = []
        asked: dict[Series, list[Span]] = {}
        for series, spans in wanted_of.items():
            if not spans:
                continue
            market, looked = Market(series.market), self._series[series]
            runtime.refuse_foreign()
            closed_us = runtime.closed_end(series.interval, runtime.now_us(market))
            wide = (aligned(series.interval, start, end) for start, end in spans)
            whole = united((start, min(end, closed_us)) for start, end in wide)
            if not whole:
                continue
            asked[series] = whole
            choice = SourceChoice(source) if source is not None else self._choice
            eyes = runtime.sources(series, choice, runtime.now_us(market))
            if choice is not SourceChoice.REST:
                preferred = Origins(series, looked.audit, published_by(runtime)).preferred(whole)
                eyes = replace(eyes, preferred=preferred)
            stretches = [Stretch(start, end) for start, end in whole]
            tasks.append(SeriesTask(series, stretches, eyes, runtime.now_us(market)))
        if not tasks:
            return None
        marks = {series: _marks(self._series[series].audit) for series in asked}
        found = compare(runtime, tasks, marks, self._jobs, self._on_progress)
        for series, whole in asked.items():
            answered = without(whole, found.unanswered.get(series, ()))
            looked = self._series[series]
            looked.known = united([*looked.known, *answered])
            for by in Source:
                if rows := found.rows.get((series, by), 0):
                    looked.rows[by] = looked.rows.get(by, 0) + rows
        self._runs.append(found)
        return found

    def judge(self) -> None:
        """Decide whose each difference is, asking the other source where its word is needed."""
        for found in list(self._runs):
            needed: dict[Source, dict[Series, list[Span]]] = {}
            for run in found.runs:
                if (other := asks(run, self._series[run.series].audit)) is not None:
                    needed.setdefault(other, {}).setdefault(run.series, []).append(run.span)
            opinions = {source: self._second(source, spans) for source, spans in needed.items()}
            replaced: list[Judged] = []
            for series, span, told in found.files:
                runs = [run for run in found.runs if run.series == series]
                if (one := republished(series, span, told, self._series[series].audit, runs)) is not None:
                    replaced.append(one)
            for one in _once(replaced):
                self._series[one.finding.series].judged.append(one)
            taken = {id(run) for one in replaced for run in one.runs}
            for run in found.runs:
                if id(run) in taken:
                    continue
                looked = self._series[run.series]
                other = asks(run, looked.audit)
                others, answered = opinions[other] if other is not None else ({}, {})
                if (
                    other is not None
                    and self.error is not None
                    and not common([run.span], answered.get(run.series, []))
                ):
                    looked.judged.append(undecided(run))
                    continue
                looked.judged += judge(run, looked.audit, others.get(run.series, []), answered.get(run.series, []))
        for looked in self._series.values():
            looked.judged = _once(looked.judged)
        self._settle()

    def _second(self, source: Source, spans: dict[Series, list[Span]]) -> _Opinion:
        """What the other source says of some spans: its runs, and about what it spoke, by series."""
        if source is Source.REST and source not in self._sources:
            spans = {series: wished for series, wished in spans.items() if not _is_dear(series)}
        before = len(self._runs)
        found = self._compare(source, spans)
        del self._runs[before:]
        if found is None:
            return {}, {}
        runs: dict[Series, list[Run]] = {}
        for run in found.runs:
            runs.setdefault(run.series, []).append(run)
        answered = {
            series: without(
                united(aligned(series.interval, *span) for span in wished),
                found.unanswered.get(series, ()),
            )
            for series, wished in spans.items()
        }
        return runs, answered

    def _settle(self) -> None:
        """Give the store's own findings the sources' word, and leave out what a run says better."""
        for looked in self._series.values():
            better = [
                (j.finding.start_us, j.finding.end_us)
                for j in looked.judged
                if j.finding.kind in (FindingKind.OFF_GRID, FindingKind.ROWS_FOREIGN)
            ]
            kept = []
            for finding in looked.own:
                if finding.kind in (FindingKind.OFF_GRID, FindingKind.ROWS_IN_GAP) and not without(
                    [(finding.start_us, finding.end_us)], better
                ):
                    continue
                if finding.kind is not FindingKind.ROLLUP:
                    finding = settled(finding, looked.judged, looked.known)
                kept.append(finding)
            looked.own = kept
        for summed in self._sums:
            base, target = self._series[summed.base], self._series[summed.target]
            both = common(base.known, target.known)
            decided = {
                id(finding): settled(finding, [*base.judged, *target.judged, *_as_judged(base, target)], both)
                for finding in summed.findings
            }
            target.own = [decided.get(id(finding), finding) for finding in target.own]

    def order(self, fixer: Fixer) -> None:
        """Say what is to be repaired. What a source was to decide and could not waits for the next time."""
        for series, looked in self._series.items():
            own = looked.own if self.error is None else [f for f in looked.own if f.kind not in _SUSPECT]
            fixer.order(series, looked.audit, own, looked.judged if self.error is None else [])

    def look_again(self, fixer: Fixer) -> None:
        """After the repair: write down what became of each finding."""
        again: dict[Series, Audit] = {}
        strange: dict[Series, list[Finding]] = {}
        for series, looked in self._series.items():
            if self._only is not None and not (looked.own or looked.judged):
                continue
            audit = self._runtime.store.audit(series, looked.audit.start_us, looked.audit.end_us)
            again[series], strange[series] = astray(series, audit, self._now_us)
        sums = {s.target: s for s in add_up(self._runtime.store, again)} if self._sums else {}
        for series in again:
            looked = self._series[series]
            left = [*ledger_findings(series, again[series]), *strange[series]]
            left += sums[series].findings if series in sums else []
            # A look tells of so many rows and no more: behind those that are mended there may be others.
            told = {(finding.start_us, finding.kind) for finding in looked.own}
            others = [f for f in self._wanted(left) if f.kind in _OF_ONE_ROW and (f.start_us, f.kind) not in told]
            looked.own = [*afterwards(looked.own, left), *others]
            looked.judged = [fixer.judged_afterwards(one) for one in looked.judged]

    def findings(self) -> list[Finding]:
        """All of the symbol's findings, in order."""
        return [
            finding
            for looked in self._series.values()
            for finding in sorted(
                [*looked.own, *(one.finding for one in looked.judged)], key=lambda f: (f.start_us, f.end_us, f.kind)
            )
        ]

    def checked(self) -> list[Checked]:
        """How much was looked at."""
        rolled = {summed.target: summed.compared for summed in self._sums}
        return [
            Checked(
                series, *_hull(looked.audit), looked.audit.rows, rolled.get(series, 0),
                {str(source): rows for source, rows in looked.rows.items()}, str(self.error or ""),
            )
            for series, looked in self._series.items()
        ]  # fmt: skip


def _as_judged(*series: _Looked) -> list[Judged]:
    """What is ours of the series' own findings: rows that lack leave sums that lack."""
    return [Judged(finding) for looked in series for finding in looked.own if finding.blame is Blame.OURS]


def _is_dear(series: Series) -> bool:
    """Whether REST's word costs so much that only he gets it who asks for it."""
    paging = dataset(series.dataset).by_id.get(Market(series.market))
    return paging is not None and paging.is_dear


def _marks(audit: Audit) -> Marks:
    edges = sorted({edge for r in audit.ranges for edge in (r.start_us, r.end_us)})
    ids = [(h.first_id, h.last_id) for h in audit.misplaced if h.first_id is not None and h.last_id is not None]
    return Marks(edges, ids)


def _hull(audit: Audit) -> Span:
    """What of the window there is anything in."""
    spans = [(r.start_us, r.end_us) for r in audit.ranges if r.state is not State.NOT_LISTED] + list(audit.islands)
    kept = common(spans, [(audit.start_us, audit.end_us)])
    return (kept[0][0], kept[-1][1]) if kept else (0, 0)


def _once(judged: Iterable[Judged]) -> list[Judged]:
    """Each finding once: two sources may have said the same of the same rows."""
    found: dict[tuple[object, ...], Judged] = {}
    for one in judged:
        finding = one.finding
        found.setdefault((finding.series, finding.start_us, finding.end_us, finding.kind, finding.blame), one)
    return list(found.values())
