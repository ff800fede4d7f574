"""SIGINT and SIGTERM as exceptions, so that transactions roll back and files close on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end, with `status` as the shell counts it (128 + number)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def _raise(number: int, frame: FrameType | None) -> None:
    # The second signal of a kind ends the process at once: somebody is in a hurry.
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise Interrupted in the block on the first SIGINT or SIGTERM, also where a shell's `&` has SIGINT ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
