"""The progress bar: drawn on a terminal only, one line for all series."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_binance.progress import Progress


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A callable for `on_progress` that draws on stderr; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # here, since most runs are not watched

    lock = threading.Lock()
    form = "{percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} {unit} [{elapsed}<{remaining}] {desc}{postfix}"
    # Drawn at once, so that a wait for the weight budget does not look like nothing.
    with tqdm(total=1, file=sys.stderr, bar_format=form, dynamic_ncols=True, leave=False, unit="pieces") as bar:

        def show(event: Progress) -> None:
            with lock:
                bar.total = event.total
                bar.unit = event.unit
                bar.set_description_str(str(event.series), refresh=False)
                bar.set_postfix_str(event.note, refresh=False)
                bar.n = event.done
                bar.refresh()

        bar.set_description_str("planning")
        yield show
