"""Both DAGs in a real Airflow, all by its REST interface, against the simulator in a process of its own."""

from __future__ import annotations

import pytest

from scripts.local_airflow import AirflowError
from tests.airflow.scene import SYMBOLS, Scene, check_days, stored, truth

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.timeout(600)]

FORM = {"market": "spot", "symbols": ["BTCUSDT"], "more_symbols": "ETHUSDT", "intervals": ["1m", "1h"]}
WINDOW = {"start": "2026-10-30T00:00:00+00:00", "end": "2026-11-03T00:00:00+00:00"}


def test_backfill_by_rest(scene: Scene) -> None:
    first, last = "2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"
    assert scene.airflow.backfill("binance_daily", first, last) == ["success", "success"]
    check_days(scene.store, first, "2026-11-12T00:00:00Z")


def test_form_dag_loads_once(scene: Scene) -> None:
    run_id, state = scene.run("binance_backfill", {**FORM, **WINDOW})
    assert state == "success"
    expected = 2 * 4 * (1440 + 24)
    assert sum(report["rows_inserted"] for report in scene.reports("binance_backfill", run_id)) == expected
    for symbol in SYMBOLS:
        for interval in ("1m", "1h"):
            found = stored(scene.store, symbol, interval, WINDOW["start"], WINDOW["end"])
            assert found == truth(symbol, interval, WINDOW["start"], WINDOW["end"])
    again, state = scene.run("binance_backfill", {**FORM, **WINDOW})
    assert state == "success"
    assert [report["rows_inserted"] for report in scene.reports("binance_backfill", again)] == [0]


def test_api_refuses_what_the_form_does_not_offer(scene: Scene) -> None:
    with pytest.raises(AirflowError, match="HTTP 4"):
        scene.airflow.trigger("binance_backfill", {**FORM, "market": "margin"})


def test_failure_tells_what_is_wrong_at_the_first_try(scene: Scene) -> None:
    run_id, state = scene.run("binance_backfill", {**FORM, **WINDOW, "symbols": ["BTCUSDTT"], "more_symbols": ""})
    assert state == "failed"
    [planning] = [t for t in scene.airflow.task_instances("binance_backfill", run_id) if t["task_id"] == "plan_chunks"]
    assert planning["try_number"] == 1
    assert "BTCUSDTT" in scene.airflow.task_logs()
