"""Ways to wait for the budget in a time that is not the true one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_provider_binance.rest.turnstile import Waiter


def by(sleep: Callable[[float], object]) -> Waiter:
    """Waits by `sleep`, to its end, whoever tells what."""

    def wait(condition: threading.Condition, seconds: float) -> bool:
        condition.release()
        try:
            sleep(seconds)
        finally:
            condition.acquire()
        return False

    return wait


def faster(speed: float) -> Waiter:
    """Waits as `threading.Condition.wait` does, where time runs `speed` times as fast."""
    return lambda condition, seconds: condition.wait(seconds / speed)
