"""What is streamed, as command line and settings say it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance.cli import main
from airflow_provider_binance.cli.stream import selection_of
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError, InputError, UnknownSymbolError
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream.selection import Options, Part, Selection, read_section, selected
from airflow_provider_binance.stream.subscriptions import Shard

FILE = """\
stream:
  health_port: 8080
  shard: 2/3
  spot:
    - symbols: [btc/usdt, "ETH*"]
      datasets: klines
      intervals: [1m, 1h]
    - {symbols: "BTCUSDT", intervals: 1m}
  um:
    symbols: all trading perpetuals
    intervals: 1m
"""


def arguments(**words: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"market": None, "dataset": None, "symbol": None, "interval": None, **words})


def test_a_file_selects_symbols_of_several_markets(tmp_path: Path) -> None:
    """Patterns and perpetuals are what trades now; a series named twice is one."""
    (tmp_path / "stream.yaml").write_text(FILE)
    names = ["spot:BTCUSDT", "spot:ETHUSDT", "spot:ETHBTC", "um:BTCUSDT", "um:BTCUSDT_240628"]
    with Simulator(symbols=names, now="2024-06-15T12:30:20Z") as simulator:
        config = BinanceConfig.load(config_file=tmp_path / "stream.yaml", environ=simulator.env())
        selection, options = read_section(config.stream, source="stream.yaml")
        assert options == Options(8080, Shard(2, 3))
        assert selection is not None
        assert selection.markets == (Market.SPOT, Market.UM)
        with Runtime(config, f"sqlite:///{tmp_path}/x.db", archive=False) as runtime:
            assert selection.series(runtime) == [
                *(Series("spot", "klines", name, interval)
                  for name in ("BTCUSDT", "ETHBTC", "ETHUSDT") for interval in ("1m", "1h")),
                Series("um", "klines", "BTCUSDT", "1m"),
            ]  # fmt: skip
            unknown, _ = read_section({"um": {"symbols": "BTCUSD", "intervals": "1m"}}, source="F")
            assert unknown is not None
            with pytest.raises(UnknownSymbolError, match=r"^F: stream\.um\[0\]: unknown symbol 'BTCUSD'.*BTCUSDT"):
                unknown.series(runtime)


def test_arguments_go_before_the_section_and_that_before_the_lists() -> None:
    section = {"cm": {"symbols": "BTCUSD_PERP", "intervals": "1d"}, "health_port": 0}
    both = BinanceConfig(stream=section, symbols="ETHUSDT", timeframes="1h", markets="spot,um")
    lists = BinanceConfig(symbols="ETHUSDT", timeframes="1h", markets="spot,um")

    def parts(config: BinanceConfig, **words: Any) -> tuple[Part, ...]:
        return selection_of(arguments(**words), config, {})[0].parts

    assert parts(both) == (Part(Market.CM, ("BTCUSD_PERP",), ("klines",), ("1d",)),)
    assert parts(both, market="um") == (Part(Market.UM, ("ETHUSDT",), ("klines",), ("1h",)),)
    assert selection_of(arguments(symbol=["X"]), both, {})[1] == Options(0)
    assert parts(lists) == tuple(
        Part(market, ("ETHUSDT",), ("klines",), ("1h",)) for market in (Market.SPOT, Market.UM)
    )


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"mars": []}, "F: stream.mars: unknown market 'mars': use spot, um"),
        ({"mars": []}, "or one of the options health_port shard"),
        ({"spot": []}, "F: stream.spot must hold an entry, or a list"),
        ({"spot": [7]}, "F: stream.spot[0] is no mapping with symbols, datasets and intervals, but of type int"),
        ({"spot": {"symbol": "BTCUSDT"}}, "F: stream.spot[0] has unknown keys: symbol; accepted: symbols datasets"),
        ({"spot": [{"intervals": "1m"}]}, "F: stream.spot[0].symbols names none"),
        ({"spot": {"symbols": "BTCUSDT"}}, "F: stream.spot[0].intervals names none; klines need one"),
        ({"spot": {"symbols": {"a": 1}}}, "F: stream.spot[0].symbols {'a': 1} is no list, but of type dict"),
        ({"spot": {"symbols": "BTC$", "intervals": "1m"}}, "F: stream.spot[0] 'BTC$' is no symbol"),
        ({"um": {"symbols": "BTCUSDT", "intervals": "1s"}}, "F: stream.um[0] "),
        ({"um": {"symbols": "B", "intervals": "7m"}}, "unknown interval '7m'"),
        ({"um": {"symbols": "B", "datasets": "trades"}}, "um has no streams of dataset 'trades'; it has: klines"),
        ({"spot": {"symbols": "B", "datasets": "trades", "intervals": "1m"}}, ".intervals is only for klines"),
        ({"spot": {"symbols": "B", "datasets": "depth"}}, "no streams of dataset 'depth'; it has: klines agg_trades"),
        ({"health_port": "x"}, "F: stream.health_port 'x' is no port: use 1 to 65535"),
        ({"shard": "3/2"}, "F: stream.shard shard '3/2' is none: use i/n"),
    ],
)  # fmt: skip
def test_mistakes_name_file_field_and_what_is_accepted(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_section(section, source="F")
    assert said in str(caught.value)


def test_the_command_line_ends_with_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stream.yaml"
    path.write_text("stream: {um: {symbols: BTCUSDT, datasets: tickers}}")
    assert main(["stream", "--config", str(path), "--store", f"sqlite:///{tmp_path}/x.db"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{path}: stream.um[0] market um has no streams of dataset 'tickers'" in line


def test_a_selection_of_no_klines_needs_no_intervals() -> None:
    chosen = selected([Market.SPOT], ["BTCUSDT"], ["trades"], ["1m"])
    assert chosen == Selection((Part(Market.SPOT, ("BTCUSDT",), ("trades",), ()),))
    with pytest.raises(InputError, match="only for klines"):
        selection_of(arguments(dataset=["trades"], interval=["1m"], symbol=["B"]), BinanceConfig(), {})
