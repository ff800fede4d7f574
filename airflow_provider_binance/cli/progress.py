"""The progress bar: drawn on a terminal only, one line for all series."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_binance.progress import Progress
from airflow_provider_binance.records import Series


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A callable for `on_progress` that draws on stderr; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # here, since most runs are not watched

    states: dict[Series, tuple[float, float]] = {}
    lock = threading.Lock()
    form = "{desc} {percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=0, file=sys.stderr, bar_format=form, dynamic_ncols=True, leave=False, delay=0.3) as bar:

        def show(event: Progress) -> None:
            with lock:
                states[event.series] = (event.done, event.total)
                bar.total = sum(total for _, total in states.values())
                bar.set_description_str(f"{event.series} ({event.unit})", refresh=False)
                bar.set_postfix_str(event.note, refresh=False)
                bar.update(sum(done for done, _ in states.values()) - bar.n)

        yield show
