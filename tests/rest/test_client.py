"""`BinanceRest` against scripted answers: each failure class, the clock, the key, the budget's feedback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from decimal import Decimal
from urllib.parse import quote

import pytest
import requests
from binance.exceptions import BinanceAPIException

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    AuthenticationError,
    BannedError,
    BinanceError,
    BlockedError,
    ClockSkewError,
    ConfigError,
    InputError,
    MalformedResponseError,
    RequestRejectedError,
    RestrictedLocationError,
    UnreachableError,
)
from airflow_provider_binance.market import MINUTE_US, Market
from airflow_provider_binance.rest.budget_stores import MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.rest.meter import Meter
from tests.rest import waiting
from tests.rest.scripted import Says, scripted

SPOT = Market.SPOT
KEY, SECRET = "K" * 60 + "ey+/", "very/secret+value=="


def rest_for(url, *, sleeps=None, store=None, **settings):
    settings = {"spot_rest_url": url, "um_rest_url": url, "cm_rest_url": url, "environment": "simulator", **settings}
    sleep = time.sleep if sleeps is None else sleeps.append
    return BinanceRest(BinanceConfig(**settings), budget_store=store or MemoryBudgetStore(), sleep=sleep)


def error(status, code=-1000, msg="no", **headers):
    return Says(status, {"code": code, "msg": msg}, {name.replace("_", "-"): value for name, value in headers.items()})


def used(store, pool="spot"):
    value = next(v for k, v in store._values.items() if f"|{pool}|" in k)
    return sum(w[0] + w[3] for w in value["windows"].values())


# --- What is tried again --------------------------------------------------------------------------------------------

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[[1,2"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[[1,2\r\n"
UNBALANCED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[[1,2],[3,4]"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(500), "HTTP 500"),
        (error(503, -1008, "overloaded"), "-1008"),
        (error(408, -1007), "HTTP 408"),
        (Says(reset=True), "spot /api/v3/klines"),
        (Says(raw=CUT), "spot /api/v3/klines"),
        (Says(raw=CUT_CHUNK), "spot /api/v3/klines"),
        (Says(raw=UNBALANCED), "cut short"),
        (Says(body=b"<html>Welcome to the hotel</html>"), "no JSON"),
        (Says(body=b""), "no JSON"),
        (Says(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}), "redirects are not followed"),
    ],
)
def test_what_passes_is_tried_again_and_logged(bad, reason, caplog):
    sleeps: list[float] = []
    with scripted(bad, Says(body=[[1, 2]])) as server, rest_for(server.url, sleeps=sleeps) as rest:
        assert rest.get(SPOT, "/api/v3/klines") == b"[[1, 2]]"
        assert [seen.path for seen in server.seen] == ["/api/v3/klines"] * 2
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.name.startswith("airflow_provider_binance.rest")
    assert reason in record.getMessage()
    assert "path=/api/v3/klines" in record.getMessage()
    assert "attempt=1" in record.getMessage()
    assert len(sleeps) == 1
    assert 0 <= sleeps[0] <= 1


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(error(500), UnreachableError), (Says(reset=True), UnreachableError), (Says(raw=CUT), MalformedResponseError)],
)
def test_the_tries_are_bounded_and_their_pauses_grow(bad, kind):
    sleeps: list[float] = []
    with scripted(always=bad) as server, rest_for(server.url, sleeps=sleeps) as rest:
        with pytest.raises(kind) as caught:
            rest.get(SPOT, "/api/v3/klines")
        assert caught.value.retryable
        assert len(server.seen) == 5
    assert len(sleeps) == 4
    assert sum(sleeps) < 1 + 2 + 4 + 8


def test_nobody_listening_is_unreachable():
    with scripted() as server:
        url = server.url
    with rest_for(url, sleeps=[]) as rest, pytest.raises(UnreachableError, match="spot /api/v3/ping"):
        rest.ping(SPOT)


def test_a_silent_server_meets_the_time_out():
    held = threading.Event()
    hang = Says(before=lambda: held.wait(5), body=[])
    with (
        scripted(hang, Says(body=[[1]])) as server,
        rest_for(server.url, request_timeout_seconds=0.2, sleeps=[]) as rest,
    ):
        assert rest.get(SPOT, "/api/v3/klines") == b"[[1]]"
        held.set()


def test_a_dripping_body_is_given_up_in_bounded_time():
    body = b"[" + b" " * 10_000 + b"]"

    def drip(send):
        for i in range(len(body)):
            send(body[i : i + 1])
            time.sleep(0.02)

    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        try:
            drip(connection.sendall)
        except OSError:
            pass
        connection.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    began = time.monotonic()
    with rest_for(url, request_timeout_seconds=0.2, sleeps=[]) as rest, pytest.raises(UnreachableError):
        rest.get(SPOT, "/api/v3/klines")
    assert time.monotonic() - began < 5
    thread.join()


# --- What is told at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "kind", "text"),
    [
        (error(400, -1121, "Invalid symbol."), RequestRejectedError, "code -1121: Invalid symbol."),
        (error(400, -1122, "Invalid symbol status."), RequestRejectedError, "-1122"),
        (Says(404, b"<html>no such page</html>"), RequestRejectedError, "HTTP 404"),
        (error(401, -2015, "Invalid API-key"), AuthenticationError, "-2015"),
        (error(400, -2014, "bad key"), AuthenticationError, "-2014"),
        (error(400, -1022, "bad signature"), AuthenticationError, "-1022"),
        (
            error(451, 0, "restricted location"),
            RestrictedLocationError,
            "spot_rest_url=https://data-api.binance.vision",
        ),
        (error(418, -1003, "banned", Retry_After="600"), BannedError, "retry after 600 s"),
    ],
)
def test_what_does_not_pass_is_told_at_once(bad, kind, text):
    sleeps: list[float] = []
    with scripted(bad) as server, rest_for(server.url, sleeps=sleeps) as rest:
        with pytest.raises(kind, match=text.replace("(", "\\(")) as caught:
            rest.get(SPOT, "/api/v3/klines")
        assert len(server.seen) == 1
    assert sleeps == []
    assert caught.value.status == bad.status


def test_a_rejection_carries_code_and_msg():
    answer = error(400, -1121, "Invalid symbol.")
    with scripted(answer) as server, rest_for(server.url) as rest, pytest.raises(RequestRejectedError) as caught:
        rest.kline_page(SPOT, "NOPE", "1m", 0, MINUTE_US, 1)
    assert (caught.value.code, caught.value.msg, caught.value.retryable) == (-1121, "Invalid symbol.", False)


def test_futures_in_a_restricted_location_are_sent_to_the_archive():
    told = pytest.raises(RestrictedLocationError, match="--source archive")
    with scripted(error(451, 0, "restricted")) as server, rest_for(server.url) as rest, told:
        rest.get(Market.UM, "/fapi/v1/klines")


def test_the_firewall_is_asked_again_only_once_and_late():
    sleeps: list[float] = []
    with scripted(always=Says(403, b"<html>blocked</html>")) as server, rest_for(server.url, sleeps=sleeps) as rest:
        with pytest.raises(BlockedError):
            rest.get(SPOT, "/api/v3/klines")
        assert len(server.seen) == 2
    assert 30 <= sleeps[0] <= 60


def test_only_get_is_tried_again():
    with scripted(always=error(500)) as server, rest_for(server.url) as rest:
        with pytest.raises(UnreachableError):
            rest.request("POST", "/api/v3/userDataStream", market=SPOT)
        assert len(server.seen) == 1


# --- 429 and 418 are for everyone -----------------------------------------------------------------------------------


class Clock:
    """A local clock that sleeping moves."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def timed(url, clock, *, store=None, priority="backfill", **settings):
    config = BinanceConfig(spot_rest_url=url, um_rest_url=url, cm_rest_url=url, environment="simulator", **settings)
    store = store or MemoryBudgetStore()
    wait = waiting.by(clock.sleep)
    return BinanceRest(config, budget_store=store, sleep=clock.sleep, wait=wait, clock=clock, priority=priority)


def test_after_429_nobody_sends_until_retry_after():
    store, clock = MemoryBudgetStore(), Clock()
    slow = error(429, -1003, "slow", Retry_After="7", Date="")
    with (
        scripted(slow, always=Says(headers={"Date": ""})) as server,
        timed(server.url, clock, store=store) as first,
        timed(server.url, clock, store=store, priority="live") as second,
    ):
        began = clock.now
        with pytest.raises(BinanceAPIException):
            first.client.ping()
        second.ping(SPOT)
        assert clock.now - began >= 7


def test_a_ban_is_told_to_everyone_without_sending(caplog):
    store = MemoryBudgetStore()
    until = int(time.time() * 1000) + 3_600_000
    ban = error(418, -1003, f"Way too much request weight used; IP banned until {until}. Please use WebSocket Streams.")
    with scripted(ban) as server:
        with pytest.raises(BannedError) as caught:
            rest_for(server.url, store=store).ping(SPOT)
        assert 3590 < caught.value.retry_after <= 3602
        with pytest.raises(BannedError) as caught:
            rest_for(server.url, store=store).client.ping()
        assert 3590 < caught.value.retry_after <= 3602
        assert caught.value.status == 418
        assert len(server.seen) == 1


def test_a_429_without_retry_after_waits_for_the_next_minute():
    clock = Clock()
    clock.now = 1_700_000_040.0 + 20  # twenty seconds into a minute
    bad = error(429, -1003, Date="")
    with scripted(bad, Says(headers={"Date": ""})) as server, timed(server.url, clock) as rest:
        rest.ping(SPOT)
        assert len(server.seen) == 2
    assert 1_700_000_100 < clock.now < 1_700_000_103


# --- The budget's feedback ------------------------------------------------------------------------------------------


def test_the_used_weight_header_counts_also_on_errors():
    store = MemoryBudgetStore()
    with scripted(error(400, -1121, x_mbx_used_weight_1m="5000")) as server, rest_for(server.url, store=store) as rest:
        rest._clocks[SPOT].measure(1_700_000_030_000, time.time(), time.time())
        with pytest.raises(RequestRejectedError):
            rest.get(SPOT, "/api/v3/klines")
    assert used(store) == 5000


@pytest.mark.parametrize("odd", ["", "many", "-5", "1e9", "٣"])
def test_an_odd_header_counts_nothing(odd):
    store = MemoryBudgetStore()
    answer = Says(headers={"X-MBX-USED-WEIGHT-1M": quote(odd)})
    with scripted(answer) as server, rest_for(server.url, store=store) as rest:
        rest.get(SPOT, "/api/v3/klines")
    assert used(store) in {2, 4}


def test_throttling_is_logged_once_at_its_start_and_end(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    clock.now = 1_700_000_030.0
    with (
        scripted(always=Says(headers={"Date": ""})) as server,
        timed(server.url, clock, rate_limit_requests_per_minute=10) as rest,
    ):
        for _ in range(12):
            rest.ping(SPOT)
    lines = [r.getMessage() for r in caplog.records if "throttling" in r.getMessage()]
    assert [line.split(":")[0] for line in lines] == ["throttling starts", "throttling ends"]
    assert clock.now >= 1_700_000_040


def test_what_cannot_fit_is_never_sent():
    with scripted() as server, rest_for(server.url, rate_limit_requests_per_minute=10) as rest:
        with pytest.raises(InputError, match="weight 20 never fits into 10"):
            rest.exchange_info(SPOT)
        assert server.seen == []


def test_a_meter_counts_the_calls_within_also_of_several_threads():
    meter = Meter()
    with scripted(always=Says(body=[[1, 2]])) as server, rest_for(server.url) as rest:

        def work():
            with rest.measure(meter):
                rest.get(SPOT, "/api/v3/klines")
                rest.client.get_klines(symbol="A", interval="1m")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rest.get(SPOT, "/api/v3/klines")
    assert (meter.requests, meter.weight, meter.bytes) == (6, 12, 6 * 8)


def test_a_body_without_length_is_counted_too():
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[[1,2],[3,4]]"
    with scripted(Says(raw=raw)) as server, rest_for(server.url) as rest, rest.measure() as meter:
        rest.get(SPOT, "/api/v3/klines")
    assert meter.bytes == 13


# --- exchangeInfo and first klines ----------------------------------------------------------------------------------

INFO = {
    "rateLimits": [
        {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1234},
    ],
    "symbols": [],
    "tick": 0.1,
}


def test_exchange_info_is_shared_for_an_hour_and_teaches_the_limit():
    store = MemoryBudgetStore()
    with scripted(Says(body=INFO)) as server:
        for _ in range(2):
            with rest_for(server.url, store=store, environment="production") as rest:
                assert rest.exchange_info(SPOT)["tick"] == Decimal("0.1")
        assert len(server.seen) == 1
    assert next(iter(store._values.values()))["limit"] == 1234


def test_a_simulators_exchange_info_stays_in_the_process():
    store = MemoryBudgetStore()
    with scripted(Says(body=INFO), Says(body=INFO)) as server:
        for _ in range(2):
            with rest_for(server.url, store=store) as rest:
                rest.exchange_info(SPOT)
                rest.exchange_info(SPOT)
        assert len(server.seen) == 2


def test_odd_exchange_info_is_told():
    told = pytest.raises(MalformedResponseError, match="exchangeInfo")
    with scripted(Says(body={"symbols": []})) as server, rest_for(server.url) as rest, told:
        rest.exchange_info(SPOT)


def test_first_kline():
    with scripted(Says(body=[[1502942400000, "1"]]), Says(body=[])) as server, rest_for(server.url) as rest:
        assert rest.first_kline_us(SPOT, "BTCUSDT", "1m") == 1_502_942_400_000_000
        assert rest.first_kline_us(SPOT, "BTCUSDT", "1m") == 1_502_942_400_000_000
        assert rest.first_kline_us(SPOT, "NEWUSDT", "1m") is None
        assert [(s.query["startTime"], s.query["limit"]) for s in server.seen] == [("0", "1")] * 2
        with pytest.raises(InputError, match="onboardDate"):
            rest.first_kline_us(Market.CM, "BTCUSD_PERP", "1m")


def test_a_symbol_of_any_script_and_case_is_sent_encoded():
    with scripted() as server, rest_for(server.url) as rest:
        rest.kline_page(SPOT, "币安人生USDT", "1M", 0, MINUTE_US, 1)
        assert server.seen[0].query == {
            "symbol": "币安人生USDT", "interval": "1M", "startTime": "0", "endTime": "59999", "limit": "1",
        }  # fmt: skip


# --- Clock and signature --------------------------------------------------------------------------------------------


def test_the_clock_is_asked_once_and_lazily():
    ahead = int(time.time() * 1000) + 3_600_000
    with scripted(Says(body={"serverTime": ahead})) as server, rest_for(server.url) as rest:
        assert abs(rest.server_now_us(SPOT, ask=False) / 1e6 - time.time()) < 1
        assert server.seen == []
        for _ in range(3):
            assert abs(rest.server_now_us(SPOT) / 1e3 - ahead) < 2000
        assert [seen.path for seen in server.seen] == ["/api/v3/time"]


def clock_answer():
    return Says(body={"serverTime": int(time.time() * 1000)})


def test_a_refused_clock_is_measured_anew_once_and_then_told(caplog):
    refused = error(400, -1021, "Timestamp for this request is outside of the recvWindow.")
    script = [clock_answer(), refused, clock_answer(), Says(body={"canTrade": False})]
    with scripted(*script) as server, rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest:
        assert rest.signed_get(SPOT, "/api/v3/account") == b'{"canTrade": false}'
        assert [s.path.rpartition("/")[2] for s in server.seen] == ["time", "account", "time", "account"]
    script = [clock_answer(), refused, clock_answer(), refused]
    with scripted(*script) as server, rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest:
        with pytest.raises(ClockSkewError, match="measured anew") as caught:
            rest.signed_get(SPOT, "/api/v3/account")
        assert caught.value.code == -1021
        assert len(server.seen) == 4


def test_python_binances_own_signed_calls_get_the_same_clock():
    refused = error(400, -1021, "Timestamp")
    script = [clock_answer(), refused, clock_answer(), Says(body={"ok": 1})]
    with scripted(*script) as server, rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest:
        assert rest.client.get_account() == {"ok": 1}
        assert [s.path.rpartition("/")[2] for s in server.seen] == ["time", "account", "time", "account"]
        for seen in server.seen[1::2]:
            assert abs(int(seen.query["timestamp"]) - time.time() * 1000) < 2000


def test_parameters_are_encoded_before_they_are_signed():
    with (
        scripted(clock_answer(), always=Says()) as server,
        rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest,
    ):
        rest.signed_get(SPOT, "/api/v3/account", {"symbol": "币安 USDT", "list": ["a", "b"]})
        query = server.seen[1].query
    signature = query.pop("signature")
    payload = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    assert signature == hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    assert query["list"] == '["a","b"]'


def test_a_missing_key_is_told_with_every_way_to_set_it():
    with scripted() as server, rest_for(server.url) as rest:
        with pytest.raises(ConfigError, match="BINANCE_API_KEY"):
            rest.signed_get(SPOT, "/api/v3/account")
        with pytest.raises(ConfigError, match="BINANCE_API_KEY"):
            rest.get(Market.UM, "/fapi/v1/historicalTrades", {"symbol": "BTCUSDT"}, key=True)
        assert server.seen == []
    with rest_for("http://127.0.0.1:1", api_key=KEY) as rest, pytest.raises(ConfigError, match="BINANCE_API_SECRET"):
        rest.signed_get(SPOT, "/api/v3/account")


# --- The key goes only where it must --------------------------------------------------------------------------------


def test_the_key_never_goes_to_public_routes():
    script = [clock_answer()]
    with scripted(*script, always=Says()) as server, rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest:
        rest.signed_get(SPOT, "/api/v3/account")
        rest.get(Market.UM, "/fapi/v1/historicalTrades", {"symbol": "BTCUSDT"}, key=True)
        rest.get(SPOT, "/api/v3/historicalTrades", {"symbol": "BTCUSDT"})
        rest.client.get_klines(symbol="BTCUSDT", interval="1m")
        rest.client.futures_klines(symbol="BTCUSDT", interval="1m")
        rest.client.futures_open_interest_hist(symbol="BTCUSDT", period="5m")
        rest.client.get_exchange_info()
        rest.get(SPOT, "/api/v9/inventedRoute")
        with_key = [seen.path for seen in server.seen if "X-MBX-APIKEY" in seen.headers]
        assert with_key == ["/api/v3/account", "/fapi/v1/historicalTrades"]
        assert len(server.seen) == 9


def test_redirects_are_not_followed_not_even_by_python_binance():
    with scripted(always=Says()) as thief:
        away = Says(302, b"", {"Location": f"{thief.url}/api/v3/account?signature=1"})
        with (
            scripted(clock_answer(), away, always=away) as server,
            rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest,
        ):
            with pytest.raises(requests.TooManyRedirects):
                rest.client.get_account()
            rest.client.session.get(f"{thief.url}/api/v3/account?signature=1")
        assert ["X-MBX-APIKEY" in seen.headers for seen in thief.seen] == [False]


def spellings(secret):
    return {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}


def test_no_secret_and_no_signature_is_in_logs_errors_or_reprs(caplog):
    caplog.set_level(logging.DEBUG)
    echo = error(401, -2015, f"Invalid API-key {KEY}, request ip: 127.0.0.1")
    texts = []

    def fails(call):
        with pytest.raises((BinanceError, requests.RequestException)) as caught:
            call()
        texts.append("".join(traceback.format_exception(caught.value)))

    with (
        scripted(clock_answer(), echo, echo, always=Says(reset=True)) as server,
        rest_for(server.url, api_key=KEY, api_secret=SECRET, sleeps=[]) as rest,
    ):
        fails(lambda: rest.signed_get(SPOT, "/api/v3/account"))
        fails(lambda: rest.account_check(SPOT))
        fails(rest.client.get_account)
        texts += [repr(rest), repr(rest.config), repr(rest.client), repr(rest.budget_store)]
    with rest_for("http://127.0.0.1:1", api_key=KEY, api_secret=SECRET, sleeps=[]) as rest:
        rest._clocks[SPOT].measure(time.time() * 1000, time.time(), time.time())
        fails(lambda: rest.signed_get(SPOT, "/api/v3/account"))
        fails(rest.client.get_account)
    everything = "\n".join([*texts, caplog.text])
    assert "signature=***" in everything
    assert not re.search(r"signature=[0-9a-f]{8}", everything)
    for secret in (KEY, SECRET):
        for spelling in spellings(secret):
            assert spelling not in everything


def test_the_configured_proxy_wins_over_the_environments(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with scripted(always=Says(body=[])) as proxy:
        settings = {"proxies": {"http": proxy.url}, "archive_url": "http://h", "archive_listing_url": "http://h"}
        with rest_for("http://binance.invalid", **settings) as rest:
            rest.get(SPOT, "/api/v3/klines")
            rest.client.get_klines(symbol="A", interval="1m")
        assert [(s.path, s.headers["Host"]) for s in proxy.seen] == [("/api/v3/klines", "binance.invalid")] * 2


# --- Account rights -------------------------------------------------------------------------------------------------


def test_a_key_that_may_more_than_read_is_warned_of(caplog):
    rights = {"ipRestrict": False, "enableReading": True, "enableWithdrawals": True, "enableFutures": True}
    script = [clock_answer(), Says(body=rights)]
    with scripted(*script) as server, rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest:
        found = rest.account_check(SPOT)
        assert server.seen[1].path == "/sapi/v1/account/apiRestrictions"
    assert (found.may_trade, found.may_withdraw, found.is_ip_restricted) == (True, True, False)
    assert len(found.warnings) == 2
    assert "may withdraw" in caplog.text


def test_a_key_that_only_reads_is_fine(caplog):
    with (
        scripted(clock_answer(), Says(body={"canTrade": False})) as server,
        rest_for(server.url, api_key=KEY, api_secret=SECRET) as rest,
    ):
        assert rest.account_check(Market.UM).warnings == ()
        assert server.seen[1].path == "/fapi/v2/account"
    assert caplog.text == ""


# --- python-binance, metered and otherwise unchanged ----------------------------------------------------------------


def test_each_thread_has_a_client_and_all_share_the_connections():
    with scripted(always=Says(body=[])) as server, rest_for(server.url) as rest:
        clients = [rest.client]
        thread = threading.Thread(target=lambda: clients.append(rest.client))
        thread.start()
        thread.join()
        assert clients[0] is rest.client
        assert clients[0] is not clients[1]
        assert clients[0].session is clients[1].session
        assert server.seen == [], "making a client asks nothing"


def test_opening_and_importing_cost_nothing():
    script = (
        "import sys; from airflow_provider_binance.rest.client import BinanceRest;"
        "from airflow_provider_binance.config import BinanceConfig; BinanceRest(BinanceConfig());"
        "print([m for m in ('binance', 'requests', 'pandas', 'sqlalchemy', 'filelock', 'airflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_cached_exchange_info_needs_no_python_binance(tmp_path):
    script = (
        "import sys; from airflow_provider_binance.rest.client import BinanceRest;"
        "from airflow_provider_binance.rest.budget_stores import FileBudgetStore;"
        "from airflow_provider_binance.config import BinanceConfig; from airflow_provider_binance.market import Market;"
        "store = FileBudgetStore(sys.argv[1]); rest = BinanceRest(BinanceConfig(), budget_store=store);"
        "store.cache_put('https://api.binance.com/api/v3/exchangeInfo', b'{\"rateLimits\": [], \"symbols\": []}');"
        "print(rest.exchange_info(Market.SPOT), [m for m in ('binance', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "b.json")], capture_output=True, text=True)
    assert done.stdout.strip() == "{'rateLimits': [], 'symbols': []} []", done.stderr
