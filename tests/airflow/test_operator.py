from __future__ import annotations

import base64
import json
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pytest_mock import MockerFixture

from airflow_provider_binance import errors
from airflow_provider_binance.market import Market, to_us
from airflow_provider_binance.operators.binance import (
    BINANCE_RETRY_POLICY,
    BinanceLoadOperator,
    summarize,
)
from airflow_provider_binance.records import Series, State, WriteResult
from airflow_provider_binance.reports import LoadReport, RangeReport, SeriesLoad
from airflow_provider_binance.rest.failures import failure
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.task_arguments import find_window, run_ref
from tests.airflow.conftest import END, START, extras, opens_of, rows_of

DAY = datetime(2026, 11, 18, tzinfo=UTC)
INTERVAL = {"data_interval_start": DAY, "data_interval_end": DAY + timedelta(days=1)}


def operator(**arguments: Any) -> BinanceLoadOperator:
    given = {"market": "spot", "symbols": ["BTCUSDT"], "intervals": ["1h"], **arguments}
    return BinanceLoadOperator(task_id="load", **given)


# --- What reaches the core ----------------------------------------------------------------------------------------


@pytest.fixture
def loaded(mocker: MockerFixture, set_connection: Callable[..., None], store_path: Path) -> Any:
    """The arguments of `ingest.load`, which is not called."""
    set_connection("binance_default", conn_type="binance")
    set_connection("ingest_default", conn_type="sqlite", host=str(store_path))
    return mocker.patch("airflow_provider_binance.ingest.load", return_value=LoadReport())


def test_every_template_field_is_an_attribute_and_an_argument() -> None:
    op = operator()
    for name in op.template_fields:
        assert hasattr(op, name)
    rendered = operator(symbols="{{ params.s }}", start="{{ params.none }}", jobs="{{ params.j }}")
    rendered.render_template_fields({"params": {"s": "A,B", "none": None, "j": 3}})  # type: ignore[arg-type]
    assert (rendered.symbols, rendered.start, rendered.jobs) == ("A,B", "None", "3")


def test_rendered_texts_become_values(loaded: Any) -> None:
    op = operator(
        symbols="['BTCUSDT', 'ETHUSDT']",
        intervals="1m, 1h",
        start="2024-01",
        end="None",
        reload="True",
        confirm="0",
        jobs="5",
        connections="3",
    )
    op.execute({})  # type: ignore[typeddict-item]
    given = loaded.call_args.kwargs
    assert given["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert given["intervals"] == ["1m", "1h"]
    assert (given["start"], given["end"]) == ("2024-01", None)
    assert (given["reload"], given["confirm"], given["jobs"], given["connections"]) == (True, False, 5, 3)
    assert given["priority"] == "backfill"


@pytest.mark.parametrize(
    ("arguments", "context", "window"),
    [
        ({"start": "2024-01"}, INTERVAL, ("2024-01", None)),
        ({"end": "2024-01"}, {}, (None, "2024-01")),
        ({}, {"params": {"start": "2024-02", "end": None}, **INTERVAL}, ("2024-02", None)),
        ({}, {"partition_date": DAY}, (DAY, DAY + timedelta(days=1))),
        ({}, INTERVAL, (DAY, DAY + timedelta(days=1))),
    ],
)
def test_first_window_that_is_given_counts(loaded: Any, arguments: Any, context: Any, window: Any) -> None:
    operator(**arguments).execute(context)
    assert (loaded.call_args.kwargs["start"], loaded.call_args.kwargs["end"]) == window


@pytest.mark.parametrize("context", [{}, {"data_interval_start": DAY, "data_interval_end": DAY}])
def test_no_window_or_an_empty_one_is_a_clear_failure(loaded: Any, context: Any) -> None:
    assert find_window(context) is None
    with pytest.raises(AirflowFailException, match="CronDataIntervalTimetable"):
        operator().execute(context)
    assert not loaded.called


@pytest.mark.parametrize(
    "arguments", [{"on_gap": "ignore"}, {"reload": "perhaps"}, {"jobs": "many"}, {"symbols": "[BTCUSDT"}]
)
def test_malformed_arguments_fail_at_once(loaded: Any, arguments: Any) -> None:
    with pytest.raises(AirflowFailException, match="InputError"):
        operator(start="2024", **arguments).execute({})
    assert not loaded.called


def test_run_ref_names_the_task_and_its_map_index() -> None:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=2)
    assert run_ref({"ti": ti}) == "d/r/t[2]"
    ti.map_index = -1
    assert run_ref({"ti": ti}) == "d/r/t"
    assert run_ref({}) == ""


# --- What comes back ----------------------------------------------------------------------------------------------


def report(state: str = State.UNPUBLISHED, gaps: int = 1, series: int = 1) -> LoadReport:
    stretches = tuple(RangeReport(to_us(DAY) + n, to_us(DAY) + n + 1, state) for n in range(gaps))
    loads = tuple(
        SeriesLoad(
            Series("spot", "klines", f"S{n}", "1m"),
            to_us(DAY),
            to_us(DAY) + 10,
            WriteResult(3, 2, 0, 1),
            gaps=stretches,
        )
        for n in range(series)
    )
    return LoadReport(loads)


def test_summary_stays_small_and_counts_all() -> None:
    summary = summarize(report(gaps=500, series=1000))
    assert len(json.dumps(summary)) < 200_000
    assert (summary["series"], summary["rows_inserted"], summary["unexplained_gaps"]) == (1000, 2000, 500_000)
    assert summary["loads"][0]["gap_count"] == 500


def test_on_gap_fail_raises_what_airflow_retries(loaded: Any) -> None:
    loaded.return_value = report()
    assert operator(start="2024").execute({})["unexplained_gaps"] == 1  # type: ignore[typeddict-item]
    with pytest.raises(errors.UnexplainedGapError):
        operator(start="2024", on_gap="fail").execute({})  # type: ignore[typeddict-item]
    loaded.return_value = report(State.EXCHANGE_GAP)
    operator(start="2024", on_gap="fail").execute({})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (errors.UnknownSymbolError("no"), AirflowFailException),
        (errors.AuthenticationError("no"), AirflowFailException),
        (errors.EnvironmentMismatchError("no"), AirflowFailException),
        (errors.UnreachableError("later"), errors.UnreachableError),
        (errors.StoreUnavailableError("later"), errors.StoreUnavailableError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_errors_by_what_a_retry_can_do(loaded: Any, error: Exception, raised: type[Exception]) -> None:
    loaded.side_effect = error
    with pytest.raises(raised):
        operator(start="2024").execute({})  # type: ignore[typeddict-item]


def test_on_kill_unwinds_a_running_load_only(loaded: Any) -> None:
    op = operator(start="2024")
    op.on_kill()
    loaded.side_effect = lambda **_: op.on_kill()
    with pytest.raises(AirflowException, match="the next try, or the task once it is cleared, goes on from there"):
        op.execute({})  # type: ignore[typeddict-item]
    op.on_kill()


def answered(status: int, retry_after: str = "", body: bytes = b"") -> errors.BinanceError:
    """The error that the REST client makes of an answer."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    error = failure(status, headers, body, market=Market.SPOT, path="/api/v3/klines", now_ms=0)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("error", "action", "seconds"),
    [
        (answered(418, "120"), RetryAction.RETRY, 121),
        (answered(429, "7"), RetryAction.RETRY, 8),
        (answered(403, body=b"<html>blocked</html>"), RetryAction.RETRY, 600),
        (answered(502), RetryAction.DEFAULT, None),
        (answered(451), RetryAction.FAIL, None),
        (answered(401, body=b'{"code": -2015, "msg": "Invalid API-key"}'), RetryAction.FAIL, None),
        (answered(400, body=b'{"code": -1100, "msg": "Illegal characters"}'), RetryAction.FAIL, None),
        (errors.UnexplainedGapError("g"), RetryAction.RETRY, 1800),
        (errors.UnknownSymbolError("u"), RetryAction.FAIL, None),
        (errors.StoreRightsError("s"), RetryAction.FAIL, None),
        (OSError(), RetryAction.DEFAULT, None),
    ],
)
def test_retry_policy_by_error_class(error: Exception, action: RetryAction, seconds: float | None) -> None:
    decision = BINANCE_RETRY_POLICY.evaluate(pickle.loads(pickle.dumps(error)), 1, 3)
    delay = decision.retry_delay.total_seconds() if decision.retry_delay else None
    assert (decision.action, delay) == (action, seconds)


# --- For real: the simulator and a SQLite file --------------------------------------------------------------------


@pytest.mark.usefixtures("connections")
def test_loads_once_and_then_has_nothing_to_do(simulator: Simulator, store_path: Path) -> None:
    first = operator(symbols=["BTCUSDT", "ETHUSDT"], start=START, end=END).execute({})  # type: ignore[typeddict-item]
    assert (first["series"], first["rows_inserted"], first["unexplained_gaps"]) == (2, 48, 0)
    truth = simulator.truth("spot", "BTCUSDT", "1h", START, END)
    assert opens_of(store_path, "BTCUSDT", "1h") == [row[0] * 1000 for row in truth]
    before = rows_of(store_path)
    simulator.clear_requests()
    again = operator(symbols=["BTCUSDT", "ETHUSDT"], start=START, end=END).execute({})  # type: ignore[typeddict-item]
    assert again["rows_inserted"] == again["rows_updated"] == 0
    assert rows_of(store_path) == before
    with pytest.raises(AirflowSkipException):
        operator(start=START, end=END, skip_on_no_change=True).execute({})  # type: ignore[typeddict-item]
    assert simulator.requests == []


def test_a_lost_database_is_told_without_its_password(
    simulator: Simulator, set_connection: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens at the store: Airflow retries, and neither error, cause nor log has the password."""
    password = "cAnArY@/pass:word"
    fields = {"host": "127.0.0.1", "port": 9, "schema": "ingest", "login": "me", "password": password}
    set_connection("binance_default", conn_type="binance", extra=extras(simulator))
    set_connection("ingest_default", conn_type="postgres", **fields)
    caplog.set_level("DEBUG")
    with pytest.raises(errors.StoreUnavailableError) as caught:
        operator(start=START, end=END).execute({})  # type: ignore[typeddict-item]
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value.facts)
    for spelling in (password, quote(password, safe=""), base64.b64encode(password.encode()).decode()):
        assert spelling not in told


@pytest.mark.usefixtures("connections")
def test_unknown_symbol_fails_at_once_with_near_matches(store_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="BTCUSDT"):
        operator(symbols=["BTCUSDTT"], start=START, end=END).execute({})  # type: ignore[typeddict-item]
    assert not store_path.exists()


def test_a_ban_ends_all_tasks_in_a_state_that_is_retried_after_it(
    set_connection: Callable[..., None], store_path: Path
) -> None:
    """The one that meets it, and the next one, which asks nobody."""
    set_connection("ingest_default", conn_type="sqlite", host=str(store_path))
    with Simulator(symbols=["BTCUSDT", "ETHUSDT"], faults=["418=600:1@/klines"]) as simulator:  # its clock is true
        set_connection("binance_default", conn_type="binance", extra=extras(simulator))
        for symbol in ("BTCUSDT", "ETHUSDT"):
            with pytest.raises(errors.BannedError) as caught:
                operator(symbols=[symbol], start="10d", end="9d", source="rest").execute({})  # type: ignore[typeddict-item]
            decision = BINANCE_RETRY_POLICY.evaluate(pickle.loads(pickle.dumps(caught.value)), 1, 3)
            assert decision.action is RetryAction.RETRY
            assert decision.retry_delay is not None
            assert 500 < decision.retry_delay.total_seconds() <= 602
            assert [record.status for record in simulator.requests].count(418) == 1
            assert simulator.requests[-1].status == 418, "nothing was sent after it"
