"""The planner on a large universe."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.ingest import plan
from benchmarks.measure import timed
from benchmarks.venue import LISTED, LISTED_FROM, LISTED_UNTIL, Venue


def plan_universe(venue: Venue, symbols: int, rounds: int, folder: Path) -> dict[str, object]:
    """Seconds and requests of planning five years of 1m for many symbols: first with nothing cached, then warm."""
    # A simulator's listing is not kept; Binance's is, for an hour, and that is what is measured here.
    config = BinanceConfig(**venue.settings, environment="production", rate_limit_store=f"file://{folder / 'budget'}")
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(folder), "XDG_STATE_HOME": str(folder)}):
        seconds, requests, pieces = [], [], 0
        for _ in range(rounds + 1):
            before = venue.counts()[0]
            found = []
            took = timed(
                lambda found=found: found.append(
                    plan(
                        market="spot", symbols=LISTED[:symbols], intervals=["1m"],
                        start=f"{LISTED_FROM:%Y-%m}", end=f"{LISTED_UNTIL:%Y-%m}",
                        store=folder / "nothing.db", config=config,
                    )
                )
            )  # fmt: skip
            seconds.append(took.seconds)
            requests.append(venue.counts()[0] - before)
            pieces = sum(len(entry["pieces"]) for entry in found[0].to_dict()["plan"])
    return {"cold": seconds[0], "warm": seconds[1:], "requests": requests, "pieces": pieces, "symbols": symbols}
