"""Draw docs/images/coverage.png: real recordings, loaded through the whole path, with the exchange's real outages.

BINANCE_REALDATA=../shared/realdata .venv/bin/python scripts/coverage_picture.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.plot import draw_coverage
from airflow_provider_binance.simulator.server import Simulator

REPO = Path(__file__).resolve().parents[1]
PICTURE = REPO / "docs" / "images" / "coverage.png"
WINDOWS = [
    ("spot", "BTCUSDT", "1h", "2021-04-05", "2026-04-03"),
    ("spot", "BTCUSDT", "1m", "2023-03-17", "2023-05-01"),
    ("spot", "ADAUSDT", "5m", "2023-03-17", "2023-05-01"),
    ("um", "FILUSDT", "1h", "2020-10-17", "2026-06-01"),
    ("um", "BTCUSDT", "4h", "2024-03-01", "2026-03-18"),
    ("um", "SOLUSDT", "1m", "2025-05-05", "2025-06-03"),
]


def main() -> int:
    """Load every window twice, a day apart (so that REST's silence is believed), and draw what the ledger says."""
    recordings = Path(os.environ.get("BINANCE_REALDATA") or REPO.parent / "shared" / "realdata")
    if not recordings.is_dir():
        print(f"no recordings at {recordings}: set BINANCE_REALDATA", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(replay=str(recordings), now="2026-06-10T00:00:00Z") as simulator,
    ):
        settings = {name.removeprefix("BINANCE_").lower(): url for name, url in simulator.settings.items()}
        config = BinanceConfig(store_url=f"sqlite:///{folder}/ingest.db", rate_limit_store="memory://", **settings)
        for now in ("2026-06-10T00:00:00Z", "2026-06-11T01:00:00Z"):
            simulator.set_clock(now)
            for market, symbol, interval, start, end in WINDOWS:
                ingest.load(market=market, symbols=symbol, intervals=interval, start=start, end=end, config=config)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        draw_coverage(ingest.coverage(config=config), PICTURE, title="Coverage by the ledger: recorded Binance data")
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
