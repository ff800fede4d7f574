"""What the sidecar counts and measures, for Prometheus. `docs/metrics.md` says what each is for.

Counts are read where they are kept, when somebody asks: a record costs nothing more. Only the lag is measured, flush by
flush.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import add
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from airflow_provider_binance.records import WriteResult

PREFIX = "binance_stream"
#: From a fraction of a flush to an outage of the store.
LAG_BUCKETS = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the sidecar has counted until now. Mappings are by market, `odd_frames` by market and kind, `reloads` by
    outcome; times are in seconds since the epoch, None before the first."""

    events: Mapping[str, int] = field(default_factory=dict)
    odd_frames: Mapping[tuple[str, str], int] = field(default_factory=dict)
    last_event: Mapping[str, float] = field(default_factory=dict)
    connections: Mapping[str, int] = field(default_factory=dict)
    connects: Mapping[str, int] = field(default_factory=dict)
    stale: int = 0
    gaps: int = 0
    gaps_repaired: int = 0
    gaps_unavailable: int = 0
    mended_rows: int = 0
    rows: WriteResult = field(default_factory=WriteResult)
    queue: int = 0
    last_commit: float | None = None
    reloads: Mapping[str, int] = field(default_factory=dict)
    silent: Mapping[str, int] = field(default_factory=dict)
    leases: int = 0
    spool: int = 0
    spool_bytes: int = 0
    spool_damaged: int = 0
    weight: int = 0


class Metrics(Collector):
    """The metrics of one sidecar, in a registry of their own; `numbers` gives those of now."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self._numbers = numbers
        self.registry = CollectorRegistry()
        self.registry.register(self)
        #: By dataset, how many lags are within each bucket, the last of them all; and their sum.
        self._lags: dict[str, tuple[tuple[int, ...], float]] = {}

    def committed(self, dataset: str, lags: Iterable[float]) -> None:
        """Events of a dataset were committed so many seconds after they happened; told by one thread."""
        ordered = sorted(lags)
        counts, total = self._lags.get(dataset, ((0,) * (len(LAG_BUCKETS) + 1), 0.0))
        within = [*(bisect_right(ordered, each) for each in LAG_BUCKETS), len(ordered)]
        self._lags[dataset] = tuple(map(add, counts, within)), total + sum(ordered)

    def collect(self) -> Iterator[Metric]:
        """The families, as Prometheus wants them."""
        lag = HistogramMetricFamily(
            f"{PREFIX}_commit_lag_seconds", "From Binance's event time to the commit.", labels=["dataset"]
        )
        bounds = [*map(str, LAG_BUCKETS), "+Inf"]
        for dataset, (counts, total) in self._lags.copy().items():
            lag.add_metric([dataset], list(zip(bounds, counts, strict=True)), total)
        yield lag
        now = self._numbers()
        yield _counter("events", "Records that came.", ["market"], now.events)
        yield _counter("odd_frames", "Frames that are unknown or malformed.", ["market", "kind"], now.odd_frames)
        yield _counter("connects", "Websockets that were opened.", ["market"], now.connects)
        yield _gauge("connections", "Planned connections that deliver.", ["market"], now.connections)
        yield _gauge("last_event_timestamp_seconds", "Event time of the newest record.", ["market"], now.last_event)
        yield _counter("stale_events", "Records that had come before.", [], {(): now.stale})
        yield _counter("gaps", "Holes that the streams left.", [], {(): now.gaps})
        yield _counter("gaps_repaired", "Holes that REST or archive filled or explained.", [], {(): now.gaps_repaired})
        yield _counter("gaps_unavailable", "Holes that nothing can fill.", [], {(): now.gaps_unavailable})
        yield _counter("mended_rows", "Rows that REST or archive gave in their place.", [], {(): now.mended_rows})
        rows = {"inserted": now.rows.rows_inserted, "updated": now.rows.rows_updated,
                "unchanged": now.rows.rows_unchanged, "kept": now.rows.rows_kept}  # fmt: skip
        yield _counter("rows", "Rows of streams that were committed, by what became of them.", ["outcome"], rows)
        yield _counter("reloads", "Times the selection was read again, by outcome.", ["outcome"], now.reloads)
        yield _gauge("silent_streams", "Streams that say nothing of symbols that trade.", ["market"], now.silent)
        yield _gauge("leases", "Series that are this sidecar's to stream.", [], {(): now.leases})
        yield _gauge("spool_batches", "Batches that wait on the disk for the store.", [], {(): now.spool})
        yield _gauge("spool_bytes", "Disk that they take.", [], {(): now.spool_bytes})
        yield _counter("spool_damaged_batches", "Batches that could not be read back.", [], {(): now.spool_damaged})
        yield _counter("used_weight", "Request weight that was used.", [], {(): now.weight})
        yield _gauge("queue_records", "Records that wait for the store.", [], {(): now.queue})
        last = {} if now.last_commit is None else {(): now.last_commit}
        yield _gauge("last_commit_timestamp_seconds", "When the store took the last flush.", [], last)


#: By the value of the one label, or the values of several, or `()` where there is none.
Labelled = Mapping[Any, float]


def _counter(name: str, meaning: str, labels: list[str], values: Labelled) -> Metric:
    return _filled(CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels), values)


def _gauge(name: str, meaning: str, labels: list[str], values: Labelled) -> Metric:
    return _filled(GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels), values)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Labelled) -> Metric:
    for key, value in values.items():
        family.add_metric([key] if isinstance(key, str) else list(key), value)
    return family


def names(registry: CollectorRegistry) -> set[str]:
    """The names of a registry's series as a query spells them: `…_total`, `…_bucket` and so on."""
    found: set[str] = set()
    for metric in registry.collect():
        match metric.type:
            case "counter":
                found.add(f"{metric.name}_total")
            case "histogram":
                found |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
            case _:
                found.add(metric.name)
    return found
