"""`verify` of one symbol-year in PostgreSQL: ledger, every row's soundness, and minutes into longer intervals."""

from __future__ import annotations

import time
from pathlib import Path

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.market import INTERVALS, from_us
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.store import Store, open_store
from benchmarks import loads
from benchmarks.measure import Spread
from benchmarks.workload import workload

MONTHS = 12
LONGER = ("5m", "15m", "1h", "4h", "1d")
_LOOPBACK = "http://127.0.0.1:9"  # nobody is asked

_SUMMED = "volume, quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume"


def verify_year(url: str, files: Path, interval: str, rounds: int) -> dict[str, object]:
    """Seconds to verify a year of `interval`, alone and with the longer intervals, which are made of it here."""
    work = workload(files, MONTHS, interval)
    hosts = {f"{market}_rest_url": _LOOPBACK for market in ("spot", "um", "cm")}
    config = BinanceConfig(**hosts, archive_url=_LOOPBACK, archive_listing_url=_LOOPBACK)
    with open_store(url.replace("postgresql://", "postgresql+psycopg://"), schema="verified") as store:
        store.ensure_environment(loads.ENVIRONMENT)
        loads.load(store, work)
        longer = [name for name in LONGER if INTERVALS[name].size_us > INTERVALS[interval].size_us]
        _make(url, store, work.series, longer, work.window_us)
        took: dict[str, list[float]] = {"alone": [], "all": []}
        for _ in range(rounds):
            for which, intervals in (("alone", [interval]), ("all", None)):
                begun = time.perf_counter()
                report = ingest.verify(market="spot", intervals=intervals, store=store, config=config)
                took[which].append(time.perf_counter() - begun)
                assert report.findings == (), report.findings[:3]
                assert report.checked[0].rows == work.rows
    print(f"  verify {work.rows} rows: {Spread.of(took['alone']).text()} s alone", flush=True)
    return {"rows": work.rows, "interval": interval, "longer": longer, **took}


def _make(url: str, store: Store, base: Series, intervals: list[str], window_us: tuple[int, int]) -> None:
    """The longer intervals of the same prices, with their lines in the ledger."""
    import psycopg

    start_us, end_us = window_us
    for name in intervals:
        series, grid = Series(base.market, base.dataset, base.symbol, name), INTERVALS[name]
        known = [CoverageRange(start_us, end_us, State.COMPLETE, grid.count(start_us, end_us), checked_at_us=end_us)]
        line = LedgerLine(Source.REST, "made for the bench", end_us, "bench")
        store.write(Batch(KLINES, series, start_us, end_us, None, line, known))
        with psycopg.connect(url) as server:
            bucket = f"date_bin(interval '{grid.size_us} microseconds', open_time, '1970-01-01Z')"
            sums = ", ".join(f"sum({column})" for column in _SUMMED.split(", "))
            server.execute(
                f"INSERT INTO verified.klines_data (series_id, open_time, open, high, low, close, {_SUMMED}) "
                f"SELECT (SELECT series_id FROM verified.series WHERE symbol = %s AND \"interval\" = %s), {bucket}, "
                "(array_agg(open ORDER BY open_time))[1], max(high), min(low), "
                f"(array_agg(close ORDER BY open_time DESC))[1], {sums} FROM verified.klines "
                "WHERE symbol = %s AND \"interval\" = %s AND open_time < %s GROUP BY 2",
                [base.symbol, name, base.symbol, base.interval, from_us(end_us)],
            )  # fmt: skip
            server.execute("ANALYZE verified.klines_data")
