"""The provider object, as a manager meets it that knows nothing but the port."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import pytest

from airflow_provider_binance.errors import ConfigError, InputError, UnknownSymbolError
from airflow_provider_binance.integrations.drl_trading import DrlBinanceProvider
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.stream import keeping

NOW = "2024-06-15T12:30:20Z"

#: The port: what a manager calls, with the arguments by name and default.
PORT: dict[str, list[tuple[str, Any]]] = {
    "__init__": [("config", inspect.Parameter.empty)],
    "setup": [],
    "teardown": [],
    "fetch_historical_data": [("symbol", inspect.Parameter.empty), ("start_date", None), ("end_date", None),
                              ("timeframe", None), ("limit", None)],
    "map_symbol": [("internal_symbol", inspect.Parameter.empty)],
    "start_streaming": [("symbols", inspect.Parameter.empty), ("callback", inspect.Parameter.empty)],
    "stop_streaming": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    symbols = [f"{name}@2024-01-01.." for name in ("BTCUSDT", "ETHUSDT", "um:BTCUSDT")]
    with Simulator(symbols=symbols, now=NOW, speed=0, limits=False) as running:
        yield running


@pytest.fixture
def hosts(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The provider's keys that lead to the simulator; futures' hosts are the environment's."""
    for name, value in simulator.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BINANCE_RATE_LIMIT_STORE", "memory://")
    return {
        "base_url": simulator.settings["BINANCE_SPOT_REST_URL"],
        "websocket_url": simulator.settings["BINANCE_SPOT_STREAM_URL"],
    }


@pytest.fixture
def provider(hosts: dict[str, Any]) -> Iterator[DrlBinanceProvider]:
    made = DrlBinanceProvider({**hosts, "timeframes": ["1h", "1m"], "symbols": ["BTC-USDT"]})
    made.setup()
    yield made
    made.teardown()


def test_the_port_is_kept() -> None:
    """Names, order and defaults of every method."""
    for name, expected in PORT.items():
        found = inspect.signature(getattr(DrlBinanceProvider, name)).parameters
        assert [(p.name, p.default) for p in found.values()][1:] == expected, name
        assert all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in found.values())
    assert isinstance(inspect.getattr_static(DrlBinanceProvider, "provider_name"), property)
    assert DrlBinanceProvider({}).provider_name == "binance"


@pytest.mark.parametrize("given", ["BTC-USDT", "btc/usdt", "BTCUSDT", " btcusdt "])
def test_symbols_are_mapped(given: str) -> None:
    assert DrlBinanceProvider({}).map_symbol(given) == "BTCUSDT"


def test_bars_come_as_the_exchange_has_them(provider: DrlBinanceProvider, simulator: Simulator) -> None:
    """Both ends included; without a timeframe those of the config, the shortest as the base."""
    start, end = "2024-06-15T10:00:00Z", "2024-06-15T12:00:00Z"
    [found] = provider.fetch_historical_data("btc-usdt", start_date=start, end_date=end)
    assert found.symbol == "BTCUSDT"
    assert [(d.timeframe, d.base_dataset) for d in found.datasets] == [("1m", True), ("1h", False)]
    for dataset, count in zip(found.datasets, (121, 2), strict=True):
        assert isinstance(dataset.timeframe, str)
        assert isinstance(dataset.timeframe, Enum)
        frame = dataset.asset_price_dataset
        assert list(frame.columns) == ["timestamp", "open_price", "high_price", "low_price", "close_price", "volume"]
        truth = simulator.truth("spot", "BTCUSDT", dataset.timeframe.value, start, "2024-06-15T12:01:00Z")[:count]
        assert str(frame["timestamp"].dt.tz) == "UTC"
        assert [at.value // 10**6 for at in frame["timestamp"]] == [row[0] for row in truth]
        for place, name in enumerate(frame.columns[1:], 1):
            assert list(frame[name]) == [float(row[place]) for row in truth]


def test_the_newest_bars_and_limits(provider: DrlBinanceProvider, hosts: dict[str, Any]) -> None:
    """From the start on the first ones, else the newest; never the open bar; `max_bars` bounds both."""

    def times(made: DrlBinanceProvider, **words: Any) -> list[str]:
        [found] = made.fetch_historical_data("BTCUSDT", timeframe="1m", **words)
        return [at.strftime("%H:%M") for at in found.datasets[0].asset_price_dataset["timestamp"]]

    assert times(provider, limit=3) == ["12:27", "12:28", "12:29"]
    assert times(provider, end_date="2024-06-15T11:00:00", limit=2) == ["10:59", "11:00"]
    assert times(provider, start_date="2024-06-15", limit=2) == ["00:00", "00:01"]
    assert len(times(provider)) == 1000
    assert times(provider, start_date="2024-06-16") == []
    few = DrlBinanceProvider({**hosts, "max_bars": 2})
    assert times(few) == ["12:28", "12:29"]
    assert times(few, start_date="2024-06-15", limit=10) == ["00:00", "00:01"]
    [months] = provider.fetch_historical_data("BTCUSDT", timeframe="1M", limit=2)
    opened = months.datasets[0].asset_price_dataset["timestamp"]
    assert [at.strftime("%Y-%m-%d") for at in opened] == ["2024-04-01", "2024-05-01"]


def test_futures_are_named_as_in_the_table(provider: DrlBinanceProvider, simulator: Simulator) -> None:
    [found] = provider.fetch_historical_data("BTC-USDT.P", timeframe="1m", limit=1)
    frame = found.datasets[0].asset_price_dataset
    [truth] = simulator.truth("um", "BTCUSDT", "1m", "2024-06-15T12:29:00Z", "2024-06-15T12:30:00Z")
    assert found.symbol == "BTCUSDT.P"
    assert list(frame["close_price"]) == [float(truth[4])]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"api_key": "x"}, "unknown key 'api_key'; accepted: api_key_env"),
        ({"timeframes": ["3m"]}, "key timeframes"),
        ({"timeframes": []}, "is empty"),
        ({"max_bars": 0}, "key max_bars = 0"),
        ({"testnet": "maybe"}, "key testnet"),
        ({"reconnect_attempts": -1}, "key reconnect_attempts"),
        ({"ping_interval": 0}, "key ping_interval"),
        ({"symbols": ["BTC USDT $"]}, "is no symbol"),
        ("text", "give a dict"),
    ],
)
def test_bad_configs_are_refused(config: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        DrlBinanceProvider(config)


def test_bad_words_are_refused(provider: DrlBinanceProvider) -> None:
    for words, said in (
        ({"start_date": "yesterday"}, "is no date"), ({"timeframe": "3m"}, "unknown timeframe '3m'"),
        ({"limit": 0}, "limit 0"), ({"start_date": "2024-06-02", "end_date": "2024-06-01"}, "lies behind"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            provider.fetch_historical_data("BTCUSDT", **words)
    with pytest.raises(UnknownSymbolError):
        provider.fetch_historical_data("NOSUCHUSDT", timeframe="1m")
    with pytest.raises(InputError, match="no endpoint"):
        DrlBinanceProvider({"base_url": "api.binance.com"}).setup()
    with pytest.raises(InputError, match="spot only"):
        provider.start_streaming(["BTCUSDT.P"], print)


def test_keys_are_read_from_the_named_variables(hosts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are no secrets, and the secrets are not kept in the config."""
    monkeypatch.setenv("MY_KEY", "key-of-test")
    made = DrlBinanceProvider({**hosts, "api_key_env": "MY_KEY", "secret_key_env": "NOT_THERE"})
    made.setup()
    assert made._settings is not None
    assert made._settings.api_key is not None
    assert made._settings.api_key.get_secret_value() == "key-of-test"
    assert "key-of-test" not in repr(vars(made))


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def running(simulator: Simulator) -> Iterator[Simulator]:
    """The simulator with its clock going, ten times as fast."""
    simulator.set_clock(NOW, 10.0)
    yield simulator
    simulator.clear_faults()
    simulator.set_clock(NOW, 0)


def test_trades_go_on_over_two_cuts(
    provider: DrlBinanceProvider, running: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Binance sent them, each once, in order, from a thread in the background; after the end nothing comes."""
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.01)
    start_ms = running.now_ms()
    trades: list[dict[str, Any]] = []
    threads: set[str] = set()

    def callback(trade: dict[str, Any]) -> None:
        trades.append(trade)
        threads.add(threading.current_thread().name)
        if len(trades) == 2:
            raise RuntimeError("a fault of the manager's")

    provider.start_streaming(["BTC-USDT", "ETHUSDT"], callback)
    with pytest.raises(InputError, match="already"):
        provider.start_streaming(["BTCUSDT"], callback)
    ended = len(running.connections)

    def both_come() -> None:
        seen = len(trades)
        wait_until(lambda: {trade["s"] for trade in trades[seen:]} == {"BTCUSDT", "ETHUSDT"})

    def cut(number: int) -> None:
        running.add_fault("stream-reset=0:1")
        wait_until(lambda: len(running.connections) == ended + number)

    for number in (1, 2):
        both_come()
        cut(number)
    both_come()
    provider.stop_streaming()
    count = len(trades)
    stop_ms = running.now_ms() + 1
    for symbol in ("BTCUSDT", "ETHUSDT"):
        sent = {
            event["t"]: event for event in running.streamed("spot", f"{symbol.lower()}@trade", start_ms - 5000, stop_ms)
        }
        came = [trade for trade in trades if trade["s"] == symbol]
        ids = [trade["t"] for trade in came]
        assert ids == sorted(set(ids))
        for trade in came:
            told = sent[trade["t"]]
            assert {name: trade[name] for name in "espqtTm"} == {name: told[name] for name in "espqtTm"}
            assert trade["e"] == "trade"
            assert "E" in trade
    assert threads == {"binance-trades-callback"}
    time.sleep(0.3)
    assert len(trades) == count
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("binance-trades")]


def test_it_streams_again_and_teardown_ends_it(provider: DrlBinanceProvider, running: Simulator) -> None:
    came = threading.Event()
    for _ in range(2):
        came.clear()
        provider.start_streaming([], lambda trade: came.set())
        assert came.wait(60)
        provider.teardown()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("binance-trades")]


def test_attempts_come_to_an_end(hosts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """If a number of them is given; stopping what ended by itself is no error."""
    monkeypatch.setattr(keeping, "reconnect_pause", lambda failures, random: 0.01)
    made = DrlBinanceProvider({**hosts, "websocket_url": "ws://127.0.0.1:9", "reconnect_attempts": 2})
    made.start_streaming(["BTCUSDT"], print)
    stream = made._stream
    assert stream is not None
    wait_until(lambda: not stream.is_running)
    assert stream._tried == {1: 4}
    made.stop_streaming()
    with pytest.raises(ConfigError):
        DrlBinanceProvider({"nothing": 1})
