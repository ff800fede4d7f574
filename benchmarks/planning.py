"""The planner on a large universe, and what a daily load of it costs."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.ingest import load, plan
from airflow_provider_binance.market import to_us
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.universe import PlannedSeries, cut
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


_DAY = datetime(2026, 11, 19, tzinfo=UTC)
_MIDNIGHT = _DAY + timedelta(days=1)
#: limit → weight of a page of spot klines, as documented and measured.
_LIMITS = {1000: 2}


def daily(symbols: int, folder: Path) -> dict[str, object]:
    """The weight of a daily load as the bundled simulator counts it, beside the least that its pages can weigh.

    A new day right after midnight (by REST); at once again (nothing new, no file out); at noon (the files are out); and
    once more. Each is planned and cut as `binance_daily` does it, and each chunk is a load of its own.
    """
    names = [f"D{number:03d}USDT" for number in range(symbols)]
    store = folder / "daily.db"
    spent: dict[str, int] = {}
    specs = [f"{name}@2026-11-10.." for name in names]
    with Simulator(seed=7, symbols=specs, now=_MIDNIGHT - timedelta(hours=12), speed=0) as sim:
        settings = {name.removeprefix("BINANCE_").lower(): value for name, value in sim.settings.items()}
        config = BinanceConfig(**settings, rate_limit_store="memory://")
        before: dict[str, Any] = {
            "market": "spot",
            "symbols": names,
            "intervals": "1m",
            "store": store,
            "config": config,
        }
        load(start=_DAY - timedelta(minutes=5), end=_DAY, **before)
        for name, now in (
            ("new day", _MIDNIGHT + timedelta(minutes=5)),
            ("nothing new", _MIDNIGHT + timedelta(minutes=10)),
            ("files out", _MIDNIGHT + timedelta(hours=12)),
            ("all confirmed", _MIDNIGHT + timedelta(hours=13)),
        ):
            sim.set_clock(now)
            sim.clear_requests()
            chunks = _as_daily(before)
            spent[name] = sum(request.weight or 0 for request in sim.requests)
            print(f"  daily, {name}: weight {spent[name]}, {len(sim.requests)} requests, {chunks} chunks", flush=True)
    return {"weight": spent, "least": symbols * _least_weight(24 * 60), "symbols": symbols}


def _as_daily(arguments: dict[str, Any]) -> int:
    """What the two tasks of `binance_daily` do; the number of chunks."""
    report = plan(start=_DAY, end=_MIDNIGHT, confirm=True, **arguments)
    planned = [
        PlannedSeries(one.series, to_us(_DAY), to_us(_MIDNIGHT), sum(piece.seconds for piece in one.pieces))
        for one in report.plans
    ]
    chunks = cut(planned)
    for chunk in chunks:
        load(**{**arguments, **chunk, "confirm": True})
    return len(chunks)


@cache
def _least_weight(rows: int) -> int:
    """The weight of the cheapest pages that hold so many rows, found by trying all."""
    if rows <= 0:
        return 0
    return min(weight + _least_weight(rows - limit) for limit, weight in _LIMITS.items())
