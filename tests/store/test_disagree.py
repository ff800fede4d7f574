"""Sources that disagree: which value stays, in any order of arrival, on both databases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.records import Batch, CoverageRange, Series, Source, State, WriteResult
from airflow_provider_binance.registry import KLINES
from airflow_provider_binance.store import Store, open_store
from airflow_provider_binance.store.schema import LATEST, PUBLISHED
from tests.store.helpers import EVER, SERIES, T0, at, batch_of, kline, klines, make_old, plain

DAILY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip"
MONTHLY = "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip"
MINUTES = 6
#: The last one may be lacking from a source.
COLUMNS = [name for name in KLINES.column_names if name not in ("contracts", "taker_buy_contracts")]
NARROW = [name for name in COLUMNS if name != "quote_volume"]

_symbols = itertools.count()


def file(
    start: int, end: int, name: str, published: int | None, sha: str, *, series: Series = SERIES, **changed: Any
) -> Batch:
    """A whole archive file's batch."""
    known = CoverageRange(at(start), at(end), State.COMPLETE, end - start, confirmed_by=sha, checked_at_us=T0)
    rows = [kline(i, **changed) for i in range(start, end)]
    return batch_of(rows, start, end, source=Source.ARCHIVE, coverage=[known], sha256=sha, ref=name,
                    published_us=published, series=series)  # fmt: skip


def closes(store: Store, series: Series = SERIES) -> list[str]:
    return [str(row[4]) for row in store.rows("klines", series, *EVER)]


def confirmed(store: Store) -> list[tuple[int, int, str | None]]:
    return [
        ((r.start_us - T0) // 60_000_000, (r.end_us - T0) // 60_000_000, r.confirmed_by)
        for r in store.coverage("klines", [SERIES], *EVER)[SERIES]
    ]


# --- archive against archive ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True], ids=["older_first", "newest_first"])
@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ((MONTHLY, 100), (DAILY, 200)),
        ((DAILY, 100), (MONTHLY, 200)),
        ((MONTHLY, 100), (MONTHLY, 200)),
        ((DAILY, 100), (DAILY, 200)),
        ((MONTHLY, 100), (DAILY, 100)),
        ((DAILY, None), (MONTHLY, 1)),
    ],
    ids=["daily_later", "monthly_later", "monthly_again", "daily_again", "daily_on_a_tie", "known_before_unknown"],
)
def test_the_file_that_was_published_last_stays(
    store: Store, older: tuple[str, int | None], newer: tuple[str, int | None], newest_first: bool
) -> None:
    """Whichever is loaded first; rows that differ from it are counted as kept, and the ledger names the file."""
    old = file(0, 5, *older, "old", close="1")
    new = file(0, 5, *newer, "new", close="2")
    first, second = (new, old) if newest_first else (old, new)
    store.write(first)
    result = store.write(second)
    assert closes(store) == ["2"] * 5
    assert confirmed(store) == [(0, 5, "new")]
    expected = WriteResult(5, rows_kept=5) if newest_first else WriteResult(5, rows_updated=5)
    assert result == expected


def test_of_two_files_of_unknown_date_the_one_that_comes_last_stays(store: Store) -> None:
    store.write(file(0, 5, DAILY, None, "daily", close="1"))
    assert store.write(file(0, 5, MONTHLY, None, "monthly", close="2")).rows_updated == 5
    assert confirmed(store) == [(0, 5, "monthly")]


def test_a_row_that_the_newest_file_lacks_is_the_older_files(store: Store, store_url: str) -> None:
    """It is kept, still confirmed by the older file, and a newer one than that may correct it."""
    store.write(file(0, 6, MONTHLY, 100, "month1", close="1"))
    lacking = batch_of(
        [kline(i, close="3") for i in (0, 1, 4, 5)], 0, 6, source=Source.ARCHIVE, sha256="day", ref=DAILY,
        published_us=300,
        coverage=[
            CoverageRange(at(0), at(2), State.COMPLETE, 2, confirmed_by="day"),
            CoverageRange(at(4), at(6), State.COMPLETE, 2, confirmed_by="day"),
            CoverageRange(at(2), at(4), State.UNPUBLISHED),
        ],
    )  # fmt: skip
    assert store.write(lacking).rows_updated == 4
    assert confirmed(store) == [(0, 2, "day"), (2, 4, "month1"), (4, 6, "day")]
    result = store.write(file(0, 6, MONTHLY, 200, "month2", close="2"))
    assert (result.rows_updated, result.rows_kept) == (2, 4)
    assert closes(store) == ["3", "3", "2", "2", "3", "3"]
    assert confirmed(store) == [(0, 2, "day"), (2, 4, "month2"), (4, 6, "day")]
    assert plain(store_url, "SELECT count(*) FROM corrections WHERE column_name = 'close'") == [(6,)]


def test_the_same_file_published_again_counts_as_of_then(store: Store) -> None:
    """Its bytes are the same, its date is later: what was newer before is older now."""
    store.write(file(0, 5, DAILY, 100, "day", close="1"))
    store.write(file(0, 5, MONTHLY, 200, "month", close="2"))
    assert store.write(file(0, 5, DAILY, 300, "day", close="1")).rows_updated == 5
    assert confirmed(store) == [(0, 5, "day")]
    assert store.write(file(0, 5, MONTHLY, 200, "month", close="2")).rows_kept == 5


def test_an_older_file_fills_what_was_deleted(store: Store, store_url: str) -> None:
    """Kept are rows, not holes."""
    store.write(file(0, 5, DAILY, 300, "day", close="3"))
    plain(store_url, "DELETE FROM klines_data WHERE close = '3' AND trade_count = 3")
    assert store.write(file(0, 5, MONTHLY, 200, "month", close="2")) == WriteResult(5, rows_inserted=5)


def test_the_part_of_a_file_that_was_cut_short_outranks_older_files(store: Store) -> None:
    """Its rows have no coverage yet; the log alone tells whose they are."""
    part = batch_of([kline(i, close="3") for i in range(3)], 0, 3, source=Source.ARCHIVE, sha256="day", ref=DAILY,
                    published_us=300, parts=2)  # fmt: skip
    store.write(part)
    result = store.write(file(0, 6, MONTHLY, 200, "month", close="2"))
    assert (result.rows_inserted, result.rows_kept) == (3, 3)
    assert closes(store) == ["3", "3", "3", "2", "2", "2"]


# --- any order ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What one source says of some minutes."""

    name: str
    source: Source
    ref: str
    published: int | None
    minutes: frozenset[int]
    columns: Sequence[str] = tuple(COLUMNS)

    @property
    def standing(self) -> tuple[int, int, bool]:
        return (self.source is Source.ARCHIVE, self.published or 0, "/daily/" in self.ref)

    def row(self, minute: int) -> dict[str, Any]:
        close = f"{minute + 1}.{'MmDdR'.index(self.name[0]) + 1}"
        values = dict(zip(KLINES.column_names, kline(minute, close=close, quote_volume=close), strict=True))
        return {name: values[name] for name in self.columns}

    def batch(self, series: Series) -> Batch:
        is_file = self.source is Source.ARCHIVE
        sha = self.name if is_file else None
        coverage = [
            CoverageRange(
                at(i), at(i + 1), State.COMPLETE if i in self.minutes else State.UNPUBLISHED,
                int(i in self.minutes), confirmed_by=sha if i in self.minutes else None,
            )
            for i in range(MINUTES)
        ]  # fmt: skip
        rows = [tuple(self.row(i).values()) for i in sorted(self.minutes)]
        return batch_of(rows, 0, MINUTES, columns=self.columns, source=self.source, series=series, coverage=coverage,
                        sha256=sha, ref=self.ref, published_us=self.published)  # fmt: skip


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Told], list[Told]]:
    """The five sources, and the order in which they come, each at least once."""
    minutes = st.frozensets(st.integers(0, MINUTES - 1))
    dates = draw(st.lists(st.integers(100, 103), min_size=4, max_size=4))
    # A file's second version is published after its first one.
    dates = [dates[0], dates[0] + 1 + dates[1] % 3, dates[2], dates[2] + 1 + dates[3] % 3]
    columns = draw(st.sampled_from([COLUMNS, NARROW]))
    told = [
        Told(name, Source.ARCHIVE, ref, date, draw(minutes), tuple(columns))
        for name, ref, date in zip("MmDd", [MONTHLY, MONTHLY, DAILY, DAILY], dates, strict=True)
    ]
    told.append(Told("R", Source.REST, "/api/v3/klines", None, draw(minutes)))
    order = draw(st.permutations([*told, *draw(st.lists(st.sampled_from(told), max_size=3))]))
    return told, order


def expected(told: Sequence[Told]) -> list[dict[str, Any]]:
    """Row by row, column by column: the word of the highest source that has it."""
    rows = []
    for minute in range(MINUTES):
        row: dict[str, Any] = {}
        for each in sorted(told, key=lambda each: each.standing):
            if minute in each.minutes:
                row |= each.row(minute)
        if row:
            rows.append(row)
    return rows


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for many examples, each with a symbol of its own."""
    if request.param == "sqlite":
        url, schema = f"sqlite:///{tmp_path_factory.mktemp('any_order') / 'ingest.db'}", None
    else:
        url, schema = request.getfixturevalue("postgres_url"), "any_order"
    with open_store(url, schema=schema) as store:
        store.migrate()
        yield store
    if schema:
        plain(url, "DROP SCHEMA any_order CASCADE")


@settings(max_examples=60, deadline=None)
@given(drawn=arrivals())
def test_any_order_ends_in_the_same_rows(shared_store: Store, drawn: tuple[list[Told], list[Told]]) -> None:
    """Two monthly versions, two daily ones and REST, each lacking some rows: only who says what counts, not when."""
    told, order = drawn
    series = Series("spot", "klines", f"ANY{next(_symbols)}", "1m")
    for each in order:
        shared_store.write(each.batch(series))
    found = [dict(zip(KLINES.column_names, row, strict=True)) for row in shared_store.rows("klines", series, *EVER)]
    for row in found:
        assert (row.pop("contracts"), row.pop("taker_buy_contracts")) == (None, None)
    rows = [{name: row.get(name) for name in COLUMNS} for row in expected(told)]
    decimals = ("close", "quote_volume")
    for row in (*found, *rows):
        row.update({name: row[name] if row[name] is None else Decimal(row[name]) for name in decimals})
    assert found == rows
    # The ledger says of each minute which file has the last word, or none.
    files = [each for each in sorted(told, key=lambda each: each.standing) if each.source is Source.ARCHIVE]
    last_word = {i: each.name for each in files for i in each.minutes}
    ranges = shared_store.coverage("klines", [series], *EVER)[series]
    for i in range(MINUTES):
        [known] = [r for r in ranges if r.start_us <= at(i) < r.end_us]
        assert known.confirmed_by == last_word.get(i)
        assert (known.state is State.COMPLETE) == any(i in each.minutes for each in told)
    # Once more, in any order, and nothing changes.
    for each in told:
        again = shared_store.write(each.batch(series))
        assert (again.rows_inserted, again.rows_updated) == (0, 0)


# --- columns --------------------------------------------------------------------------------------------------------


def test_a_column_that_a_higher_source_does_not_carry_is_filled_and_stays(store: Store, store_url: str) -> None:
    """REST's quote volume fills the file's NULL, and the file, loaded again, does not wipe it."""
    narrow = [tuple(v for n, v in zip(KLINES.column_names, kline(i, close="2"), strict=True) if n in NARROW)
              for i in range(4)]  # fmt: skip
    known = CoverageRange(at(0), at(4), State.COMPLETE, 4, confirmed_by="sha")
    archive = batch_of(narrow, 0, 4, columns=NARROW, source=Source.ARCHIVE, sha256="sha", coverage=[known])
    store.write(archive)
    result = store.write(klines(0, 4, close="3", quote_volume="7.5"))
    assert result == WriteResult(4, rows_updated=4)
    assert [(row[4], row[7]) for row in store.rows("klines", SERIES, *EVER)] == [("2", "7.5")] * 4
    assert store.write(archive).rows_unchanged == 4
    assert store.write(klines(0, 4, close="3", quote_volume="8")).rows_kept == 4
    assert plain(store_url, "SELECT DISTINCT column_name, old_value, new_value, old_source, new_source "
                            "FROM corrections") == [("quote_volume", None, "7.5", "archive", "rest")]  # fmt: skip


def test_null_takes_no_values_place(store: Store, store_url: str) -> None:
    """A source that spells out NULL does not carry the column either."""
    store.write(klines(0, 3))
    assert store.write(klines(0, 3, quote_volume=None)) == WriteResult(3, rows_unchanged=3)
    assert store.write(klines(0, 3, quote_volume=None, close="2")).rows_updated == 3
    assert [(row[4], row[7]) for row in store.rows("klines", SERIES, *EVER)] == [("2", "12.5")] * 3
    assert plain(store_url, "SELECT DISTINCT column_name FROM corrections") == [("close",)]


# --- stores of before, and code of before ---------------------------------------------------------------------------


def test_the_first_load_brings_an_older_store_up_to_date(store_url: str) -> None:
    """Its rows stay; its files are of unknown date, so that any other file may correct them."""
    with open_store(store_url) as store:
        store.ensure_environment("simulator")
        store.write(file(0, 5, DAILY, 300, "day", close="1"))
    make_old(store_url)
    with open_store(store_url) as store:
        [line] = store.archive_lines(SERIES, *EVER)
        assert (line.sha256, line.published_us, line.etag) == ("day", None, None)
        store.ensure_environment("simulator")
        assert plain(store_url, "SELECT count(*) FROM klines_latest") == [(1,)]
        assert store.migrate() == []
        assert store.write(file(0, 5, MONTHLY, 200, "month", close="2")).rows_updated == 5
        assert [line.published_us for line in store.archive_lines(SERIES, *EVER)] == [None, 200]
    assert plain(store_url, "SELECT max(min_reader_version) FROM schema_version") == [(1,)]


def test_code_that_may_not_migrate_serves_an_older_store(store_url: str) -> None:
    """And goes on, with what it knew, when somebody else migrates meanwhile: workers are upgraded one by one."""
    with open_store(store_url) as store:
        store.ensure_environment("simulator")
    make_old(store_url)
    with open_store(store_url, create=False) as old, open_store(store_url) as new:
        old.ensure_environment("simulator")
        assert old.write(file(0, 5, DAILY, 300, "day", close="1")).rows_inserted == 5
        assert old.write(file(0, 5, MONTHLY, 200, "month", close="2")).rows_updated == 5  # the one that comes last
        assert new.migrate() == [PUBLISHED, LATEST]
        assert old.write(file(0, 5, DAILY, 300, "day", close="1")).rows_updated == 5
        assert new.write(file(0, 5, MONTHLY, 200, "month", close="2")).rows_updated == 5
        assert [line.published_us for line in new.archive_lines(SERIES, *EVER)] == [None, None, None, 200]
