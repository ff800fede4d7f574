"""The example of the documentation runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from airflow_provider_binance.simulator.server import Simulator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stream.md"


def test_the_example_prints_trades_and_klines() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [example] = [block for block in blocks if "get_real_time_data" in block]
    with Simulator(symbols=["BTCUSDT", "ETHUSDT"], now="2024-06-15T12:30:20Z", speed=60) as simulator:
        command = [sys.executable, "-u", "-c", example]
        with subprocess.Popen(
            command, env=simulator.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            kinds: set[str] = set()
            for line in process.stdout:
                kinds.add(" ".join(word for word in line.split() if word in {"BTCUSDT", "ETHUSDT", "1m"}))
                if len(kinds) == 4:
                    break
            process.kill()
            assert kinds == {"BTCUSDT", "ETHUSDT", "BTCUSDT 1m", "ETHUSDT 1m"}, process.communicate()[1]
