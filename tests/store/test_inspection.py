"""What a store tells of itself, and what it gives up: asked of both databases, looked at by plain SQL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_binance.market import DAY_US, INTERVALS, iso
from airflow_provider_binance.records import Batch, CoverageRange, LedgerLine, Series, Source, State
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.rows import TupleRows, Value
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.store.inspection import Held
from airflow_provider_binance.store.sql import SqlStore
from tests.store.helpers import EVER, MINUTE, SERIES, T0, at, klines, plain

#: A Monday, the first of a month, and a day on which 3d klines open.
MONDAY = 1_727_654_400_000_000  # 2024-09-30: a Monday on which weeks open


def audit(store: Store, start: int, end: int, series: Series = SERIES) -> Any:
    return store.audit(series, at(start), at(end))


def minutes(spans: Any) -> list[tuple[int, int]]:
    return [((a - T0) // MINUTE, (b - T0) // MINUTE) for a, b in spans]


def sql(url: str, statement: str, *values: Any) -> None:
    """Change a store behind the ledger's back."""
    plain(url, statement, values)


def time_value(url: str, at_us: int) -> Any:
    """A time as plain SQL takes it."""
    from airflow_provider_binance.market import from_us

    return at_us if url.startswith("sqlite") else from_us(at_us)


def test_an_audit_of_what_is_sound_finds_it_sound(store: Store) -> None:
    """One island, no stray, nothing broken, and the ledger beside it."""
    store.write(klines(0, 100, confirmed_by="a" * 64, source=Source.ARCHIVE))
    found = audit(store, 0, 100)
    assert minutes(found.islands) == [(0, 100)]
    assert (found.strays, found.broken, found.rows) == ((), (), 100)
    assert [(r.state, r.row_count) for r in found.ranges] == [(State.COMPLETE, 100)]
    assert [(line.source, line.sha256) for line in found.lines] == [(Source.ARCHIVE, "a" * 64)]
    assert found.last_line > 0


def test_an_audit_of_an_empty_database_creates_nothing(store: Store) -> None:
    assert audit(store, 0, 100).rows == 0
    assert store.extents("klines") == {}
    assert not store.exists()


def test_islands_show_holes_and_strays_stand_apart(store: Store, store_url: str) -> None:
    """Deleted rows split the island; a row off the grid is no part of it."""
    store.write(klines(0, 100))
    for minute in (10, 11, 50):
        sql(store_url, "DELETE FROM klines_data WHERE open_time = %s", time_value(store_url, at(minute)))
    moved = time_value(store_url, at(80) + 7_000_000), time_value(store_url, at(80))
    sql(store_url, "UPDATE klines_data SET open_time = %s WHERE open_time = %s", *moved)
    found = audit(store, 0, 100)
    assert minutes(found.islands) == [(0, 10), (12, 50), (51, 80), (81, 100)]
    assert found.strays == (at(80) + 7_000_000,)
    assert found.rows == 97


def test_an_audit_of_months_knows_their_lengths(store: Store, store_url: str) -> None:
    """28 to 31 days, in UTC whatever the session's zone."""
    monthly = Series("spot", "klines", "BTCUSDT", "1M")
    month = INTERVALS["1M"]
    opens = list(month.opens(T0, T0 + 400 * DAY_US))
    store.write(_batch(monthly, opens))
    found = store.audit(monthly, T0, month.next_open(opens[-1]))
    assert found.islands == ((opens[0], month.next_open(opens[-1])),)
    sql(store_url, "DELETE FROM klines_data WHERE open_time = %s", time_value(store_url, opens[1]))
    found = store.audit(monthly, T0, month.next_open(opens[-1]))
    assert found.islands == ((opens[0], opens[1]), (opens[2], month.next_open(opens[-1])))
    assert (found.strays, found.broken) == ((), ())


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("low = '1.2'", "low ≤ open"),
        ("close = '2.00000000000000000001'", "close ≤ high"),
        ("high = '0.5'", "low ≤ high"),
        ("volume = '-1'", "0 ≤ volume"),
        ("taker_buy_base_volume = '10.000000000000000000001'", "taker_buy_base_volume ≤ volume"),
        ("trade_count = 0", "trade_count = 0 ⇔ volume = 0"),
        ("close_time = open_time", None),
        ("close_time = open_time - {second}", "open_time ≤ close_time < next open"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named_with_it(store: Store, store_url: str, change: str, rule: str | None) -> None:
    """Exactly, beyond what a float can tell; a truncated kline breaks none."""
    store.write(klines(0, 10))
    second = "1000000" if store_url.startswith("sqlite") else "interval '1 second'"
    sql(store_url, f"UPDATE klines_data SET {change.format(second=second)} WHERE open_time = %s",
        time_value(store_url, at(4)))  # fmt: skip
    found = audit(store, 0, 10)
    assert [b.at_us for b in found.broken] == ([at(4)] if rule else [])
    assert rule is None or rule in found.broken[0].rules


def test_extents_know_series_that_the_ledger_does_not(store: Store, store_url: str) -> None:
    """Rows written by somebody else are found."""
    store.write(klines(0, 10))
    sql(store_url, "DELETE FROM coverage")
    sql(store_url, "DELETE FROM ingest_log")
    assert store.series("klines") == []
    assert store.extents("klines") == {SERIES: (at(0), at(9))}


# --- sums -----------------------------------------------------------------------------------------------------------


def _batch(series: Series, opens: list[int], **changed: Value) -> Batch:
    grid = INTERVALS[series.interval]
    values = {
        "open_time": 0, "open": "1.5", "high": "2", "low": "1", "close": "1.5", "volume": "10", "close_time": 0,
        "quote_volume": "12.5", "trade_count": 3, "taker_buy_base_volume": "1", "taker_buy_quote_volume": "0.00000001",
        "contracts": None, "taker_buy_contracts": None,
    }  # fmt: skip
    rows = [
        tuple((values | {"open_time": o, "close_time": grid.next_open(o) - 1000} | changed).values()) for o in opens
    ]
    end = grid.next_open(opens[-1])
    known = [CoverageRange(opens[0], end, State.COMPLETE, len(opens), checked_at_us=T0)]
    line = LedgerLine(Source.REST, "made", T0, "run")
    return Batch(KLINES, series, opens[0], end, TupleRows(KLINES, rows), line, known)  # type: ignore[arg-type]


def _of(interval: str) -> Series:
    return Series("spot", "klines", "BTCUSDT", interval)


def test_minutes_add_up_to_hours_days_weeks_and_months(store: Store, store_url: str) -> None:
    """Sums are exact; weeks, 3d and months begin where they do; one changed digit shows, with both values."""
    hours = list(INTERVALS["1h"].opens(MONDAY - 40 * DAY_US, MONDAY + 40 * DAY_US))
    store.write(_batch(_of("1h"), hours, quote_volume="0.1"))
    targets = ["2h", "12h", "1d", "3d", "1w", "1M"]
    for name in targets:
        grid = INTERVALS[name]
        opens = [o for o in grid.opens(hours[0], hours[-1]) if grid.next_open(o) <= hours[-1] + INTERVALS["1h"].size_us]
        for at_us in opens:
            n = INTERVALS["1h"].count(at_us, grid.next_open(at_us))
            store.write(
                _batch(_of(name), [at_us], volume=str(10 * n), quote_volume=f"{n / 10:.1f}".removesuffix(".0"),
                       trade_count=3 * n, taker_buy_base_volume=str(n),
                       taker_buy_quote_volume=f"{n / 1e8:.8f}".rstrip("0"))
            )  # fmt: skip
    window = hours[0], hours[-1] + 1
    series = [_of(name) for name in targets]
    result = {target.interval: (n, found) for target, n, found in store.rollup(_of("1h"), series, *window)}
    assert {name: found for name, (_, found) in result.items()} == {name: [] for name in targets}
    assert {name: n for name, (n, _) in result.items()} == {
        "2h": 960,
        "12h": 160,
        "1d": 80,
        "3d": 26,
        "1w": 10,
        "1M": 2,
    }

    sql(store_url, "UPDATE klines_data SET volume = '240.000000000000000001', high = '3' WHERE open_time = %s "
        "AND volume = '240'", time_value(store_url, MONDAY))  # fmt: skip
    [(_, _, found)] = store.rollup(_of("1h"), [_of("1d")], *window)
    [day] = found
    assert day.at_us == MONDAY
    assert day.columns == {"high": ("3", "2"), "volume": ("240.000000000000000001", "240")}


def test_a_kline_whose_minutes_are_not_all_there_is_not_judged(store: Store, store_url: str) -> None:
    """A halt leaves minutes out, and what Binance made of the rest is its own."""
    opens = list(INTERVALS["1m"].opens(T0, T0 + 2 * 3_600_000_000))
    store.write(_batch(_of("1m"), opens))
    store.write(_batch(_of("1h"), [T0, T0 + 3_600_000_000], volume="600"))
    sql(store_url, "DELETE FROM klines_data WHERE open_time = %s AND volume = '10'", time_value(store_url, at(7)))
    [(_, compared, found)] = store.rollup(_of("1m"), [_of("1h")], T0, opens[-1] + MINUTE)
    assert (compared, [r.at_us for r in found]) == (1, [T0 + 3_600_000_000])
    assert "volume" not in found[0].columns


def test_flat_minutes_count_for_open_high_and_low_or_not(store: Store) -> None:
    """A minute without trades stands at the price before it: either way of Binance's is accepted, a third is not."""
    flat = {"open": "9", "high": "9", "low": "9", "close": "9", "volume": "0", "quote_volume": "0", "trade_count": 0,
            "taker_buy_base_volume": "0", "taker_buy_quote_volume": "0"}  # fmt: skip
    store.write(_batch(_of("1m"), [T0], **flat))  # type: ignore[arg-type]
    store.write(_batch(_of("1m"), [T0 + MINUTE, T0 + 2 * MINUTE]))
    sums: dict[str, Value] = {"volume": "20", "quote_volume": "25", "trade_count": 6, "taker_buy_base_volume": "2",
                              "taker_buy_quote_volume": "0.00000002"}  # fmt: skip
    for i, (opened, high) in enumerate((("1.5", "2"), ("9", "9"), ("4", "2"))):
        series = Series("spot", "klines", "BTCUSDT", "3m")
        store.forget(series, *EVER)
        store.write(_batch(series, [T0], open=opened, high=high, **sums))
        [(_, compared, found)] = store.rollup(_of("1m"), [series], T0, T0 + 3 * MINUTE)
        assert (compared, [list(r.columns) for r in found]) == (1, [["open"]] if i == 2 else [])


# --- taking back ----------------------------------------------------------------------------------------------------


def _ledger(store: Store) -> list[tuple[int, int, str, int]]:
    found = store.coverage("klines", [SERIES], *EVER)[SERIES]
    return [((r.start_us - T0) // MINUTE, (r.end_us - T0) // MINUTE, str(r.state), r.row_count) for r in found]


def test_rows_are_withdrawn_with_every_value_written_down(store: Store, store_url: str) -> None:
    """A correction per column, the new value NULL, and the source that has no such row."""
    store.write(klines(0, 10))
    seen = audit(store, 0, 10).last_line
    done = store.withdraw(SERIES, rows=[Held(at(3), at(3) + 1)], source=Source.ARCHIVE, seen_line=seen)
    assert (done.rows, done.is_late) == (1, False)
    lines = plain(store_url, "SELECT key, column_name, old_value, new_value, old_source, new_source FROM corrections")
    assert {json.loads(line[0])["open_time"] for line in lines} == {"2024-01-01T00:03:00Z"}
    assert {line[1]: line[2] for line in lines}["close_time"] == "2024-01-01T00:03:59.999Z"
    assert {(line[3], line[4], line[5]) for line in lines} == {(None, "rest", "archive")}
    assert len(lines) == 10
    assert minutes(audit(store, 0, 10).islands) == [(0, 3), (4, 10)]


def test_coverage_is_withdrawn_only_where_no_row_is(store: Store, store_url: str) -> None:
    """The ledger gives up what it cannot show, and keeps the rest with its counts."""
    store.write(klines(0, 10, confirmed_by="a" * 64))
    for minute in (3, 4):
        sql(store_url, "DELETE FROM klines_data WHERE open_time = %s", time_value(store_url, at(minute)))
    seen = audit(store, 0, 10).last_line
    done = store.withdraw(SERIES, ranges=[(at(3), at(5)), (at(7), at(8))], source=Source.REST, seen_line=seen)
    assert done.ranges == 1
    assert _ledger(store) == [(0, 3, "complete", 3), (5, 10, "complete", 5)]


def test_nothing_is_withdrawn_once_somebody_wrote(store: Store) -> None:
    """What was seen before a load is no reason to undo it."""
    store.write(klines(0, 10))
    seen = audit(store, 0, 10).last_line
    store.write(klines(0, 10))
    done = store.withdraw(
        SERIES, rows=[Held(at(3), at(3) + 1)], ranges=[(at(3), at(4))], source=Source.REST, seen_line=seen
    )
    assert (done.is_late, audit(store, 0, 10).rows) == (True, 10)
    assert store.withdraw(SERIES, rows=[Held(at(90), at(90) + 1)], source=Source.REST, seen_line=seen).is_late is False


def test_forgetting_a_window_keeps_what_lies_outside(store: Store, store_url: str) -> None:
    """Rows, coverage, lines and corrections of the window go; a line that reaches beyond is cut, not lost."""
    other = Series("spot", "klines", "BTCUSDT", "3m")
    store.write(klines(0, 10))
    store.write(klines(4, 6, close="1.25"))
    store.write(_batch(other, [T0]))
    before = store.forget(SERIES, at(3), at(7), dry_run=True)
    assert (before, audit(store, 0, 10).rows) == ((4, 1, 2, 2), 10)
    assert store.forget(SERIES, at(3), at(7)) == before
    assert minutes(audit(store, 0, 10).islands) == [(0, 3), (7, 10)]
    assert _ledger(store) == [(0, 3, "complete", 3), (7, 10, "complete", 3)]
    assert minutes((line.start_us, line.end_us) for line in audit(store, 0, 10).lines) == [(0, 3), (7, 10)]
    assert plain(store_url, "SELECT count(*) FROM corrections") == [(0,)]
    assert store.audit(other, T0, T0 + 3 * MINUTE).rows == 1


def test_forgetting_leaves_the_lines_in_the_order_of_what_they_tell(store: Store, store_url: str) -> None:
    """A line that becomes two keeps its place: the last line has the last word, and its times are what they were."""
    other = Series("spot", "klines", "BTCUSDT", "3m")
    store.write(klines(0, 10))
    store.write(klines(2, 9, close="1.25"))
    store.write(_batch(other, [T0]))
    store.write(klines(8, 9, close="1.25"))
    known = "SELECT finished_at FROM ingest_log WHERE \"interval\" = '1m' ORDER BY id"
    first, second, third = plain(store_url, known)
    store.forget(SERIES, at(4), at(6))
    lines = store.audit(SERIES, at(0), at(10)).lines
    assert minutes((line.start_us, line.end_us) for line in lines) == [(0, 4), (6, 10), (2, 4), (6, 9), (8, 9)]
    assert plain(store_url, known) == [first, first, second, second, third]
    assert plain(store_url, "SELECT count(*) FROM ingest_log WHERE id <= 0") == [(0,)]
    store.write(klines(0, 1, close="1.5"))
    assert minutes([store.audit(SERIES, at(0), at(10)).lines[-1][:2]]) == [(0, 1)]


def test_counting_what_would_be_forgotten_waits_for_nobody(store: Store, store_url: str) -> None:
    """Another process is in the middle of writing the series."""
    store.write(klines(0, 10))
    writer = open_store(store_url)
    assert isinstance(writer, SqlStore)
    with writer._session():
        writer._writable(KLINES)
        writer._lock(KLINES, SERIES)
        try:
            assert store.forget(SERIES, at(0), at(4), dry_run=True) == (4, 1, 1, 0)
        finally:
            writer._rollback()
    writer.close()


def test_forgetting_takes_many_corrections_at_a_time(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of corrections has no index: a statement for each of a hundred thousand would take hours."""
    store.write(klines(0, 10))
    store.write(klines(1, 9, close="1.25"))
    monkeypatch.setattr(store, "_most_values", lambda: 4)
    assert store.forget(SERIES, at(2), at(9)).corrections == 7
    [(key,)] = plain(store_url, "SELECT key FROM corrections")
    assert iso(at(1)) in key


def test_forgetting_a_series_leaves_no_trace_and_it_comes_back(store: Store) -> None:
    store.write(klines(0, 10))
    assert store.forget(SERIES, *EVER) == (10, 1, 1, 0)
    assert (store.series(), store.extents("klines")) == ([], {})
    assert store.write(klines(0, 10)).rows_inserted == 10
    assert store.forget(Series("spot", "klines", "NOSUCH", "1m"), *EVER) == (0, 0, 0, 0)
