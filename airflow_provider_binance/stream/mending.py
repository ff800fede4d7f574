"""What a stream did not bring, by REST and archive: late closes first, then gaps, the newest first."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from enum import IntEnum

from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.market import from_us
from airflow_provider_binance.records import Series
from airflow_provider_binance.reports import LoadReport

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0


class Urgency(IntEnum):
    """Which class of the weight budget it is asked in."""

    LIVE = 0
    REPAIR = 1


_Order = tuple[Urgency, int, str, str, int]


class Mender(threading.Thread):
    """Loads what it is asked for, one request after the other. `load` is `ingest.load`, with store and settings.

    What fails in passing is tried again; what does not is in the ledger, for a later repair.
    """

    def __init__(self, load: Callable[..., LoadReport]) -> None:
        super().__init__(name="mend", daemon=True)
        self.rows = 0
        self.requests = 0
        self._load = load
        self._orders: list[_Order] = []
        self._symbols: dict[_Order, set[str]] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._symbols

    def ask(self, urgency: Urgency, series: Series, start_us: int, end_us: int) -> None:
        """Have `[start_us, end_us)` of a series loaded; series of one window are loaded together."""
        # Newest first: the greatest start comes out of the heap first.
        order = (urgency, -start_us, series.market, series.interval, end_us)
        with self._changed:
            if order not in self._symbols:
                self._symbols[order] = set()
                heapq.heappush(self._orders, order)
            self._symbols[order].add(series.symbol)
            self._changed.notify()

    def stop(self) -> None:
        """End after the load that is under way."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        """Until it is stopped."""
        while not self._stopped.is_set():
            with self._changed:
                while not self._orders:
                    if self._stopped.is_set():
                        return
                    self._changed.wait()
                order = heapq.heappop(self._orders)
                symbols = sorted(self._symbols[order])
            if not self._carry_out(order, symbols) and not self._stopped.wait(_PAUSE_SECONDS):
                with self._changed:
                    heapq.heappush(self._orders, order)
                continue
            with self._changed:
                # What was asked of the same window meanwhile stays to be done.
                self._symbols[order] -= set(symbols)
                if self._symbols[order]:
                    heapq.heappush(self._orders, order)
                else:
                    del self._symbols[order]

    def _carry_out(self, order: _Order, symbols: list[str]) -> bool:
        """Load; False if it is to be tried again."""
        urgency, negative_start_us, market, interval, end_us = order
        start_us = -negative_start_us
        try:
            report = self._load(
                market=market, dataset="klines", symbols=symbols, intervals=[interval], start=from_us(start_us),
                end=from_us(end_us), priority=urgency.name.lower(), jobs=2,
            )  # fmt: skip
        except IngestError as error:
            log.log(logging.WARNING if error.retryable else logging.ERROR, "not mended: market=%s symbols=%s "
                    "interval=%s from=%s to=%s again=%s: %s", market, ",".join(symbols), interval, from_us(start_us),
                    from_us(end_us), error.retryable, error)  # fmt: skip
            return not error.retryable
        except Exception:
            log.exception("not mended: market=%s symbols=%s interval=%s", market, ",".join(symbols), interval)
            return True
        self.requests += 1
        self.rows += sum(one.counts.rows_inserted for one in report.loads)
        log.info("mended: class=%s market=%s symbols=%d interval=%s from=%s to=%s", urgency.name.lower(), market,
                 len(symbols), interval, from_us(start_us), from_us(end_us))  # fmt: skip
        return True
