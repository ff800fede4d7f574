"""SIGINT and SIGTERM as exceptions, so that transactions roll back and files close on the way out: soon."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: So long may a command take to end itself; a download or a wait for the weight budget can hold it up for a minute.
GRACE_SECONDS = 3.0


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end, with `status` as the shell counts it (128 + number)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def stopping_on_signals(when_late: Callable[[int], None]) -> Iterator[None]:
    """Raise Interrupted in the block on the first SIGINT or SIGTERM, also where a shell's `&` has SIGINT ignored.

    If the block has not ended three seconds later, `when_late(status)` is called in another thread. A second signal of
    the kind ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        timer = threading.Timer(GRACE_SECONDS, when_late, [128 + number])
        timer.daemon = True
        timer.start()
        timers.append(timer)
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
