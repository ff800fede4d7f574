"""`Progressing`: the newest event of each dataset and market that is committed."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_binance.market import SECOND_US
from airflow_provider_binance.store.sidecars import Progress


class Progressing:
    """Told of each commit by one thread, asked by another."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}

    def committed(self, newest: Iterable[tuple[tuple[str, str], int]], at_us: int) -> None:
        """Of these markets and datasets, events up to these times were committed at `at_us`."""
        for place, event_us in newest:
            known_us = self._newest.get(place, (0, 0))[0]
            self._newest[place] = max(known_us, event_us), at_us

    def lines(self, instance: str) -> list[Progress]:
        """As the store keeps them."""
        return [
            Progress(instance, *place, event_us, commit_us, max(0, commit_us - event_us) / SECOND_US)
            for place, (event_us, commit_us) in sorted(self._newest.copy().items())
        ]
