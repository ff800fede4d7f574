"""API keys of all kinds, signed by us, verified by the simulator; and their rotation while requests go."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

import pytest
from binance.exceptions import BinanceAPIException

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import AuthenticationError, BinanceError, ConfigError, RequestRejectedError
from airflow_provider_binance.market import Market
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.simulator.accounts import Account
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.signatures import HmacSha256, SignatureScheme, scheme_of
from tests.keys import KINDS, PASSWORD, key_pair
from tests.rest import waiting
from tests.rest.scripted import Says, scripted

ACCOUNT = {Market.SPOT: "/api/v3/account", Market.UM: "/fapi/v2/account", Market.CM: "/dapi/v1/account"}
OLD, NEW = "o" * 64, "n" * 64
ODD = {"symbol": "币安人生USDT", "note": "a b&c=d/e+f%", "list": ["x", "é"]}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=1, now="2026-11-20T12:00:20Z", limits=False) as simulator:
        yield simulator


def rest_of(config: BinanceConfig, **more: object) -> BinanceRest:
    return BinanceRest(config, budget_store=MemoryBudgetStore(), **more)


def settings(sim: Simulator, kind: str) -> dict[str, str]:
    """A key of that kind, which the simulator knows from now on."""
    scheme: SignatureScheme = HmacSha256("very/secret+value==")
    given = {"api_secret": "very/secret+value=="}
    if kind != "hmac":
        pair = key_pair(kind.removesuffix(" encrypted"))
        scheme, given = scheme_of(pair.public), {"private_key": pair.private}
        if kind.endswith("encrypted"):
            given = {"private_key": pair.encrypted, "private_key_password": PASSWORD}
    sim.add_account(Account(OLD, scheme))
    return {"api_key": OLD, **given}


ALL_KINDS = ("hmac", *KINDS, *(f"{kind} encrypted" for kind in KINDS))


# --- Signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_of_key_signs_on_every_market(sim: Simulator, kind: str) -> None:
    """Percent-encoded before it is signed, whatever the parameters; ours and python-binance's own calls."""
    with rest_of(BinanceConfig.load(environ=sim.settings, **settings(sim, kind))) as rest:
        for market, path in ACCOUNT.items():
            rest.signed_get(market, path, ODD)
            assert rest.request("GET", path, ODD, market=market, signed=True)["canTrade"] is False
        assert rest.client.get_account(**{**ODD, "list": '["x","é"]', "note": "a b/c+d,[e]"})["accountType"] == "SPOT"
        rest.client.futures_account(symbol="币安人生USDT", note="ü ü")
        rest.client.futures_coin_account(symbol="币安人生USD_PERP")
    signed = [record for record in sim.requests if "signature" in record.query]
    assert [record.status for record in signed] == [200] * 9
    assert all(record.query.isascii() for record in signed)
    assert f"symbol={quote('币安人生USDT')}" in signed[0].query
    assert all(record.query.rpartition("&")[2].startswith("signature=") for record in signed)


@pytest.mark.parametrize("kind", ["hmac", *KINDS])
def test_a_form_is_signed_as_it_is_sent(sim: Simulator, kind: str) -> None:
    """python-binance's POST, PUT and DELETE, whose parameters are the body (no route here takes them, so: as seen)."""
    from requests import Request, Session

    from airflow_provider_binance.rest.credentials import Credentials
    from airflow_provider_binance.rest.signing import sign_request

    credentials = Credentials.of(BinanceConfig.load(environ=sim.settings, **settings(sim, kind)))
    data = {"symbol": "币安人生USDT", "note": "a b+c", "timestamp": "1", "signature": "python-binance's"}
    request = Session().prepare_request(Request("POST", "http://h/api/v3/order?recvWindow=5000", data=data))
    for now_ms in (1_700_000_000_000, 1_700_000_000_001):  # twice, as when it is sent again
        sign_request(request, credentials.sign, now_ms)
        body = str(request.body)
        payload, _, signature = body.rpartition("&signature=")
        assert payload == f"symbol={quote('币安人生USDT')}&note=a%20b%2Bc&timestamp={now_ms}"
        assert signature == quote(credentials.sign("recvWindow=5000" + payload), safe="") or kind == "rsa"
        assert request.headers["Content-Length"] == str(len(body))
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.url == "http://h/api/v3/order?recvWindow=5000"


def test_a_key_of_another_account_is_1022(sim: Simulator) -> None:
    """With what to look at."""
    config = settings(sim, "rsa") | {"private_key": key_pair("rsa", 1).private}
    told = pytest.raises(AuthenticationError, match="does not belong to this API key")
    with rest_of(BinanceConfig.load(environ=sim.settings, **config)) as rest, told as caught:
        rest.account_check(Market.SPOT)
    assert caught.value.code == -1022


@pytest.mark.parametrize(
    ("pem", "password", "told"),
    [
        (key_pair("rsa").encrypted, None, "is encrypted: set private_key_password"),
        (key_pair("ed25519").encrypted, None, "is encrypted: set private_key_password"),
        (key_pair("rsa").encrypted, "wrong", "does not open with private_key_password"),
        (key_pair("ed25519").encrypted, "wrong", "does not open with private_key_password"),
        (key_pair("ec").private, None, "of the kind NIST P-256; Binance takes RSA and Ed25519"),
        (key_pair("rsa").private.replace("\nM", "\nA", 1), None, "damaged or of an unknown kind"),
    ],
)
def test_a_key_that_cannot_sign_is_told_before_anything_is_sent(
    sim: Simulator, pem: str, password: str | None, told: str
) -> None:
    """As the user's mistake, without the key or the password."""
    given = {"api_key": OLD, "private_key": pem, "private_key_password": password}
    with rest_of(BinanceConfig.load(environ=sim.settings, **given)) as rest:
        with pytest.raises(ConfigError, match=told) as caught:
            rest.account_check(Market.SPOT)
        with pytest.raises(ConfigError, match=told):
            rest.client.get_account()
    assert sim.requests == []
    assert caught.value.exit_status == 2
    assert pem.splitlines()[1] not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_signed_request_that_waited_for_the_budget_has_the_time_at_which_it_goes(sim: Simulator) -> None:
    """Half a minute in the queue, and its timestamp is fresh."""
    now = [time.time()]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        sim.set_clock(int(now[0] * 1000), 0)

    sim.set_clock(int(now[0] // 60 * 60_000 + 30_000), 0)
    now[0] = sim.now_ms() / 1000
    config = BinanceConfig.load(environ=sim.settings, rate_limit_requests_per_minute=30, **settings(sim, "ed25519"))
    with rest_of(config, sleep=sleep, wait=waiting.by(sleep), clock=lambda: now[0]) as rest:
        began = now[0]
        for _ in range(2):
            rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
    assert now[0] - began > 25
    assert [record.status for record in sim.requests] == [200, 200, 200]


# --- Rotation -------------------------------------------------------------------------------------------------------


class Vault:
    """Where keys are kept: what `reread` reads."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.reads = 0
        self.fault: Exception | None = None
        self.put(OLD, HmacSha256("old secret"), api_secret="old secret")

    def put(self, key: str, scheme: SignatureScheme, **given: str) -> None:
        self.sim.add_account(Account(key, scheme))
        self.now = {"api_key": key, **given}

    def put_new(self) -> None:
        self.put(NEW, scheme_of(key_pair("ed25519").public), private_key=key_pair("ed25519").private)

    def clock(self) -> float:
        """A local clock that goes with the simulator's."""
        return self.sim.now_ms() / 1000

    def wait(self, seconds: float) -> None:
        self.sim.set_clock(self.sim.now_ms() + round(seconds * 1000), 0)

    def config(self) -> BinanceConfig:
        return BinanceConfig.load(environ=self.sim.settings, **self.now).reread_by(self.read)

    def read(self) -> BinanceConfig:
        self.reads += 1
        if self.fault:
            raise self.fault
        return self.config()


def keys_of(sim: Simulator) -> list[tuple[str, int]]:
    return [(key[:1], r.status) for r in sim.requests if (key := r.header("X-MBX-APIKEY"))]


def test_a_refused_key_is_read_again_at_once_and_the_request_goes_once_more(sim: Simulator) -> None:
    """Ours and python-binance's own."""
    vault = Vault(sim)
    with rest_of(vault.config()) as rest:
        rest.account_check(Market.SPOT)
        vault.put_new()
        sim.remove_account(OLD)
        assert rest.client.get_account()["accountType"] == "SPOT"
        assert rest.client.API_KEY == NEW
        rest.account_check(Market.UM)
    assert keys_of(sim) == [("o", 200), ("o", 401), ("n", 200), ("n", 200)]
    assert vault.reads == 1


def test_a_key_that_stays_refused_is_sent_no_second_time(sim: Simulator) -> None:
    """There is no other key to try with: one refusal, one look, one error."""
    vault = Vault(sim)
    with rest_of(vault.config()) as rest:
        sim.remove_account(OLD)
        with pytest.raises(AuthenticationError, match="unknown or revoked"):
            rest.account_check(Market.SPOT)
        assert (keys_of(sim), vault.reads) == ([("o", 401)], 1)
        vault.put("x" * 64, HmacSha256("s"), api_secret="s")
        sim.remove_account("x" * 64)
        with pytest.raises(AuthenticationError):
            rest.account_check(Market.SPOT)
    assert keys_of(sim) == [("o", 401), ("o", 401), ("x", 401)]


def test_keys_are_read_again_once_a_minute_and_only_when_they_are_needed(sim: Simulator) -> None:
    """A new key comes into use before the old one is revoked."""
    vault = Vault(sim)
    vault.wait(0)  # from now on it stands
    with rest_of(vault.config(), clock=vault.clock) as rest:
        for _ in range(3):
            rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
        vault.put_new()
        vault.wait(59)
        rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
        assert vault.reads == 0
        vault.wait(3600)
        rest.get(Market.SPOT, "/api/v3/ping")
        assert vault.reads == 0
        for _ in range(3):
            rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
    assert vault.reads == 1
    assert keys_of(sim) == [("o", 200)] * 4 + [("n", 200)] * 3


@pytest.mark.parametrize("fault", [ConfigError("no such connection; secret old secret"), OSError("vault is down")])
def test_a_vault_that_fails_changes_nothing(sim: Simulator, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The key at hand goes on being used, and it is told; without the secret."""
    vault = Vault(sim)
    with rest_of(vault.config(), clock=vault.clock) as rest:
        vault.fault = fault
        vault.wait(61)
        rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
    assert keys_of(sim) == [("o", 200)]
    assert "cannot read the API key again" in caplog.text
    assert "old secret" not in caplog.text


def test_a_key_that_cannot_sign_does_not_replace_one_that_can(sim: Simulator) -> None:
    """A wrong password in the vault is told, not tried."""
    vault = Vault(sim)
    with rest_of(vault.config(), clock=vault.clock) as rest:
        vault.now = {"api_key": NEW, "private_key": key_pair("rsa").encrypted, "private_key_password": "wrong"}
        vault.wait(61)
        rest.signed_get(Market.SPOT, ACCOUNT[Market.SPOT])
    assert keys_of(sim) == [("o", 200)]


def test_rotation_under_load_fails_nothing_and_never_sends_the_old_key_again(sim: Simulator) -> None:
    """Eight threads, three rotations, each with the old key revoked at once: the simulator's log is the witness.

    The order of the log is that of the answers, so a key must not come back once its successor was seen.
    """
    sim.add_fault("latency=2")
    vault = Vault(sim)
    stop = threading.Event()
    failures: list[Exception] = []
    done = [0] * 8

    def work(rest: BinanceRest, number: int) -> None:
        market = list(Market)[number % 3]
        while not stop.is_set():
            try:
                if number % 2:
                    rest.signed_get(market, ACCOUNT[market], {"symbol": "币安人生USDT"})
                else:
                    rest.client.get_account()
                done[number] += 1
            except (BinanceError, ConfigError, BinanceAPIException) as error:
                failures.append(error)
                return

    def work_on() -> None:
        reached = [count + 5 for count in done]
        while not failures and any(count < want for count, want in zip(done, reached, strict=True)):
            time.sleep(0.005)

    names = "abc"
    with rest_of(vault.config()) as rest, ThreadPoolExecutor(8) as threads:
        for market in (Market.SPOT, Market.UM):
            rest.exchange_info(market)  # whose limit nobody reaches
        for number in range(8):
            threads.submit(work, rest, number)
        work_on()
        for turn, name in enumerate(names):
            before, (kind, pair) = vault.now["api_key"], (KINDS[turn % 2], key_pair(KINDS[turn % 2], turn))
            vault.put(name * 64, scheme_of(pair.public), private_key=pair.private)
            sim.remove_account(before)
            work_on()
        stop.set()
    assert failures == []
    assert kind == "rsa"
    seen = keys_of(sim)
    order = "".join(dict.fromkeys(key for key, _ in seen))
    assert order == "o" + names
    for key, successor in itertools.pairwise(order):
        first = seen.index((successor, 200))
        assert all(later != key for later, _ in seen[first:])
    # Refused were only those that were on their way when their key was revoked.
    assert 3 <= sum(status == 401 for _, status in seen) <= 3 * 8
    assert {status for _, status in seen} == {200, 401}
    assert vault.reads == 3


def test_a_file_of_settings_and_a_file_of_a_key_are_read_again(sim: Simulator, tmp_path: Path) -> None:
    """As scripts and the command line keep them: what was replaced on disk is what is sent."""
    pem, yaml = tmp_path / "key.pem", tmp_path / "binance.yaml"
    keys = [key_pair(kind, 3) for kind in KINDS]
    for key, pair in zip((OLD, NEW), keys, strict=True):
        sim.add_account(Account(key, scheme_of(pair.public)))
    pem.write_text(keys[0].private)
    yaml.write_text(f"api_key: {OLD}\nprivate_key: {pem}\n")
    with rest_of(BinanceConfig.load(environ=sim.settings, config_file=yaml)) as rest:
        rest.account_check(Market.SPOT)
        pem.write_text(keys[1].private)
        yaml.write_text(f"api_key: {NEW}\nprivate_key: {pem}\n")
        sim.remove_account(OLD)
        rest.account_check(Market.SPOT)
    assert keys_of(sim) == [("o", 200), ("o", 401), ("n", 200)]


def test_what_the_account_may_is_not_said_of_the_key(sim: Simulator) -> None:
    """Futures tell only that: a key for reading belongs to an account that may trade, too."""
    sim.add_account(Account(OLD, HmacSha256("s"), may_trade=True))
    with rest_of(BinanceConfig.load(environ=sim.settings, api_key=OLD, api_secret="s")) as rest:
        [of_key] = rest.account_check(Market.SPOT).warnings
        [of_account] = rest.account_check(Market.UM).warnings
    assert of_key.startswith("this API key may trade")
    assert of_account.startswith("the account of this key, and maybe the key")


def test_a_host_without_accounts_is_told(sim: Simulator) -> None:
    """Binance's data-only host, which those in restricted locations use."""
    sim.add_fault("http=404@/sapi/")
    told = pytest.raises(RequestRejectedError, match="data-only hosts serve public data")
    with rest_of(BinanceConfig.load(environ=sim.settings, **settings(sim, "hmac"))) as rest, told:
        rest.account_check(Market.SPOT)


@pytest.mark.parametrize("kind", ["hmac", *KINDS])
def test_what_python_binance_posts_is_signed_as_it_is_sent(sim: Simulator, kind: str) -> None:
    """Forms, a DELETE and its batch orders, which it encodes itself; no route of the simulator takes them."""
    given = settings(sim, kind)
    scheme = sim.server.accounts._accounts[OLD].scheme
    clock = Says(body={"serverTime": round(time.time() * 1000)})
    order = {"symbol": "币安人生USDT", "side": "BUY", "type": "MARKET", "quantity": "1", "newClientOrderId": "a b+c/ü"}
    with scripted(clock, *[Says()] * 2, clock, Says(), always=Says()) as server:
        urls = {f"{market}_rest_url": server.url for market in Market}
        with rest_of(BinanceConfig(environment="simulator", **urls, **given)) as rest:
            rest.client.create_test_order(**order)
            rest.client.cancel_order(symbol="币安人生USDT", origClientOrderId="a b")
            rest.client.futures_place_batch_order(batchOrders=[{**order, "newClientOrderId": "a"}])
        posted = [seen for seen in server.seen if "time" not in seen.path]
    assert [seen.method for seen in posted] == ["POST", "DELETE", "POST"]
    for seen in posted:
        payload, _, signature = (seen.raw_query + seen.body).rpartition("&signature=")
        assert payload.isascii()
        assert scheme.verify(payload.encode(), unquote(signature)), payload
        assert seen.headers["X-MBX-APIKEY"] == OLD
    assert dict(parse_qsl(posted[0].body))["newClientOrderId"] == "a b+c/ü"
    [batched] = json.loads(dict(parse_qsl(posted[2].raw_query + posted[2].body))["batchOrders"])
    assert batched["symbol"] == "币安人生USDT"
