"""The view `market_data`: a reader written from the contract works on it, whatever the store goes through."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from airflow_provider_binance.cli import main
from airflow_provider_binance.errors import InputError, StoreRightsError
from airflow_provider_binance.integrations import drl_view
from airflow_provider_binance.integrations.drl_trading import VolumeMode, install_view, view_sql
from airflow_provider_binance.market import INTERVALS, from_us
from airflow_provider_binance.records import Series, Source
from airflow_provider_binance.store import Store, open_store
from tests.fix_postgres import database_of, driver_url
from tests.integrations import reader
from tests.integrations.scene import SYMBOLS, YEAR, analyzed, fill, shown
from tests.store.helpers import EVER, T0, batch_of, kline, klines, plain

pytestmark = pytest.mark.postgres

START = datetime(2024, 1, 1, tzinfo=UTC)
LAST = START + timedelta(minutes=YEAR - 1)


@pytest.fixture(scope="module")
def year(postgres_url: str) -> Iterator[str]:
    """A year of 1m of three symbols, seen through the view."""
    with database_of(postgres_url, "drl_year") as url:
        with open_store(url) as store:
            fill(store, url, SYMBOLS, YEAR)
            analyzed(url)
            install_view(store)
        yield url


@pytest.fixture(scope="module")
def engine(year: str) -> Iterator[Engine]:
    """As the service connects: its names are found in the view's schema first."""
    made = create_engine(year, connect_args={"options": "-csearch_path=drl,public"})
    yield made
    made.dispose()


@pytest.fixture
def store(postgres_database: str) -> Iterator[Store]:
    with open_store(postgres_database) as opened:
        yield opened


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


QUERIES = {
    "range": reader.ranged("BTCUSDT", "1m", at(1000), at(2000)),
    "range of several": reader.ranged(["BTCUSDT", "ETHUSDT"], "1m", at(1000), at(2000)),
    "first page": reader.page("BTCUSDT", "1m", 500, 0),
    "later page": reader.page("ETHUSDT", "1m", 500, 10_000),
    "latest": reader.latest("BTCUSDT", "1m"),
    "latest of each": reader.latest_of_each(SYMBOLS, "1m"),
    "latest by group": reader.latest_by_group(SYMBOLS, "1m"),
    "availability": reader.availability("BTCUSDT", "1m"),
    "timeframes": reader.timeframes("BTCUSDT"),
    "summary": reader.summary(),
}


#: How many klines a query of these may read: those that it shows, and those that its page skips.
READ = {
    "range": 1001,
    "range of several": 2002,
    "first page": 500,
    "later page": 10_500,
    "latest": 1,
    "newest rows of several": 11,  # one is read ahead of each of the two
    "newest time": 1,
    "newest, then back": 500,
    "oldest time": 1,
}
OTHERS = {
    "newest rows of several": "SELECT * FROM market_data WHERE symbol IN ('BTCUSDT', 'BNBUSDT') AND timeframe = '1m' "
    "ORDER BY timestamp DESC LIMIT 10",
    "newest time": "SELECT Max (timestamp) FROM market_data WHERE symbol = 'BTCUSDT' AND timeframe = '1m'",
    "newest, then back": "SELECT * FROM market_data WHERE symbol = 'BTCUSDT' AND timeframe = '1m'\n"
    "ORDER BY timestamp\nDESC LIMIT 400 OFFSET 100",
    "oldest time": "SELECT min(timestamp) FROM market_data WHERE symbol = 'BTCUSDT' AND timeframe = '1m'",
}


def said(name: str) -> str:
    """The query as the database gets it."""
    if name in OTHERS:
        return OTHERS[name]
    return str(QUERIES[name].compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_of_the_reader_uses_the_index(engine: Engine, name: str) -> None:
    """No table of rows is read from end to end."""
    with engine.connect() as connection:
        plan = "\n".join(line for (line,) in connection.exec_driver_sql(f"EXPLAIN {said(name)}"))
    assert "using klines_data_pkey" in plan
    assert "Seq Scan on klines_data" not in plan


@pytest.mark.parametrize("name", READ)
def test_ranges_pages_and_newest_rows_read_no_more_than_they_need(engine: Engine, name: str) -> None:
    """They come in the order of the index, from either end, and nothing is sorted."""
    with engine.connect() as connection:
        [(found,)] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {said(name)}")
    seen = list(nodes(found[0]["Plan"]))
    assert (
        sum(n["Actual Rows"] * n["Actual Loops"] for n in seen if n.get("Relation Name") == "klines_data") == READ[name]
    )
    assert not [n for n in seen if "Sort" in n["Node Type"] and n["Actual Rows"]]


def test_the_reader_gets_what_it_asks_for(engine: Engine) -> None:
    """Every shape of query, on a year of three symbols."""
    with Session(engine) as session:

        def rows(name: str) -> list[Any]:
            return list(session.scalars(QUERIES[name]))

        assert [row.timestamp for row in rows("range")] == [at(i) for i in range(1000, 2001)]
        several = rows("range of several")
        assert len(several) == 2002
        assert [row.timestamp for row in several] == sorted(row.timestamp for row in several)
        assert [row.timestamp for row in rows("first page")] == [at(i) for i in range(500)]
        assert [row.timestamp for row in rows("later page")] == [at(i) for i in range(10_000, 10_500)]
        assert [row.timestamp for row in rows("latest")] == [LAST]
        for name in ("latest of each", "latest by group"):
            assert [(row.symbol, row.timestamp) for row in rows(name)] == [(s, LAST) for s in sorted(SYMBOLS)]
        assert session.execute(QUERIES["availability"]).all() == [(YEAR, START, LAST)]
        assert session.scalars(QUERIES["timeframes"]).all() == ["1m"]
        assert session.execute(QUERIES["summary"]).all() == [(s, "1m", YEAR, START, LAST) for s in sorted(SYMBOLS)]
        newest = session.execute(text("SELECT symbol, timestamp FROM latest ORDER BY 1")).all()
        assert newest == [(s, LAST) for s in sorted(SYMBOLS)]


def test_every_row_fits_the_readers_model(year: str, engine: Engine) -> None:
    """Whole numbers only, times with an offset, and a time of making that is the close."""
    with psycopg.connect(driver_url(year)) as server, server.cursor("rows") as cursor:
        cursor.itersize = 20_000
        cursor.execute("SELECT * FROM drl.market_data WHERE symbol = 'BTCUSDT' AND \"timestamp\" < '2024-02-01Z'")
        names = list(reader.MarketDataModel.model_fields)
        assert sum(bool(reader.MarketDataModel(**dict(zip(names, row, strict=True)))) for row in cursor) == 31 * 1440
    with Session(engine) as session:
        found = list(session.scalars(reader.ranged(SYMBOLS, "1m", START, at(1500))))
        assert len(found) == 1501 * 3
        for row in found:
            model = reader.MarketDataModel.model_validate(row)
            assert model.created_at == model.timestamp + timedelta(milliseconds=59_999)


def test_the_columns_are_those_of_the_contract(engine: Engine) -> None:
    with engine.connect() as connection:
        types = connection.execute(
            text("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                 "WHERE attrelid = 'market_data'\\:\\:regclass AND attnum > 0 ORDER BY attnum")
        ).all()  # fmt: skip
    prices = [(f"{name}_price", "double precision") for name in ("open", "high", "low", "close")]
    assert types == [
        ("symbol", "character varying(20)"), ("timeframe", "character varying(10)"),
        ("timestamp", "timestamp with time zone"), *prices, ("volume", "bigint"),
        ("created_at", "timestamp with time zone"),
    ]  # fmt: skip


def test_markets_and_timeframes_of_the_contract_only(store: Store, postgres_database: str) -> None:
    """The market becomes a suffix; what the reader would fail on is not shown, but named."""
    for market, symbol in (("spot", "BTCUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")):
        store.write(klines(0, 2, series=Series(market, "klines", symbol, "1m")))
    store.write(batch_of([kline(0)], 0, 3, series=Series("spot", "klines", "BTCUSDT", "3m")))
    month = kline(0, close_time=T0 + 31 * 86_400_000_000 - 1_000)
    store.write(batch_of([month], 0, 44_640, series=Series("spot", "klines", "BTCUSDT", "1M")))
    long = Series("um", "klines", "A" * 19, "1m")
    store.write(klines(0, 5, series=long))
    made = install_view(store)
    assert [entry[:5] for entry in made.left_out or []] == [
        ("spot", "BTCUSDT", "3m", "interval is none of 1m 5m 15m 30m 1h 4h 1d 1w 1M", 1),
        ("um", "A" * 19, "1m", "symbol with its suffix is longer than 20 characters", 5),
    ]
    seen = plain(postgres_database, "SELECT DISTINCT symbol, timeframe FROM drl.market_data ORDER BY 1, 2")
    assert seen == [("BTCUSDT", "1M"), ("BTCUSDT", "1m"), ("BTCUSDT.P", "1m"), ("BTCUSD_PERP.CM", "1m")]
    [(closed,)] = plain(postgres_database, "SELECT created_at FROM drl.market_data WHERE timeframe = '1M'")
    assert closed == from_us(INTERVALS["1M"].close_time(T0))


@pytest.mark.parametrize("mode", VolumeMode)
def test_volumes_are_whole_and_what_does_not_fit_is_named(
    store: Store, postgres_database: str, mode: VolumeMode
) -> None:
    """Compared with arithmetic of Python's own, up to the last one that fits."""
    seed = random.Random(7)
    ways = {"round": ("volume", 1), "scale_1e8": ("volume", 10**8), "quote": ("quote_volume", 1)}
    column, factor = ways[mode]
    edge = Decimal(2**63 - 1) / factor
    texts = ["0", "0.4", "0.5", "0.9", "1.5", "123456.789", str(edge), str(edge + 1), "99999999999999999999"]
    texts += [f"{seed.uniform(0, 1e6):.8f}" for _ in range(50)]
    rows = [kline(i, **{column: value}) for i, value in enumerate(texts)]
    store.write(batch_of(rows, 0, len(texts)))
    made = install_view(store, volume_mode=mode)
    whole = [int((Decimal(value) * factor).quantize(Decimal(1), ROUND_HALF_UP)) for value in texts]
    assert [row[-1] for row in shown(postgres_database)] == [n for n in whole if n < 2**63]
    [out] = made.left_out or []
    assert out == ("spot", "BTCUSDT", "1m", "volume does not fit into bigint", 2, "2024-01-01T00:07:00Z",
                   "2024-01-01T00:08:00Z")  # fmt: skip


def test_coin_futures_have_no_quote_volume(store: Store, postgres_database: str) -> None:
    """What is unknown is not said to be 0."""
    store.write(klines(0, 3, series=Series("cm", "klines", "BTCUSD_PERP", "1m"), quote_volume=None))
    [out] = install_view(store, volume_mode=VolumeMode.QUOTE).left_out or []
    assert out[:5] == ("cm", "BTCUSD_PERP", "1m", "has no quote volume", 3)
    assert shown(postgres_database) == []


def test_the_mode_is_kept_until_another_is_named(store: Store, postgres_database: str) -> None:
    store.write(klines(0, 1, volume="0.9"))
    assert install_view(store).volume_mode == "round"
    assert shown(postgres_database)[0][-1] == 1
    install_view(store, volume_mode=VolumeMode.SCALE_1E8)
    assert install_view(store).volume_mode == "scale_1e8"
    assert shown(postgres_database)[0][-1] == 90_000_000


def test_the_view_follows_the_store(store: Store, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections, gaps that are filled, re-loads, forgotten rows and series that came after it, with and without
    a branch of their own."""
    monkeypatch.setattr(drl_view, "BRANCHES", 1)
    store.write(klines(0, 10))
    store.write(klines(20, 30))
    install_view(store)
    assert len(shown(postgres_database)) == 20
    store.write(klines(10, 20))
    store.write(klines(5, 6, source=Source.ARCHIVE, confirmed_by="ab" * 32, close="1.75"))
    assert [row[6] for row in shown(postgres_database)] == [1.5] * 5 + [1.75] + [1.5] * 24
    store.forget(Series("spot", "klines", "BTCUSDT", "1m"), T0, T0 + 60_000_000)
    store.write(klines(0, 4, series=Series("spot", "klines", "ETHUSDT", "1m")))
    late = shown(postgres_database)
    assert [row[0] for row in late] == ["BTCUSDT"] * 29 + ["ETHUSDT"] * 4
    assert (install_view(store).branches, install_view(store).series) == (1, 2)
    assert shown(postgres_database) == late
    assert store.row_counts("klines", Series("spot", "klines", "ETHUSDT", "1m"), [EVER]) == [4]


def test_a_series_of_an_earlier_number_is_not_missed(store: Store, postgres_database: str) -> None:
    """A load that began before the view was made, and ended after it, has a number from then."""
    store.write(klines(0, 2))
    plain(postgres_database, "SELECT nextval(pg_get_serial_sequence('series', 'series_id'))")
    store.write(klines(0, 2, series=Series("spot", "klines", "ETHUSDT", "3m")))
    store.write(klines(0, 2, series=Series("spot", "klines", "ETHUSDT", "1m")))
    install_view(store)
    plain(postgres_database, "INSERT INTO series VALUES (2, 'spot', 'BNBUSDT', '1m')")
    store.write(klines(0, 3, series=Series("spot", "klines", "BNBUSDT", "1m")))
    assert [row[0] for row in shown(postgres_database)] == ["BNBUSDT"] * 3 + ["BTCUSDT"] * 2 + ["ETHUSDT"] * 2
    assert plain(postgres_database, "SELECT series_id FROM series ORDER BY 1") == [(1,), (2,), (3,), (4,)]


def test_the_text_of_a_query_never_changes_its_rows(year: str) -> None:
    """Where it misleads, or is not there to be read, rows come in the order that was asked for all the same."""
    first = """SELECT symbol, "timestamp" FROM drl.market_data WHERE symbol <> 'BNBUSDT' AND "timestamp" < '2024-01-02Z'
        ORDER BY 2, 1"""
    with psycopg.connect(driver_url(year)) as server:
        expected = server.execute(first).fetchall()
        assert len(expected) == 2 * 1440
        assert server.execute(f"{first} /* desc */").fetchall() == expected
        server.execute(f"PREPARE newest AS {first.replace('2, 1', '2 DESC, 1 DESC')}")
        assert server.execute("EXECUTE newest").fetchall() == expected[::-1]
        server.execute(f"DECLARE back CURSOR FOR {first}")
        assert server.execute("FETCH 1000 FROM back").fetchall() == expected[:1000]
        assert server.execute("FETCH ALL FROM back -- desc").fetchall() == expected[1000:]


def test_the_services_own_migration_is_not_in_the_way(store: Store, postgres_database: str) -> None:
    """It makes and indexes its table in `public`, before or after the view, which is never there."""
    store.write(klines(0, 2))
    install_view(store)
    plain(postgres_database, "CREATE TABLE market_data (symbol varchar(20), timeframe varchar(10))")
    plain(postgres_database, "CREATE INDEX idx_market_data_symbol ON market_data (symbol)")
    install_view(store)
    assert len(shown(postgres_database)) == 2
    for schema in ("public", ""):
        with pytest.raises(InputError, match="schema of its own"):
            install_view(store, schema=schema)
    plain(postgres_database, "CREATE SCHEMA taken CREATE TABLE market_data (symbol text)")
    with pytest.raises(InputError, match="table market_data of its own"):
        install_view(store, schema="taken")


def test_the_ddl_is_for_roles_that_may_not_create(postgres_database: str) -> None:
    """Run by the owner, it makes the same view; a schema may be called as it likes."""
    with open_store(postgres_database, schema='od"d %s') as store:
        store.write(klines(0, 3))
        plain(postgres_database, view_sql("drl", VolumeMode.SCALE_1E8, 'od"d %s'))
        first = shown(postgres_database)
        assert [row[-1] for row in first] == [10**9] * 3
        assert install_view(store, schema="drl").volume_mode == "scale_1e8"
        assert shown(postgres_database) == first


def test_the_command_line_makes_it_and_names_what_is_left_out(
    postgres_database: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    with open_store(postgres_database) as store:
        store.write(klines(0, 2, volume="1e30"))
    assert main(["migrate", "--compat", "drl", "--store", postgres_database]) == 0
    told = capsys.readouterr().out
    assert "made the view drl.market_data of 1 series, volumes by round" in told
    assert "left out: spot BTCUSDT 1m, 2 rows from 2024-01-01T00:00:00Z to 2024-01-01T00:01:00Z" in told
    for words in (["--compat", "drl", "--store", f"sqlite:///{tmp_path / 's.db'}"], ["--volume-mode", "quote"]):
        assert main(["migrate", *words]) == 2
    assert "needs PostgreSQL" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_role_without_rights_is_told_so(store: Store, postgres_database: str) -> None:
    store.write(klines(0, 1))
    plain(postgres_database, "CREATE ROLE drl_poor LOGIN")
    try:
        plain(postgres_database, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO drl_poor")
        with (
            open_store(postgres_database.replace("postgres@", "drl_poor@")) as poor,
            pytest.raises(StoreRightsError, match="migrate --sql"),
        ):
            install_view(poor)
    finally:
        plain(postgres_database, "DROP OWNED BY drl_poor")
        plain(postgres_database, "DROP ROLE drl_poor")
