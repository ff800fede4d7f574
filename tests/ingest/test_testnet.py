"""Binance's test hosts: REST only, a weight budget of their own, and no way into a production store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.cli import main
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError, EnvironmentMismatchError
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.store.base import open_store

WINDOW = {"symbols": "BTCUSDT", "intervals": "1m", "start": "2026-09-01", "end": "2026-09-03"}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """The test hosts' stand-in."""
    symbols = ["BTCUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"]
    with Simulator(seed=1, now="2026-11-20T12:00:20Z", symbols=symbols, limits=False) as simulator:
        yield simulator


def config_of(sim: Simulator, **more: Any) -> BinanceConfig:
    given = {"testnet": True, "environment": "testnet", "rate_limit_store": "memory://", **more}
    return BinanceConfig.load(environ=sim.settings, **given)


def test_the_test_hosts_of_all_markets() -> None:
    """Those that Binance names in 2026, python-binance's own among them."""
    config = BinanceConfig(testnet=True)
    assert {market.value: config.rest_url(market) for market in Market} == {
        "spot": "https://testnet.binance.vision",
        "um": "https://demo-fapi.binance.com",
        "cm": "https://testnet.binancefuture.com",
    }
    assert (config.spot_stream_url, config.um_stream_url, config.cm_stream_url) == (
        "wss://stream.testnet.binance.vision:9443",
        "wss://demo-fstream.binance.com",
        "wss://dstream.binancefuture.com",
    )
    with BinanceRest(config, budget_store=MemoryBudgetStore()) as rest:
        client = rest.client
        assert client._create_api_uri("klines") == "https://testnet.binance.vision/api/v3/klines"
        assert client._create_futures_api_uri("klines") == "https://demo-fapi.binance.com/fapi/v1/klines"
        assert client._create_futures_coin_api_url("klines") == "https://testnet.binancefuture.com/dapi/v1/klines"


@pytest.mark.parametrize(
    "given",
    [
        {"testnet": True},
        {"spot_rest_url": "https://demo-api.binance.com"},
        {"um_rest_url": "https://testnet.binancefuture.com"},
    ],
)
def test_test_hosts_are_never_production(given: dict[str, Any]) -> None:
    """Not even on demand; other test hosts than the default ones are told too."""
    with pytest.raises(ConfigError, match="environment=production contradicts the test hosts"):
        BinanceConfig(environment="production", **given)


@pytest.mark.parametrize(("market", "symbol"), [("spot", "BTCUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")])
def test_plan_and_load_leave_the_archive_alone_and_say_so(
    sim: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, market: str, symbol: str
) -> None:
    """A month-old window of 1m klines, which the archive would have been the cheapest for."""
    caplog.set_level(logging.INFO)
    config, store = config_of(sim), tmp_path / "testnet.db"
    wanted = {**WINDOW, "market": market, "symbols": symbol}
    plan = ingest.plan(**wanted, config=config, store=store)
    assert {piece.source for entry in plan.plans for piece in entry.pieces} == {"rest"}
    assert plan.to_dict()["notes"] == ["the test hosts have no archive: everything comes by REST"]
    report = ingest.load(**wanted, config=config, store=store)
    assert (report.exit_status, report.to_dict()["loads"][0]["rows_inserted"]) == (0, 2880)
    assert "the test hosts have no archive" in caplog.text
    assert not any(r.path.startswith(("/archive", "/listing")) for r in sim.requests)
    assert ingest.load(**wanted, config=config, store=store).to_dict()["loads"][0]["rows_inserted"] == 0
    with open_store(store) as opened:
        assert opened.environment() == "testnet"


def test_the_archive_as_source_is_refused(sim: Simulator, tmp_path: Path) -> None:
    """Before anything is asked or made."""
    for do in (ingest.plan, ingest.load):
        with pytest.raises(ConfigError, match="the test hosts have no archive; use rest or auto") as caught:
            do(**WINDOW, market="spot", source="archive", config=config_of(sim), store=tmp_path / "a.db")
        assert caught.value.exit_status == 2
    assert sim.requests == []
    assert not (tmp_path / "a.db").exists()


def test_a_store_of_production_refuses_the_data_of_test_hosts_and_the_other_way_round(
    sim: Simulator, tmp_path: Path
) -> None:
    """Prices of the test hosts are made up."""
    for first, other in (("production", config_of(sim)), ("testnet", BinanceConfig.load(environ=sim.settings))):
        store = tmp_path / f"{first}.db"
        with open_store(store) as opened:
            opened.ensure_environment(first)
        for do in (ingest.plan, ingest.load):
            with pytest.raises(EnvironmentMismatchError, match=f"holds data of {first}") as caught:
                do(**WINDOW, market="spot", config=other, store=store)
            assert caught.value.exit_status == 5
        with open_store(store) as opened:
            assert opened.series() == []


def test_weights_are_counted_apart(sim: Simulator) -> None:
    """A load from the test hosts takes nothing from production's minute."""
    store = MemoryBudgetStore()
    for environment in ("production", "testnet"):
        config = config_of(sim, testnet=environment == "testnet", environment=environment)
        with BinanceRest(config, budget_store=store) as rest:
            rest.ping(Market.UM)
    assert {key.split("|")[0] for key in store._values} == {"production", "testnet"}
    assert all(sum(w[0] for w in value["windows"].values()) <= 2 for value in store._values.values())


def test_the_command_line(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan --testnet` says it in print and in JSON; `--source archive` ends with 2, the production store with 5."""
    for name, value in sim.settings.items():
        monkeypatch.setenv(name, value)
    words = ["--testnet", "--environment", "testnet", "--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m"]
    words += ["--start", "2026-09-01", "--end", "2026-09-02", "--store"]
    store = f"sqlite:///{tmp_path}/a.db"
    assert main(["plan", *words, store]) == 0
    assert "note: the test hosts have no archive" in capsys.readouterr().out
    assert main(["plan", "--json", *words, store]) == 0
    assert json.loads(capsys.readouterr().out)["notes"]
    assert main(["load", "--source", "archive", *words, store]) == 2
    assert "the test hosts have no archive" in capsys.readouterr().err
    with open_store(store) as opened:
        opened.ensure_environment("production")
    assert main(["load", *words, store]) == 5
    assert "holds data of production" in capsys.readouterr().err
