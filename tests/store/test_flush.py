"""What a stream brings, in both databases: rows as they were said, a line a flush and dataset, ranges that join."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_binance.market import SECOND_US, Market, from_us
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.registry import dataset, datasets
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.stream.buffer import Item, Lost
from airflow_provider_binance.stream.claiming import Claiming
from airflow_provider_binance.stream.flushing import writing_of
from airflow_provider_binance.stream.frames import Frames, Record
from airflow_provider_binance.stream.names import KINDS
from airflow_provider_binance.stream.payloads import columns
from airflow_provider_binance.stream.rows import rows_of
from tests.store.helpers import EVER, T0, plain
from tests.stream.samples import frame

MS = T0 // 1000
LINE = LedgerLine(Source.STREAM, "stream", T0, "run")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as opened:
        yield opened


class Stream:
    """Writes flushes as a sidecar does."""

    def __init__(self, store: Store) -> None:
        self.store, self.claiming = store, Claiming()

    def flush(self, *items: Item) -> Any:
        writing = writing_of(items, LINE, T0 + 10**9, self.claiming)
        return self.store.write_flush(writing.batches, LINE, writing.many)


def trades(series: Series, *ticks: tuple[int, int], price: str = "1.5") -> list[Record]:
    return [Record(series, T0 + at, T0 + at, (number, price, "2", T0 + at, 0)) for number, at in ticks]


def by_rest(series: Series, *records: Record) -> Batch:
    rows = rows_of(series, [record.values for record in records])
    return Batch(dataset(series.dataset), series, T0, T0 + 10, rows, LedgerLine(Source.REST, "rest", T0, "load"))


def known(store: Store, series: Series) -> list[tuple[Any, ...]]:
    found = store.coverage(series.dataset, [series], *EVER)[series]
    return [(str(r.state), r.start_us - T0, r.end_us - T0, r.row_count, r.first_id, r.last_id) for r in found]


BTC, ETH = (Series("spot", "trades", symbol) for symbol in ("BTCUSDT", "ETHUSDT"))
MARKS = Series("um", "mark_prices", "BTCUSDT")


def test_flushes_of_ticks_become_one_range(store: Store, store_url: str) -> None:
    stream = Stream(store)
    stream.flush(*trades(BTC, (1, 0), (2, 5), (3, 5)), *trades(ETH, (70, 1), (71, 2)))
    stream.flush(*trades(BTC, (4, 5), (5, 9)))
    stream.flush(*trades(BTC, (6, 9), (7, 20)))

    assert known(store, BTC) == [("complete", 1, 20, 5, 2, 6)]
    assert known(store, ETH) == []  # its only instants may have more
    assert store.row_counts("trades", BTC, [EVER]) == [7]
    lines = plain(store_url, "SELECT dataset, market, symbol, rows_read, rows_inserted FROM ingest_log ORDER BY id")
    assert lines == [("trades", None, None, 5, 5), ("trades", None, None, 2, 2), ("trades", None, None, 2, 2)]


def test_what_was_missing_may_come_late_or_from_elsewhere(store: Store) -> None:
    stream = Stream(store)
    stream.flush(*trades(BTC, (1, 0), (2, 5), (6, 50), (7, 60)))
    assert known(store, BTC) == [("complete", 1, 5, 0, None, None), ("complete", 51, 60, 0, None, None)]
    stream.flush(Lost(BTC, T0 + 5, T0 + 51))
    assert [line[:3] for line in known(store, BTC)] == [
        ("complete", 1, 5), ("unpublished", 5, 51), ("complete", 51, 60),
    ]  # fmt: skip
    stream.flush(*trades(BTC, (3, 6), (4, 7), (5, 50)))
    assert known(store, BTC) == [("complete", 1, 60, 5, 2, 6)]


def test_times_that_go_back_are_counted_by_the_store(store: Store) -> None:
    stream = Stream(store)
    stream.flush(*trades(BTC, (1, 0), (2, 10), (3, 20)))
    stream.flush(*trades(BTC, (4, 15), (5, 30)))
    stream.flush(*trades(BTC, (6, 40)))

    assert known(store, BTC) == [("complete", 1, 40, 4, 2, 5)]


def test_a_flush_may_have_all_datasets_and_markets(store: Store, store_url: str) -> None:
    """One transaction, one line of the ledger for each dataset."""
    frames = {market: Frames(market) for market in Market}
    records = [
        record
        for market in Market
        for name, kind in KINDS.items()
        if market in kind.markets
        for record in read(frames[market], market, name, "1.50000000")
    ]
    result = Stream(store).flush(*records)

    assert result.rows_inserted == len(records) == 14
    lines = plain(store_url, "SELECT dataset, market, rows_inserted FROM ingest_log ORDER BY dataset")
    assert lines == [
        ("agg_trades", None, 3), ("book_tickers", None, 3), ("klines", None, 3), ("liquidations", None, 2),
        ("mark_prices", None, 2), ("trades", None, 1),
    ]  # fmt: skip


def test_the_first_receipt_of_a_book_ticker_stays(store: Store) -> None:
    series = Series("spot", "book_tickers", "BTCUSDT")

    def ticker(at: int, bid: str = "1") -> Record:
        return Record(series, None, T0 + at, (7, bid, "1", "2", "2", None, None, T0 + at))

    Stream(store).flush(ticker(1_234_567))
    again = Stream(store).flush(ticker(1_234_000), ticker(2_000_000, "9"))
    assert (again.rows_inserted, again.rows_updated, again.rows_unchanged) == (0, 0, 1)
    assert [row[-1] for row in store.rows("book_tickers", series, *EVER)] == [T0 + 1_234_567]


def test_what_only_streams_bring_and_was_lost_is_unavailable(store: Store) -> None:
    """Whether the next event comes with the same flush or a later one."""
    stream = Stream(store)

    def mark(at: int) -> Record:
        at_us = T0 + at * SECOND_US
        return Record(MARKS, at_us, at_us, (at_us, "1", "1", None, None, None))

    def lost(start: int, end: int, why: str = "") -> Lost:
        return Lost(MARKS, T0 + start * SECOND_US, T0 + end * SECOND_US, why)

    stream.flush(mark(0), mark(10))
    stream.flush(lost(11, 90, "nobody listened"))
    stream.flush(mark(90), lost(91, 100), mark(100))
    stream.flush(mark(110))
    assert [(state, round(start / SECOND_US), round(end / SECOND_US), *rest) for state, start, end, *rest in
            known(store, MARKS)] == [
        ("complete", 0, 10, 2, None, None),
        ("unavailable", 10, 90, 0, None, None),
        ("complete", 90, 90, 1, None, None),
        ("unavailable", 90, 100, 0, None, None),
        ("complete", 100, 105, 1, None, None),
    ]  # fmt: skip
    notes = [r.evidence for r in store.coverage("mark_prices", [MARKS], *EVER)[MARKS] if r.evidence]
    assert ["nobody listened" in note for note in notes] == [True, False]


def test_a_correction_of_a_streams_row_names_the_stream(store: Store, store_url: str) -> None:
    Stream(store).flush(*trades(BTC, (1, 0), (2, 5)))
    store.write(by_rest(BTC, *trades(BTC, (2, 5), price="1.75")))

    told = plain(store_url, "SELECT column_name, old_value, new_value, old_source, new_source FROM corrections")
    assert told == [("price", "1.5", "1.75", "stream", "rest")]


def test_a_streams_word_does_not_outrank_rest(store: Store) -> None:
    record = trades(BTC, (2, 5))
    whole = CoverageRange(T0, T0 + 10, State.COMPLETE, 1, 2, 2)
    store.write(replace(by_rest(BTC, *record), coverage=[whole]))
    result = Stream(store).flush(*trades(BTC, (2, 5), price="9"), *trades(ETH, (1, 5)))

    assert (result.rows_inserted, result.rows_updated, result.rows_kept) == (1, 0, 1)
    assert [row[1] for row in store.rows("trades", BTC, *EVER)] == ["1.5"]


# --- the ledger's lines -----------------------------------------------------------------------------------------------

HOUR = 3_600_000_000
LINES = (
    "SELECT dataset, market, source, rows_read, rows_inserted, rows_updated, rows_unchanged, run_ref FROM ingest_log "
    "ORDER BY dataset, run_ref, rows_read"
)


def test_lines_of_an_hour_become_one_and_lose_nothing(store: Store, store_url: str) -> None:
    """Those of the running hour stay as they are, and so do those of loads; once more changes nothing."""
    stream, clock = Stream(store), [T0 + 5 * HOUR]
    store.clock = lambda: clock[0]
    for number in range(6):
        clock[0] = T0 + 5 * HOUR + number * HOUR // 4
        stream.flush(*trades(BTC, (2 * number, 10 * number), (2 * number + 1, 10 * number + 5)))
    store.write(by_rest(ETH, *trades(ETH, (1, 5))))
    ends = [plain(store_url, "SELECT min(range_start), max(range_end), max(finished_at) FROM ingest_log")]

    assert [store.roll_up(), store.roll_up()] == [3, 0]
    ends.append(plain(store_url, "SELECT min(range_start), max(range_end), max(finished_at) FROM ingest_log"))
    assert ends[0] == ends[1]
    stream_lines = [("trades", None, "stream", 2, 2, 0, 0, "run")] * 2 + [("trades", None, "stream", 8, 8, 0, 0, "run")]
    assert plain(store_url, LINES) == [("trades", "spot", "rest", 1, 1, 0, 0, "load"), *stream_lines]
    clock[0] += HOUR
    assert store.roll_up() == 1
    assert [line[3] for line in plain(store_url, LINES)] == [1, 4, 8]


def test_a_ledger_has_few_lines_for_many_ticks(store: Store, store_url: str) -> None:
    """A thousand ticks a line, though each flush had fewer."""
    stream, clock = Stream(store), [T0]
    store.clock = lambda: clock[0]
    for number in range(20):
        clock[0] += 100
        stream.flush(*trades(BTC, *((number * 150 + n, number * 1_500 + n * 10) for n in range(150))))
    clock[0] += HOUR
    store.roll_up()

    [(lines, ticks)] = plain(store_url, "SELECT count(*), sum(rows_inserted) FROM ingest_log")
    assert ticks == 3_000
    assert lines * 1_000 <= ticks
    assert plain(store_url, "SELECT count(*) FROM coverage") == [(1,)]


def test_two_that_roll_up_at_once_count_nothing_twice(store: Store, store_url: str) -> None:
    stream, clock = Stream(store), [T0]
    store.clock = lambda: clock[0]
    for number in range(12):
        clock[0] = T0 + number * HOUR // 4
        stream.flush(*trades(BTC, (number, 10 * number)))

    def roll_up(_: int) -> int:
        with open_store(store_url) as other:
            other.clock = lambda: T0 + 9 * HOUR
            return other.roll_up()

    with ThreadPoolExecutor(4) as pool:
        gone = list(pool.map(roll_up, range(4)))
    assert sum(gone) == 9
    assert [line[3] for line in plain(store_url, LINES)] == [4, 4, 4]


# --- as it was said -------------------------------------------------------------------------------------------------

decimals = st.tuples(st.integers(0, 10**14), st.integers(0, 8)).map(
    lambda given: f"{Decimal(given[0]).scaleb(-given[1]):f}"
)


def payload(name: str, market: Market, symbol: str, number: int, value: str) -> Any:
    at = MS + number
    st_ = {} if market is Market.SPOT else {"st": 1 if market is Market.UM else 2}
    if name == "klines":
        opened = MS + number * 60_000
        k = {"t": opened, "T": opened + 59_999, "i": "1m", "o": value, "c": value, "h": value, "l": value, "v": value,
             "n": 3, "x": True, "q": value, "V": value, "Q": value}  # fmt: skip
        return {"e": "kline", "E": at, "s": symbol, "k": k}
    if name == "book_tickers":
        times = {} if market is Market.SPOT else {"E": at, "T": at}
        return {"s": symbol, "u": number, "b": value, "B": value, "a": value, "A": value, **times, **st_}
    if name == "mark_prices":
        return {"E": at, "s": symbol, "p": value, "i": value, "P": value, "r": value, "T": at + 9, **st_}
    if name == "liquidations":
        o = {"s": symbol, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": value, "p": value, "ap": value, "X": "FILLED",
             "l": value, "z": value, "T": at}  # fmt: skip
        return {"E": at, "o": o, **st_}
    own = {"a": number, "f": 5, "l": 6} if name == "agg_trades" else {"t": number}
    more = {"M": True} if market is Market.SPOT and name == "agg_trades" else {}
    more |= {"nq": value} if market is Market.UM else {}
    return {"E": at, "s": symbol, "p": value, "q": value, "T": at, "m": True, **own, **more, **st_}


def read(frames: Frames, market: Market, name: str, value: str, number: int = 1) -> list[Record]:
    symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
    suffix = KINDS[name].suffix + ("1m" if name == "klines" else "")
    sent = frame(f"{symbol.lower()}@{suffix}", payload(name, market, symbol, number, value))
    found = frames.read(sent, T0 + number)
    assert isinstance(found, (tuple, list))
    return list(found)


@pytest.mark.parametrize("name", list(KINDS))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(decimals, min_size=1, max_size=5), first=st.integers(1, 10**6))
def test_the_table_has_what_the_frame_said(
    store: Store, store_url: str, name: str, values: list[str], first: int
) -> None:
    """As decimals, whatever the number of digits; times to the microsecond; in the views that users read."""
    market = Market.SPOT if Market.SPOT in KINDS[name].markets else Market.UM
    frames, entry = Frames(market), dataset(name)
    store.migrate()
    plain(store_url, f"DELETE FROM {name}_data")  # of the last example
    records = [record for n, value in enumerate(values) for record in read(frames, market, name, value, first + n)]
    Stream(store).flush(*records)

    names = [column for column in entry.column_names if column in columns(name, market)]
    asked = f"SELECT {', '.join(names)} FROM {name} ORDER BY {entry.key[0]}"
    by_key = {row[0]: row for row in plain(store_url, asked)}
    for record in records:
        wanted = record.values
        found = by_key[wanted[0] if entry.key[0] != entry.time_column or store_url.startswith("sqlite")
                       else from_us(int(wanted[0] or 0))]  # fmt: skip
        for column, said, kept in zip(names, wanted, found, strict=True):
            assert exact(kept) == (said if "time" in column or not isinstance(said, str) else exact(said)), column


def exact(value: Any) -> Any:
    """A value of either database as this package's plain one."""
    if isinstance(value, datetime):
        from airflow_provider_binance.market import to_us

        return to_us(value)
    if isinstance(value, str) and value[:1].isdigit():
        return Decimal(value)
    return int(value) if isinstance(value, bool) else value


def test_every_streamed_dataset_is_registered() -> None:
    assert set(KINDS) == {entry.name for entry in datasets()}
