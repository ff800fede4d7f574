"""What a stream did not bring, by REST and archive: late closes at once, gaps beside them, the newest first."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple

from airflow_provider_binance.coverage import missing
from airflow_provider_binance.errors import IngestError, StoreError
from airflow_provider_binance.market import DAY_US, from_us
from airflow_provider_binance.records import CoverageRange, Series, State
from airflow_provider_binance.reports import UNCOVERED, LoadReport

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
#: So far back is looked for holes that an earlier run left.
LOOK_BACK_US = 3 * DAY_US
#: What a load leaves as it was, or finds to be lost.
_LEFT = frozenset({State.UNAVAILABLE, State.UNPUBLISHED, State.FAILED, UNCOVERED})


class Urgency(IntEnum):
    """Which class of the weight budget it is asked in."""

    LIVE = 0
    REPAIR = 1


def holes(ranges: Iterable[CoverageRange], now_us: int) -> list[tuple[int, int]]:
    """What of the last days is neither there nor explained, between what is there, and may be asked for now."""
    known = list(ranges)
    complete = [each for each in known if each.state is State.COMPLETE]
    if not complete:
        return []
    start_us = max(min(each.start_us for each in complete), now_us - LOOK_BACK_US)
    end_us = max(each.end_us for each in complete)
    return missing((start_us, end_us), known, now_us) if start_us < end_us else []


class _Order(NamedTuple):
    """A window of a kind of series; the newest sorts first."""

    negative_start_us: int
    market: str
    dataset: str
    interval: str
    end_us: int


class Mender:
    """Loads what it is asked for: one thread for late closes, and one for repairs, so that these hold up nobody.
    `load` is `ingest.load`, with store and settings.

    What fails in passing is tried again, behind what else there is to do; what does not is in the ledger, for a later
    repair.
    """

    def __init__(self, load: Callable[..., LoadReport]) -> None:
        self._hands = {urgency: _Hand(load, urgency) for urgency in Urgency}

    @property
    def rows(self) -> int:
        """How many rows that brought."""
        return sum(hand.rows for hand in self._hands.values())

    @property
    def repaired(self) -> int:
        """How many windows of a series a repair filled, or found the exchange to have nothing of."""
        return self._hands[Urgency.REPAIR].repaired

    @property
    def unavailable(self) -> int:
        """How many windows of a series have something that no source has any more."""
        return self._hands[Urgency.REPAIR].unavailable

    @property
    def weight(self) -> int:
        """How much request weight that used."""
        return sum(hand.weight for hand in self._hands.values())

    @property
    def requests(self) -> int:
        """How many loads there were."""
        return sum(hand.requests for hand in self._hands.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return all(hand.is_idle for hand in self._hands.values())

    def ask(self, urgency: Urgency, series: Series, start_us: int, end_us: int) -> None:
        """Have `[start_us, end_us)` of a series loaded; series of one window are loaded together."""
        self._hands[urgency].ask(series, start_us, end_us)

    def start(self) -> None:
        """Begin."""
        for hand in self._hands.values():
            hand.start()

    def stop(self) -> None:
        """End after the loads that are under way."""
        for hand in self._hands.values():
            hand.stop()

    def join(self, seconds: float) -> bool:
        """Wait so long for the loads that are under way; whether all have ended."""
        until = time.monotonic() + seconds
        for hand in self._hands.values():
            if hand.ident is not None:
                hand.join(max(0.0, until - time.monotonic()))
        return not any(hand.is_alive() for hand in self._hands.values())


class _Hand(threading.Thread):
    """Does what is asked in one class, one load after the other."""

    def __init__(self, load: Callable[..., LoadReport], urgency: Urgency) -> None:
        super().__init__(name=f"mend-{urgency.name.lower()}", daemon=True)
        self.rows = 0
        self.repaired = 0
        self.unavailable = 0
        self.weight = 0
        self.requests = 0
        self._load = load
        self._priority = urgency.name.lower()
        self._orders: list[_Order] = []
        #: What failed, and when it is tried again.
        self._failed: list[tuple[float, _Order]] = []
        self._symbols: dict[_Order, set[str]] = {}
        self._changed = threading.Condition()
        self._stopped = False

    @property
    def is_idle(self) -> bool:
        return not self._symbols

    def ask(self, series: Series, start_us: int, end_us: int) -> None:
        # Newest first: the greatest start comes out of the heap first.
        order = _Order(-start_us, series.market, series.dataset, series.interval, end_us)
        with self._changed:
            if order not in self._symbols:
                self._symbols[order] = set()
                heapq.heappush(self._orders, order)
            self._symbols[order].add(series.symbol)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        while (order := self._next()) is not None:
            with self._changed:
                symbols = sorted(self._symbols[order])
            is_done = self._carry_out(order, symbols)
            with self._changed:
                if not is_done:
                    self._failed.append((time.monotonic() + _PAUSE_SECONDS, order))
                    continue
                # What was asked of the same window meanwhile stays to be done.
                self._symbols[order] -= set(symbols)
                if self._symbols[order]:
                    heapq.heappush(self._orders, order)
                else:
                    del self._symbols[order]

    def _next(self) -> _Order | None:
        """The newest order that is due; None at the end."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                for due, order in [each for each in self._failed if each[0] <= now]:
                    self._failed.remove((due, order))
                    heapq.heappush(self._orders, order)
                if self._orders:
                    return heapq.heappop(self._orders)
                soonest = min((due for due, _ in self._failed), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
        return None

    def _carry_out(self, order: _Order, symbols: list[str]) -> bool:
        """Load; False if it is to be tried again."""
        start, end = from_us(-order.negative_start_us), from_us(order.end_us)
        told = f"market={order.market} dataset={order.dataset} interval={order.interval} from={start} to={end}"
        try:
            report = self._load(
                market=order.market, dataset=order.dataset, symbols=symbols,
                intervals=[order.interval] if order.interval else None, start=start, end=end, priority=self._priority,
                jobs=2,
            )  # fmt: skip
        except IngestError as error:
            log.log(logging.WARNING if error.retryable else logging.ERROR, "not mended: %s symbols=%s again=%s: %s",
                    told, ",".join(symbols), error.retryable, error)  # fmt: skip
            if isinstance(error, StoreError):  # nothing else would be done either
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, _PAUSE_SECONDS)
            return not error.retryable
        except Exception:
            log.exception("not mended: %s symbols=%s", told, ",".join(symbols))
            return True
        self.requests += 1
        for one in report.loads:
            states = {gap.state for gap in one.gaps}
            self.unavailable += State.UNAVAILABLE in states
            self.repaired += not (one.error or states & _LEFT)
        self.rows += sum(one.counts.rows_inserted for one in report.loads)
        self.weight += report.weight_used
        log.info("mended: class=%s symbols=%d %s", self._priority, len(symbols), told)
        return True
