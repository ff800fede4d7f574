"""Both shipped DAGs run by `dag.test`, on real rows of the simulator."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_binance import ingest
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.example_dags.binance_backfill import make_backfill_dag
from airflow_provider_binance.example_dags.binance_daily import make_daily_dag
from airflow_provider_binance.simulator.server import Simulator
from tests.airflow.conftest import END, START, extras, opens_of, rows_of

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("metadata", "connections")]

DAY_US = 86_400_000_000
UNIVERSE = {"spot": [{"symbols": ["BTCUSDT", "ETHUSDT"], "intervals": ["1h"]}]}


@pytest.fixture
def universe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Set the Airflow variable `binance_universe`."""
    return lambda value: monkeypatch.setenv("AIRFLOW_VAR_BINANCE_UNIVERSE", json.dumps(value))


def known(dag: DAG) -> DAG:
    """The DAG as the scheduler would know it: `dag.test` wants it serialized."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder="/dev/null")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    return dag


#: A run that goes wrong in an unforeseen way must not wait for its next try.
ONCE = {"retries": 0}


def run(dag: DAG, until: datetime | None = None, conf: dict[str, Any] | None = None) -> Any:
    """One run by hand, whose data interval is the last one that ends at `until`; the DagRun."""
    return known(dag).test(logical_date=until, run_conf=conf)


def states(dagrun: Any) -> dict[tuple[str, int], str]:
    return {(ti.task_id, ti.map_index): str(ti.state) for ti in dagrun.get_task_instances()}


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def test_daily_loads_the_day_of_its_data_interval_and_nothing_else(
    simulator: Simulator, universe: Callable[[Any], None], store_path: Path
) -> None:
    universe(UNIVERSE)
    dag = make_daily_dag("daily_interval", task_arguments=ONCE)
    done = run(dag, datetime(2026, 11, 19, tzinfo=UTC))
    assert done.state == "success"
    expected = list(range(us(START), us(END), 3_600_000_000))
    assert opens_of(store_path, "BTCUSDT", "1h") == opens_of(store_path, "ETHUSDT", "1h") == expected
    before = rows_of(store_path)
    simulator.clear_requests()
    # The same data interval again, as a backfill or clearing would run it.
    assert (
        run(make_daily_dag("daily_again", task_arguments=ONCE), datetime(2026, 11, 19, tzinfo=UTC)).state == "success"
    )
    assert rows_of(store_path) == before


def test_daily_loads_the_week_that_ends_with_its_day(universe: Callable[[Any], None], store_path: Path) -> None:
    """The run of Sunday 2026-11-15 loads the week that opened on Monday, six days before its data interval."""
    universe({"spot": [{"symbols": ["BTCUSDT"], "intervals": ["1w"], "since": "2026-11-09"}]})
    dag = make_daily_dag("daily_week", task_arguments=ONCE)
    assert run(dag, datetime(2026, 11, 16, tzinfo=UTC)).state == "success"
    assert opens_of(store_path, "BTCUSDT", "1w") == [us("2026-11-09T00Z")]


def test_daily_confirms_what_came_before_its_file(
    simulator: Simulator, universe: Callable[[Any], None], store_path: Path
) -> None:
    """A day loaded by REST is confirmed by the run of the next day, which loads nothing else of the past."""
    universe({"spot": [{"symbols": ["BTCUSDT"], "intervals": ["1m"]}]})
    dag = make_daily_dag("daily_confirms", task_arguments=ONCE)
    simulator.set_clock("2026-11-18T00:01:00Z")
    assert run(dag, datetime(2026, 11, 18, tzinfo=UTC)).state == "success"
    assert confirmed(store_path) == {0}
    simulator.set_clock("2026-11-19T12:00:00Z")
    assert run(dag, datetime(2026, 11, 19, tzinfo=UTC)).state == "success"
    assert confirmed(store_path) == {1}
    assert opens_of(store_path, "BTCUSDT", "1m") == list(range(us("2026-11-17T00Z"), us(END), 60_000_000))


def confirmed(path: Path) -> set[int]:
    """Whether the complete ranges are confirmed by an archive file (1) or provisional (0)."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT DISTINCT confirmed_by IS NOT NULL FROM coverage WHERE state = 'complete'"
        return {row[0] for row in database.execute(query)}


def test_daily_by_hand_without_a_date_goes_on_to_the_last_midnight(
    universe: Callable[[Any], None], store_path: Path
) -> None:
    universe({"spot": [{"symbols": ["BTCUSDT"], "intervals": ["1h"], "since": "2026-11-16"}]})
    dag = make_daily_dag("daily_by_hand", task_arguments=ONCE)
    assert run(dag).state == "success"
    assert opens_of(store_path, "BTCUSDT", "1h") == list(
        range(us("2026-11-16T00Z"), us("2026-11-20T00Z"), 3_600_000_000)
    )
    universe({"spot": [{"symbols": ["BTCUSDT", "ETHUSDT"], "intervals": ["1h"], "since": "2026-11-19"}]})
    assert run(dag).state == "success"
    assert len(opens_of(store_path, "BTCUSDT", "1h")) == 4 * 24
    assert opens_of(store_path, "ETHUSDT", "1h") == list(
        range(us("2026-11-19T00Z"), us("2026-11-20T00Z"), 3_600_000_000)
    )


def test_daily_without_a_date_and_without_anything_to_go_on_from_fails(
    universe: Callable[[Any], None], store_path: Path
) -> None:
    universe(UNIVERSE)
    done = run(make_daily_dag("daily_nothing", task_arguments=ONCE))
    assert done.state == "failed"
    assert not store_path.exists()


def test_daily_fails_where_no_universe_is_set(store_path: Path) -> None:
    done = run(make_daily_dag("daily_no_universe", task_arguments=ONCE), datetime(2026, 11, 19, tzinfo=UTC))
    assert done.state == "failed"
    assert not store_path.exists()


def test_daily_starts_with_since(universe: Callable[[Any], None], store_path: Path) -> None:
    entries = [
        {"symbols": ["BTCUSDT"], "intervals": ["1h"], "since": "2026-11-18T12:00:00Z"},
        {"symbols": ["ETHUSDT"], "intervals": ["1h"], "since": "2026-11-19"},
    ]
    universe({"spot": entries})
    assert (
        run(make_daily_dag("daily_since", task_arguments=ONCE), datetime(2026, 11, 19, tzinfo=UTC)).state == "success"
    )
    assert opens_of(store_path, "BTCUSDT", "1h") == list(range(us("2026-11-18T12Z"), us(END), 3_600_000_000))
    assert opens_of(store_path, "ETHUSDT", "1h") == []


@pytest.mark.parametrize("day", [datetime(2026, 3, 28), datetime(2026, 10, 24)], ids=["spring", "autumn"])
def test_a_day_of_berlin_gives_the_same_rows_over_both_clock_changes(
    simulator: Simulator, universe: Callable[[Any], None], store_path: Path, tmp_path: Path, day: datetime
) -> None:
    """Three local days, one of 23 or 25 hours, leave what one load of the same instants does."""
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    universe({"spot": [{"symbols": ["BTCUSDT"], "intervals": ["1h"]}]})
    days = [(day + timedelta(days=n)).replace(tzinfo=berlin) for n in range(4)]
    dag = make_daily_dag(f"daily_berlin_{day.month}", task_arguments=ONCE, timezone="Europe/Berlin")
    for end in days[1:]:
        assert run(dag, end.astimezone(UTC)).state == "success"
    other = tmp_path / "other.db"
    config = BinanceConfig.load(connection=extras(simulator), store_url=f"sqlite:///{other}")
    ingest.load(market="spot", symbols="BTCUSDT", intervals="1h", start=days[0], end=days[3], config=config)
    assert len(rows_of(other)) in (71, 73)
    assert rows_of(store_path) == rows_of(other)


FORM = {
    "market": "spot",
    "symbols": ["BTCUSDT"],
    "more_symbols": "ETHUSDT",
    "intervals": ["1h"],
    "start": START,
    "end": END,
}


def test_backfill_loads_what_its_form_says(store_path: Path) -> None:
    done = run(make_backfill_dag("backfill_form", task_arguments=ONCE), conf=FORM)
    assert done.state == "success"
    assert states(done)[("load", 0)] == "success"
    assert len(opens_of(store_path, "BTCUSDT", "1h")) == len(opens_of(store_path, "ETHUSDT", "1h")) == 24


def test_backfill_of_futures(store_path: Path) -> None:
    conf = {**FORM, "market": "cm", "symbols": ["BTCUSD_PERP"], "more_symbols": ""}
    assert run(make_backfill_dag("backfill_cm", task_arguments=ONCE), conf=conf).state == "success"
    assert len(opens_of(store_path, "BTCUSD_PERP", "1h")) == 24


@pytest.fixture
def ticking(connections: None, set_connection: Callable[..., None]) -> Iterator[Simulator]:
    """A Binance with fewer trades, of two markets, ten minutes after the day is over."""
    symbols = ["BTCUSDT", "um:BTCUSDT"]
    with Simulator(
        seed=7, now="2026-11-19T00:10:00Z", speed=0, symbols=symbols, limits=False, trades_per_minute=100
    ) as simulator:
        set_connection("binance_default", conn_type="binance", extra=extras(simulator))
        yield simulator


LATE = "2026-11-18T23:00:00Z"


def ids_of(path: Path, dataset: str, market: str) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        name = f"{dataset[:-1]}_id"
        query = f"SELECT {name} FROM {dataset} WHERE market = ? ORDER BY {name}"
        return [row[0] for row in database.execute(query, (market,))]


def true_ids(simulator: Simulator, dataset: str, market: str, start: str, end: str) -> list[int]:
    kind, key = {"agg_trades": ("aggTrades", "a"), "trades": ("trades", "id")}[dataset]
    return [int(row[key]) for row in simulator.true_ticks(market, kind, "BTCUSDT", start, end)]


def test_daily_of_a_universe_with_ticks(ticking: Simulator, universe: Callable[[Any], None], store_path: Path) -> None:
    """Klines and ticks of one universe: by hand from where each ends, or from `since`; by date, with no work left."""
    universe({
        "spot": [{"symbols": ["BTCUSDT"], "datasets": ["klines", "trades"], "intervals": ["1h"], "since": LATE}],
        "um": [{"symbols": ["*USDT"], "datasets": ["agg_trades"], "since": LATE}],
    })  # fmt: skip
    config = BinanceConfig(store_url=f"sqlite:///{store_path}", rate_limit_store="memory://", **extras(ticking))
    first = {"start": LATE, "end": "2026-11-18T23:20:00Z"}
    ingest.load(market="spot", dataset="trades", symbols="BTCUSDT", **first, config=config)
    dag = make_daily_dag("daily_ticks", task_arguments=ONCE)
    for until, loads in ((None, 3), (datetime(2026, 11, 19, tzinfo=UTC), 3)):
        done = run(dag, until)
        assert done.state == "success"
        assert len([ti for ti in done.get_task_instances() if ti.task_id == "load"]) == loads
        for dataset, market in (("trades", "spot"), ("agg_trades", "um")):
            assert ids_of(store_path, dataset, market) == true_ids(ticking, dataset, market, LATE, END)
        assert opens_of(store_path, "BTCUSDT", "1h") == [us(LATE)]


def test_backfill_of_ticks(ticking: Simulator, store_path: Path) -> None:
    """The intervals that the form begins with are passed over."""
    conf = {**FORM, "more_symbols": "", "datasets": ["agg_trades", "trades"], "start": LATE}
    done = run(make_backfill_dag("backfill_ticks", task_arguments=ONCE), conf=conf)
    assert done.state == "success"
    for dataset in conf["datasets"]:
        assert ids_of(store_path, dataset, "spot") == true_ids(ticking, dataset, "spot", LATE, END)
    labels = {ti.rendered_map_index for ti in done.get_task_instances() if ti.task_id == "load"}
    assert labels == {"spot BTCUSDT agg_trades", "spot BTCUSDT trades"}


def test_dry_run_tells_the_cost_and_loads_nothing(store_path: Path) -> None:
    done = run(make_backfill_dag("backfill_dry", task_arguments=ONCE), conf={**FORM, "dry_run": True})
    assert done.state == "success"
    assert states(done)[("load", -1)] == "skipped"
    assert not store_path.exists()
    [planning] = [ti for ti in done.get_task_instances() if ti.task_id == "plan_chunks"]
    plan = planning.xcom_pull(task_ids="plan_chunks", key="plan", dag_id=done.dag_id, run_id=done.run_id)
    assert plan["series_count"] == 2
    assert plan["totals"]["weight"] + plan["totals"]["files"] > 0


@pytest.mark.parametrize(
    "conf",
    [
        {"start": "2026-11-18T00:00:00"},
        {"start": END, "end": START},
        {"symbols": ["NOSUCHUSDT"], "more_symbols": ""},
        {"datasets": ["candles"]},
    ],
    ids=["naive", "reversed", "unknown", "dataset"],
)
def test_backfill_fails_at_once_on_a_wrong_form(store_path: Path, conf: dict[str, Any]) -> None:
    done = run(make_backfill_dag("backfill_wrong"), conf={**FORM, **conf})
    assert done.state == "failed"
    assert [ti.try_number for ti in done.get_task_instances() if ti.task_id == "plan_chunks"] == [1]
    assert not store_path.exists()
