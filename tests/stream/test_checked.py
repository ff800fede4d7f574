"""What streams brought is checked and repaired like anything else: by its ledger, by its ids, and by REST."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.findings import Finding
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store
from tests.realdata.stored import config_for
from tests.store.helpers import plain
from tests.stream.scene import EVER, Streaming, check

SYMBOLS = ["spot:BTCUSDT", "spot:ETHUSDT", "um:BTCUSDT"]
SECTION = """stream:
  spot: {symbols: [BTCUSDT, ETHUSDT], datasets: [klines, trades, agg_trades], intervals: [1m]}
  um: {symbols: [BTCUSDT], datasets: [klines, agg_trades], intervals: [1m]}
"""
STREAMED = [
    *(Series("spot", dataset, symbol) for dataset in ("trades", "agg_trades") for symbol in ("BTCUSDT", "ETHUSDT")),
    *(Series("spot", "klines", symbol, "1m") for symbol in ("BTCUSDT", "ETHUSDT")),
    Series("um", "klines", "BTCUSDT", "1m"),
    Series("um", "agg_trades", "BTCUSDT"),
]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ingest.db"
    url: str = request.getfixturevalue("postgres_database")
    return url


def found(config: BinanceConfig, **arguments: bool) -> list[Finding]:
    return [
        finding
        for dataset in ("klines", "trades", "agg_trades")
        for finding in ingest.verify(dataset=dataset, config=config, **arguments).findings
    ]


def rows_of(store: str, series: Series) -> int:
    with open_store(store) as opened:
        return sum(1 for _ in opened.rows(series.dataset, series, *EVER))


def test_nothing_is_wrong_with_what_streams_brought_and_what_is_taken_out_comes_back(
    store: str, tmp_path: Path
) -> None:
    section = tmp_path / "stream.yaml"
    section.write_text(SECTION)
    with Simulator(
        seed=3, symbols=SYMBOLS, now="2024-06-15T12:30:20Z", speed=40, trades_per_minute=100, limits=False
    ) as simulator:
        config = config_for(simulator, store)
        run = Streaming(simulator, store, tmp_path, "--config", str(section))
        try:
            run.until(lambda: min(rows_of(store, series) for series in STREAMED) >= 4, "no rows")
            status, _ = run.end()
        finally:
            run.close()
        assert status == 0, "".join(run.log[-40:])
        assert found(config) == []
        before = {series: check(simulator, store, series) for series in STREAMED}

        taken = []
        for table, key in (("klines", "open_time"), ("trades", "trade_id"), ("agg_trades", "agg_trade_id")):
            for symbol in ("BTCUSDT", "ETHUSDT"):
                named = f"market = 'spot' AND symbol = '{symbol}' AND \"interval\" = "
                one = f"SELECT series_id FROM series WHERE {named}" + ("'1m'" if table == "klines" else "''")
                rows = plain(store, f"SELECT {key} FROM {table}_data WHERE series_id = ({one}) ORDER BY {key}")
                plain(store, f"DELETE FROM {table}_data WHERE series_id = ({one}) AND {key} = %s", [rows[2][0]])
                taken.append((table, symbol))
        simulator.clear_requests()  # archive files of the day are not there yet: REST brings all
        lacking = found(config, fix=True)
        assert sorted((one.series.dataset, one.series.symbol) for one in lacking) == sorted(taken)
        assert {(str(one.kind), str(one.status), one.rows) for one in lacking} == {("rows_missing", "fixed", 1)}
        assert not any(request.path.startswith("/data") for request in simulator.requests)
        assert found(config) == []
        # The repair may have taken over what lay behind the last range, too.
        assert all(check(simulator, store, series) >= count for series, count in before.items())
