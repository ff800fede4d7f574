"""Plans of connections: within the limits, stable, and the same whole over any number of shards."""

from __future__ import annotations

import json
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.names import KINDS, stream_name, stream_path
from airflow_provider_binance.stream.subscriptions import (
    MOST_URL_BYTES,
    Carried,
    Shard,
    change,
    messages,
    opening,
    plan,
)

series_of = st.builds(
    lambda market, dataset, symbol: Series(market, dataset, symbol, "1m" if dataset == "klines" else ""),
    st.sampled_from(["spot", "um", "cm"]),
    st.sampled_from(["klines", "agg_trades", "book_tickers"]),
    st.sampled_from([f"S{number}USDT" for number in range(12)] + ["币安人生USDT"]),
)
wanted_sets = st.sets(series_of, max_size=40)


def carried_by(plans: tuple[Carried, ...]) -> Counter[Series]:
    return Counter(series for carried in plans for series in carried.streams.values())


@given(wanted_sets, wanted_sets, st.integers(1, 9))
def test_each_series_is_carried_once_on_its_route_within_the_limit(
    first: set[Series], second: set[Series], most: int
) -> None:
    before = plan(first, most=most)
    after = plan(second, before, most=most)

    for plans, wanted in ((before, first), (after, second)):
        assert carried_by(plans) == Counter(wanted)
        assert all(1 <= len(carried.streams) <= most for carried in plans)
        assert len({carried.number for carried in plans}) == len(plans)
        for carried in plans:
            for name, series in carried.streams.items():
                assert name == stream_name(series) == name.replace(series.symbol, series.symbol.lower())
                assert carried.route == (series.market, stream_path(series))


@given(wanted_sets, wanted_sets, st.integers(1, 9))
def test_a_new_plan_touches_only_what_changed(first: set[Series], second: set[Series], most: int) -> None:
    before = plan(first, most=most)
    after = plan(second, before, most=most)
    done = change(before, after)

    where = {series: carried.number for carried in before for series in carried.streams.values()}
    assert all(where.get(series, c.number) == c.number for c in after for series in c.streams.values())
    touched = {name for names in [*done.added.values(), *done.dropped.values()] for name in names}
    touched |= {name for carried in [*done.opened, *done.closed] for name in carried.names}
    assert touched == {stream_name(series) for series in first ^ second} | (
        touched & {stream_name(series) for series in first & second}  # one name on two markets
    )
    played = {carried.number: set(carried.names) for carried in before}
    for carried in done.closed:
        del played[carried.number]
    for number, names in done.dropped.items():
        played[number] -= set(names)
    for number, names in done.added.items():
        played[number] |= set(names)
    played |= {carried.number: set(carried.names) for carried in done.opened}
    assert played == {carried.number: set(carried.names) for carried in after}
    assert change(after, plan(second, after, most=most)) == change((), ())


@given(wanted_sets, st.integers(1, 5))
def test_shards_are_the_whole_split(wanted: set[Series], count: int) -> None:
    parts = [plan(wanted, shard=Shard(number, count)) for number in range(1, count + 1)]

    assert sum((carried_by(part) for part in parts), Counter()) == Counter(wanted)
    for series in wanted:
        places = {number for number, part in enumerate(parts) for one in carried_by(part)
                  if (one.market, one.symbol) == (series.market, series.symbol)}  # fmt: skip
        assert len(places) == 1


def test_connections_are_as_few_as_can_be_and_evenly_filled() -> None:
    wanted = [Series("spot", "klines", f"S{number}USDT", "1m") for number in range(1500)]

    assert [len(carried.streams) for carried in plan(wanted)] == [750, 750]


def test_um_is_routed_and_the_others_are_not() -> None:
    wanted = [
        Series(market, dataset, "BTCUSDT", "1m" if dataset == "klines" else "")
        for dataset, kind in KINDS.items()
        for market in kind.markets
    ]
    urls = {carried.route: opening("wss://host/prefix", carried)[0] for carried in plan(wanted)}

    assert {route: urlsplit(url).path for route, url in urls.items()} == {
        (Market.SPOT, ""): "/prefix/stream",
        (Market.UM, "market"): "/prefix/market/stream",
        (Market.UM, "public"): "/prefix/public/stream",
        (Market.CM, ""): "/prefix/stream",
    }
    assert urls[Market.UM, "public"].endswith("?streams=btcusdt@bookTicker")
    assert urls[Market.CM, ""].endswith(
        "?streams=btcusdt@aggTrade/btcusdt@bookTicker/btcusdt@forceOrder/btcusdt@kline_1m/btcusdt@markPrice@1s"
    )
    assert parse_qs(urlsplit(urls[Market.SPOT, ""]).query)["timeUnit"] == ["MICROSECOND"]


def test_url_is_ascii_and_bounded_and_the_rest_is_subscribed() -> None:
    wanted = [Series("um", "agg_trades", f"币安人生{number}USDT") for number in range(500)]
    [carried] = plan(wanted)
    url, rest = opening("wss://fstream.binance.com", carried)
    told = [json.loads(text) for text in messages("SUBSCRIBE", rest, 7)]

    assert url.isascii()
    assert len(url) <= MOST_URL_BYTES
    in_url = unquote(parse_qs(urlsplit(url).query)["streams"][0]).split("/")
    named = [name for message in told for name in message["params"]]
    assert in_url + named == list(carried.names)
    assert [message["id"] for message in told] == list(range(7, 7 + len(told)))
    assert max(len(message["params"]) for message in told) == 200


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (Series("spot", "mark_prices", "BTCUSDT"), "market spot has no stream of mark_prices; it has: klines"),
        (Series("um", "trades", "BTCUSDT"), "market um has no stream of trades"),
        (Series("um", "metrics", "BTCUSDT"), "no stream of dataset 'metrics'; streams: klines"),
        (Series("um", "klines", "BTCUSDT", "1s"), "interval '1s' does not exist in market um"),
    ],
)
def test_what_has_no_stream_is_refused(series: Series, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan([series])


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "¹/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="use i/n"):
        Shard.parse(text)


def test_shard_is_read() -> None:
    assert Shard.parse(" 2/3 ") == Shard(2, 3)
