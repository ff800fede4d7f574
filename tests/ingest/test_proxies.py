"""All requests go through the configured proxy, which alone knows the way; its password shows nowhere."""

from __future__ import annotations

import base64
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_binance import ingest
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.cli import main
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import AuthenticationError, ConfigError, UnreachableError
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.simulator.server import Simulator
from tests.proxy import forward_proxy, tls_front

#: Names that nobody but the proxy can resolve.
HOSTS = {f"{name}_url": f"{name.replace('_', '-')}.binance.invalid" for name in ("spot_rest", "um_rest", "cm_rest")}
HOSTS |= {"archive_url": "archive.binance.invalid", "archive_listing_url": "listing.binance.invalid"}
PASSWORD = "p@ss/w:rd %"
CREDENTIALS = f"user:{quote(PASSWORD, safe='')}"
WINDOW = {"market": "spot", "symbols": "BTCUSDT", "intervals": "1h", "start": "2026-10-01", "end": "2026-11-20T10:00Z"}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=1, now="2026-11-20T12:00:20Z", symbols=["BTCUSDT", "um:BTCUSDT"], limits=False) as simulator:
        yield simulator


def port_of(sim: Simulator) -> int:
    return int(sim.settings["BINANCE_SPOT_REST_URL"].rpartition(":")[2])


def settings(sim: Simulator, scheme: str = "http", **more: Any) -> dict[str, Any]:
    urls = {name: f"{scheme}://{host}" for name, host in HOSTS.items()}
    urls["archive_url"] += "/archive"
    urls["archive_listing_url"] += "/listing"
    return {**urls, "environment": "simulator", "rate_limit_store": "memory://", **more}


@pytest.mark.parametrize("credentials", ["", CREDENTIALS])
def test_rest_and_archive_go_through_the_proxy(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, credentials: str
) -> None:
    """Whatever the environment's proxies are; with and without credentials."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "binance.invalid")
    with forward_proxy(dict.fromkeys(HOSTS.values(), port_of(sim)), credentials) as proxy:
        config = BinanceConfig(**settings(sim, proxies=proxy.url, api_key=sim.api_key, api_secret=sim.api_secret))
        report = ingest.load(**WINDOW, config=config, store=tmp_path / "a.db")
        with BinanceRest(config) as rest:
            rest.account_check(Market.SPOT)
            rest.client.futures_time()
    [loaded] = report.loads
    assert loaded.archive_files > 0
    assert loaded.rest_requests > 0
    assert report.exit_status == 0
    assert len(proxy.seen) == len(sim.requests) > 5
    assert all(is_known for _, _, is_known in proxy.seen)
    assert not any("proxy" in name.lower() for record in sim.requests for name, _ in record.headers)
    texts = caplog.text + repr(config) + str(config.model_dump()) + config.egress + str(report.to_dict())
    for secret in (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"user:{PASSWORD}".encode()).decode()):
        assert secret not in texts


def test_https_goes_through_a_tunnel(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are checked against who vouches, as REQUESTS_CA_BUNDLE names it; the proxy sees host names only."""
    with tls_front(port_of(sim), tmp_path, *HOSTS.values()) as (port, certificate):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with forward_proxy(dict.fromkeys(HOSTS.values(), port), CREDENTIALS) as proxy:
            config = BinanceConfig(**settings(sim, "https", proxies=proxy.url))
            report = ingest.load(**WINDOW, config=config, store=tmp_path / "a.db")
    assert report.exit_status == 0
    assert report.loads[0].archive_files > 0
    assert {method for method, _, _ in proxy.seen} == {"CONNECT"}
    assert {f"{HOSTS[name]}:443" for name in ("spot_rest_url", "archive_url", "archive_listing_url")} == {
        target for _, target, _ in proxy.seen
    }
    assert len(sim.requests) > 3


def dead_proxy() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://{CREDENTIALS}@127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_without_its_password(sim: Simulator, scheme: str) -> None:
    """As what cannot be reached, for REST and archive; trying again may help."""
    url = dead_proxy()
    config = BinanceConfig(**settings(sim, scheme, proxies=url))
    masked = url.replace(CREDENTIALS, "user:***")
    told = f"the proxy {masked} cannot be reached".replace("*", r"\*")
    rest = BinanceRest(config, budget_store=MemoryBudgetStore(), sleep=lambda s: None)
    with rest, pytest.raises(UnreachableError, match=told) as caught:
        rest.ping(Market.SPOT)
    assert (caught.value.exit_status, caught.value.retryable) == (4, True)
    with pytest.raises(UnreachableError, match=told):
        ArchiveHttp(config, sleep=lambda s: None).get(config.archive_url + "/data/x.zip", lambda a: None, ref="x.zip")


def test_the_command_line_names_the_dead_proxy(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 4, one line, no password, also in the log."""
    monkeypatch.setattr("airflow_provider_binance.rest.failures.FIRST_PAUSE_SECONDS", 0.01)
    for name, value in settings(sim, proxies=dead_proxy()).items():
        monkeypatch.setenv(f"BINANCE_{name.upper()}", value)
    words = ["--symbol", "BTCUSDT", "--interval", "1h", "--start", "2026-11-19", "--source", "rest"]
    assert main(["load", "-vv", *words, "--store", f"sqlite:///{tmp_path}/a.db"]) == 4
    err = capsys.readouterr().err
    assert "the proxy http://user:***@127.0.0.1:" in err
    assert "Traceback" not in err
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in err


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_other_credentials_is_asked_once(sim: Simulator, scheme: str) -> None:
    """Trying again cannot help."""
    with forward_proxy({}, "user:other") as proxy:
        url = proxy.url.replace("user:other", CREDENTIALS)
        config = BinanceConfig(**settings(sim, scheme, proxies=url))
        rest = BinanceRest(config, budget_store=MemoryBudgetStore())
        with rest, pytest.raises(AuthenticationError, match="407") as caught:
            rest.ping(Market.SPOT)
        with pytest.raises(AuthenticationError, match="407"):
            ArchiveHttp(config).get(config.archive_url + "/data/x.zip", lambda a: None, ref="x.zip")
    assert len(proxy.seen) == 2
    assert quote(PASSWORD, safe="") not in str(caught.value)


def test_each_proxy_has_a_weight_budget_of_its_own(sim: Simulator) -> None:
    """Two addresses are two counters at Binance; who names the address himself decides."""
    store = MemoryBudgetStore()
    hosts = dict.fromkeys(HOSTS.values(), port_of(sim))
    with forward_proxy(hosts, CREDENTIALS) as one, forward_proxy(hosts) as other:
        for given in ({"proxies": one.url}, {"proxies": other.url}, {"proxies": one.url, "egress_id": "nat"}):
            with BinanceRest(BinanceConfig(**settings(sim, **given)), budget_store=store) as rest:
                rest.ping(Market.SPOT)
        shown = one.url.replace(CREDENTIALS, "user:***")
        assert set(store._values) == {f"simulator|spot|{egress}" for egress in (shown, other.url, "nat")}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("ftp://user:hush@h:1", "is no proxy; use http|https|socks4"),
        ("http://user:hush@h:port", "is no proxy"),
        ('{"http": 5}', "type int is no proxy; use http|https|socks4"),
        ({"https": {"url": "http://user:hush@h:1"}}, "type dict is no proxy"),
        ("5", "'http://5' is no proxy"),
        ("user:hush@", "is no proxy"),
        ('{"gopher": "http://user:hush@h:1"}', "'gopher' is no scheme that a proxy can serve; use http, https, all"),
        ('{"http": ', "proxies"),
        ("socks5://user:hush@h:1", "pip install pysocks"),
        ("http://ж:hush@h:1", "Latin letters only"),
    ],
)
def test_what_cannot_be_a_proxy_is_refused_without_its_password(given: Any, told: str) -> None:
    """In one line, with the ways to set it."""
    with pytest.raises(ConfigError) as caught:
        BinanceConfig(proxies=given)
    assert told in str(caught.value)
    assert "BINANCE_PROXIES" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_proxy_without_scheme_is_one_of_http() -> None:
    """As other programs take it."""
    config = BinanceConfig(proxies="user:hush@proxy:3128")
    assert config.proxies["https"] == "http://user:hush@proxy:3128"
    assert config.egress == "http://user:***@proxy:3128"
