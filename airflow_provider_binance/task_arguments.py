"""What the templated arguments of a task and the context of its run mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.texts import listed

if TYPE_CHECKING:
    from airflow.sdk import Context

When = datetime | str | None


def window_of(context: Context | Mapping[str, Any], start: When, end: When, *, task_id: str = "") -> tuple[When, When]:
    """The task's own window, else the one that its run names; raises InputError if neither names one."""
    start, end = given(start), given(end)
    if start is not None or end is not None:
        return start, end
    if (window := find_window(context)) is None:
        raise InputError(
            f"task {task_id} has no window: the run has neither params start/end, nor a partition date, nor a "
            "data interval that is not empty. Give the operator start and end; or trigger the run with a logical "
            "date; or schedule the DAG with CronDataIntervalTimetable (a plain cron text has empty data intervals)"
        )
    return window


def find_window(context: Context | Mapping[str, Any]) -> tuple[When, When] | None:
    """The window that the run itself names, or None if it names none.

    Params `start`/`end`, else the day of its partition, else its data interval unless that is empty.
    """
    params = context.get("params") or {}
    start, end = given(params.get("start")), given(params.get("end"))
    if start is not None or end is not None:
        return start, end
    if (day := context.get("partition_date")) is not None:
        return day, day + timedelta(days=1)
    first, last = context.get("data_interval_start"), context.get("data_interval_end")
    return (first, last) if first is not None and last is not None and first < last else None


def run_ref(context: Context | Mapping[str, Any]) -> str:
    """What the ledger calls this task: DAG, run, task and map index."""
    ti = context.get("ti") or context.get("task_instance")
    if ti is None:
        return ""
    mapped = f"[{ti.map_index}]" if getattr(ti, "map_index", -1) not in (None, -1) else ""
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}{mapped}"


def given(value: Any) -> Any:
    """`value`, or None for what a template makes of None."""
    return None if value is None or (isinstance(value, str) and value.strip() in ("", "None")) else value


def texts(name: str, value: Any) -> list[str] | None:
    """A templated list, None if it is not given; raises InputError naming the argument for what lists nothing."""
    value = given(value)
    try:
        return None if value is None else listed(value)
    except ValueError as error:
        raise InputError(f"{name}={value!r} {error}") from None


def truth(name: str, value: Any) -> bool:
    """A templated switch; raises InputError for what is neither true nor false."""
    if isinstance(value, bool):
        return value
    text = str(given(value) or "false").strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise InputError(f"{name}={value!r} is neither true nor false")
    return text in ("true", "1")


def whole(name: str, value: Any) -> int:
    """A templated whole number; raises InputError for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} is no whole number") from None


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> str:
    """`value` if it is accepted; raises InputError with what is."""
    if value not in accepted:
        raise InputError(f"{name}={value!r} is unknown; accepted: {', '.join(accepted)}")
    return value
