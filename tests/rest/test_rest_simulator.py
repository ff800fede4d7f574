"""The REST room against the simulator with its limits enforced."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    AuthenticationError,
    BannedError,
    BinanceError,
    BlockedError,
    ClockSkewError,
    RequestRejectedError,
    RestrictedLocationError,
)
from airflow_provider_binance.market import INTERVALS, MINUTE_US, Market
from airflow_provider_binance.rest.budget_stores import FileBudgetStore, MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.rest.pages import plan_pages
from airflow_provider_binance.simulator.server import Simulator
from tests.rest import waiting

NOW = "2026-11-20T12:00:20Z"
START = 1_767_225_600_000_000  # 2026-01-01
SPEED = 60.0  # a minute in a second
PAGES = {Market.SPOT: "/api/v3/klines", Market.UM: "/fapi/v1/klines", Market.CM: "/dapi/v1/klines"}
SYMBOLS = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


@pytest.fixture
def sim():
    with Simulator(seed=1, now=NOW) as simulator:
        yield simulator


@pytest.fixture
def fast():
    """One minute a second, and small limits."""
    with Simulator(seed=1, now=NOW, speed=SPEED) as simulator:
        simulator.server.limiter.limits.update(spot=300, futures=300)
        yield simulator


def rest_for(sim, *, store=None, skew=0.0, fast=False, priority="backfill", **settings):
    config = BinanceConfig.load(environ=sim.settings, **settings)
    store = store or MemoryBudgetStore()
    if not fast:
        return BinanceRest(config, budget_store=store, priority=priority)
    # The local clock runs as fast as the simulator's, and is wrong by `skew`.
    return BinanceRest(
        config, budget_store=store, priority=priority, sleep=lambda seconds: time.sleep(seconds / SPEED),
        wait=waiting.faster(SPEED),
        clock=lambda: sim.server.exchange.clock.now_ms() / 1000 + skew,
    )  # fmt: skip


def page(rest, market=Market.SPOT, limit=1):
    return rest.kline_page(market, SYMBOLS[market], "1m", START, START + limit * MINUTE_US, limit)


@pytest.mark.parametrize("skew", [0.0, 3.0, -3.0])
def test_with_the_limiter_no_load_meets_429(fast, tmp_path, skew):
    path = tmp_path / "budget.json"
    rests = [rest_for(fast, store=FileBudgetStore(path), skew=skew * (-1) ** i, fast=True) for i in range(4)]

    def work(rest):
        rest.server_now_us(Market.SPOT)
        rest.exchange_info(Market.SPOT)
        for _ in range(80):
            page(rest)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, rests))
    statuses = [record.status for record in fast.requests]
    assert set(statuses) == {200}
    assert len(statuses) == 4 * 82
    for rest in rests:
        rest.close()


def test_um_and_cm_share_one_budget(fast):
    store = MemoryBudgetStore()
    with rest_for(fast, store=store, fast=True) as rest:
        rest.exchange_info(Market.UM)

        def work(market):
            for _ in range(90):
                page(rest, market, limit=499)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, (Market.UM, Market.CM)))
    assert {record.status for record in fast.requests} == {200}


def test_without_the_limiter_the_same_load_meets_429_and_then_418(fast):
    fast.set_clock(NOW, speed=1)
    statuses = []
    with requests.Session() as session:
        for _ in range(300):
            url = f"{fast.settings['BINANCE_SPOT_REST_URL']}/api/v3/klines"
            answer = session.get(url, params={"symbol": "BTCUSDT", "interval": "1m", "limit": 1})
            statuses.append(answer.status_code)
            if answer.status_code == 418:
                break
    first = {status: statuses.index(status) for status in set(statuses)}
    assert first[200] < first[429] < first[418]


def test_a_foreign_consumer_of_the_address_is_left_its_share():
    """One that takes a fifth of the limit, second by second, by a clock that the test moves."""
    with Simulator(seed=1, now=NOW, speed=0) as sim, requests.Session() as session:
        sim.server.limiter.limits.update(spot=300)
        url = f"{sim.settings['BINANCE_SPOT_REST_URL']}/api/v3/ping"
        began, foreign = sim.now_ms(), []

        def pass_by(seconds):
            end = sim.now_ms() + round(seconds * 1000)
            while (due := began + 1000 * len(foreign)) <= end:
                sim.set_clock(max(due, sim.now_ms()))
                foreign.append(session.get(url).status_code)
            sim.set_clock(end)

        config = BinanceConfig.load(environ=sim.settings)
        with BinanceRest(
            config, budget_store=MemoryBudgetStore(), wait=waiting.by(pass_by), clock=lambda: sim.now_ms() / 1000
        ) as rest:
            rest.server_now_us(Market.SPOT)
            rest.exchange_info(Market.SPOT)
            while sim.now_ms() < began + 220_000:
                page(rest)
                pass_by(0.1)
        windows = {}
        for record in sim.requests:
            windows[record.time_ms // 60_000] = record.used_weight
    assert {record.status for record in sim.requests} == {200}
    assert min(list(windows.values())[1:-1]) >= 0.95 * 300


def test_a_real_ban_stops_everyone_at_once(sim):
    store = MemoryBudgetStore()
    with rest_for(sim, store=store) as one, rest_for(sim, store=store, priority="live") as two:
        two.server_now_us(Market.SPOT)
        sim.add_fault("418=300:1")
        with pytest.raises(BannedError) as caught:
            page(one)
        assert 290 <= caught.value.retry_after <= 301
        with pytest.raises(BannedError) as caught:
            page(two)
        assert caught.value.retryable
        assert 290 <= caught.value.retry_after <= 301
    assert [record.status for record in sim.requests] == [200, 418]


def quick(sim, **settings):
    rest = rest_for(sim, **settings)
    rest._sleep = lambda seconds: None
    return rest


@pytest.mark.parametrize(
    "fault", ["http=500:2", "http=503:2", "http=408:1", "reset=2", "truncate=2", "nonjson=2", "http=502:4", "403=1"]
)
def test_faults_that_pass_do_not_reach_the_caller(sim, fault):
    sim.add_fault(f"{fault}@/klines")
    with quick(sim) as rest:
        assert len(json.loads(page(rest, limit=5))) == 5


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("451=1", RestrictedLocationError), ("403=2", BlockedError), ("http=404:1", RequestRejectedError)],
)
def test_faults_that_do_not_pass_do(sim, fault, kind):
    sim.add_fault(f"{fault}@/klines")
    with quick(sim) as rest, pytest.raises(kind):
        page(rest)


def test_what_the_simulator_rejects_comes_with_its_code(sim):
    with quick(sim) as rest:
        with pytest.raises(RequestRejectedError) as caught:
            rest.kline_page(Market.SPOT, "NOSUCH", "1m", START, START + MINUTE_US, 1)
        assert caught.value.code == -1121
        with pytest.raises(RequestRejectedError) as caught:
            rest.kline_page(Market.UM, "BTCUSDT", "1s", START, START + MINUTE_US, 1)
        assert caught.value.code == -1120
    assert len(sim.requests) == 2


def keys(sim):
    return {"api_key": sim.api_key, "api_secret": sim.api_secret}


@pytest.mark.parametrize("market", list(Market))
def test_signatures_are_accepted_on_every_market(sim, market):
    with rest_for(sim, **keys(sim)) as rest:
        rights = rest.account_check(market)
    assert not rights.may_trade
    assert not rights.may_withdraw
    assert [record.status for record in sim.requests] == [200, 200]


def test_wrong_secret_and_unknown_key_are_authentication_errors(sim):
    with rest_for(sim, api_key=sim.api_key, api_secret="wrong") as rest, pytest.raises(AuthenticationError) as caught:
        rest.account_check(Market.SPOT)
    assert caught.value.code == -1022
    with rest_for(sim, api_key="x" * 64, api_secret="y") as rest, pytest.raises(AuthenticationError) as caught:
        rest.account_check(Market.SPOT)
    assert caught.value.code == -2015


def test_a_clock_that_is_wrong_by_minutes_is_no_matter(sim):
    with rest_for(sim, fast=False, **keys(sim)) as rest:
        rest._clocks[Market.SPOT]._now = lambda: time.time() - 300
        rest.account_check(Market.SPOT)
        assert rest.client.get_account()["accountType"] == "SPOT"


def test_a_skew_that_time_does_not_show_is_told_after_one_measurement_anew(sim):
    sim.add_fault("clock-skew=100000")
    with rest_for(sim, **keys(sim)) as rest, pytest.raises(ClockSkewError, match="measured anew"):
        rest.account_check(Market.SPOT)
    assert [r.path.rpartition("/")[2] for r in sim.requests] == ["time", "apiRestrictions"] * 2


def test_the_key_is_received_on_no_public_route(sim):
    with rest_for(sim, **keys(sim)) as rest:
        for market in Market:
            rest.server_now_us(market)
            rest.exchange_info(market)
            page(rest, market)
        rest.client.get_klines(symbol="BTCUSDT", interval="1m", limit=1)
        rest.account_check(Market.SPOT)
    with_key = {record.path for record in sim.requests if record.header("X-MBX-APIKEY")}
    assert with_key == {"/sapi/v1/account/apiRestrictions"}


def test_plain_python_binance_calls_are_metered_and_otherwise_unchanged(sim):
    from binance.client import Client

    plain = Client(ping=False)
    plain.API_URL = f"{sim.settings['BINANCE_SPOT_REST_URL']}/api"
    plain.FUTURES_URL = f"{sim.settings['BINANCE_UM_REST_URL']}/fapi"
    plain.FUTURES_COIN_URL = f"{sim.settings['BINANCE_CM_REST_URL']}/dapi"
    window = {"startTime": START // 1000, "endTime": START // 1000 + 3_600_000, "interval": "1m"}
    calls = [
        lambda c: c.get_klines(symbol="BTCUSDT", limit=7, **window),
        lambda c: c.futures_klines(symbol="BTCUSDT", limit=7, **window),
        lambda c: c.futures_coin_klines(symbol="BTCUSD_PERP", limit=7, **window),
        lambda c: c.get_historical_klines("BTCUSDT", "1m", START // 1000, START // 1000 + 600_000),
    ]
    store = MemoryBudgetStore()

    def charged():
        return sum(w[0] for value in store._values.values() for w in value["windows"].values())

    with rest_for(sim, store=store) as rest:
        for market in Market:
            rest.server_now_us(market)
        before = charged()
        with rest.measure() as meter:
            for call in calls:
                assert call(rest.client) == call(plain)
        assert charged() - before == meter.weight
    plain.close_connection()
    plain.loop.close()
    assert meter.requests >= len(calls)


@pytest.mark.parametrize("market", list(Market))
def test_planned_pages_bring_every_row_once_in_order(sim, market):
    minute = INTERVALS["1m"]
    end = START + 1700 * MINUTE_US
    opens = []
    with rest_for(sim) as rest, rest.measure() as meter:
        planned = list(plan_pages(market, minute, START, end))
        for each in planned:
            body = rest.kline_page(market, SYMBOLS[market], "1m", each.start_us, each.end_us, each.limit)
            opens += [row[0] * 1000 for row in json.loads(body)]
    assert opens == list(minute.opens(START, end))
    assert (meter.requests, meter.weight) == (len(planned), sum(each.weight for each in planned))
    assert [record.weight for record in sim.requests] == [each.weight for each in planned]


def test_first_klines(sim):
    with rest_for(sim) as rest:
        for market in (Market.SPOT, Market.UM):
            assert rest.first_kline_us(market, "BTCUSDT", "1d") is not None
            with pytest.raises(BinanceError):
                rest.first_kline_us(market, "NOSUCH", "1d")
