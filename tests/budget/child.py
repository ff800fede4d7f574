"""A process that loads pages without a break: `child.py SPEC`, SPEC being JSON. A test starts it and may kill it.

It says `{"ready": true}`, and begins when a line with the simulator's milliseconds comes. Its local clock starts there,
wrong by `skew` seconds, and runs `speed` times as fast as true time, for everything in the process. At its end it
prints a line of JSON: what it sent, what it was refused, and how often it went to the budget's store.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

SPEC = json.loads(sys.argv[1])
SPEED = SPEC.get("speed", 1.0)
began = [time.time(), time.monotonic()]
time.time = lambda: began[0] + (time.monotonic() - began[1]) * SPEED  # before anything takes it for its own

from airflow_provider_binance.config import BinanceConfig  # noqa: E402
from airflow_provider_binance.errors import IngestError  # noqa: E402
from airflow_provider_binance.market import Market  # noqa: E402
from airflow_provider_binance.rest.budget_stores import BudgetStore  # noqa: E402
from airflow_provider_binance.rest.client import BinanceRest  # noqa: E402

START_US = 1_767_225_600_000_000  # 2026-01-01
MINUTE_US = 60_000_000
SYMBOLS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}


class Counted:
    """Counts the steps of a store, and how long they took."""

    def __init__(self, store: BudgetStore) -> None:
        self.steps = 0
        self.seconds: list[float] = []
        self._step = store.transact
        store.transact = self.transact  # type: ignore[method-assign]

    def transact(self, key, step):
        began = time.monotonic()
        try:
            return self._step(key, step)
        finally:
            self.steps += 1
            self.seconds.append(time.monotonic() - began)


def main() -> None:
    rest = BinanceRest(
        BinanceConfig.load(),
        priority=SPEC.get("priority", "backfill"),
        sleep=lambda seconds: time.sleep(seconds / SPEED),
        wait=lambda condition, seconds: condition.wait(seconds / SPEED),
    )
    counted = Counted(rest.budget_store)
    sent = dict.fromkeys(SYMBOLS, 0)
    errors: list[dict[str, object]] = []

    def told(error: IngestError) -> None:
        errors.append({"kind": type(error).__name__, "retry_after": error.retry_after, "text": str(error)})

    def work(market: Market) -> None:
        for _ in range(SPEC.get("pages", 1_000_000_000)):
            try:
                rest.kline_page(market, SYMBOLS[market], "1m", START_US, START_US + MINUTE_US, SPEC.get("limit", 1))
            except IngestError as error:
                told(error)
                return
            sent[market] += 1

    _ = rest.client  # its import takes a second
    print(json.dumps({"ready": True}), flush=True)
    began[:] = int(sys.stdin.readline()) / 1000 + SPEC.get("skew", 0.0), time.monotonic()
    threads = []
    for name, count in SPEC["threads"].items():
        try:
            rest.server_now_us(Market(name))
            rest.exchange_info(Market(name))
        except IngestError as error:
            told(error)
            continue
        threads += [threading.Thread(target=work, args=(Market(name),), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SPEC["seconds"]
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    seconds = sorted(counted.seconds)
    quantiles = [round(1000 * seconds[int(len(seconds) * q)], 2) for q in (0.5, 0.99)] if seconds else []
    report = {"sent": sent, "errors": errors, "steps": counted.steps, "step_ms": quantiles}
    print(json.dumps(report), flush=True)
    os._exit(0)  # those that wait for the next minute wait on otherwise


if __name__ == "__main__":
    main()
