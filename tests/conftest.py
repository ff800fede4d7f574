"""What every test shares: an environment of its own, the real recordings, and the rule that CI skips nothing it has.

The environment is set while this file is imported, so before anything imports Airflow (which reads it then).
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from airflow_provider_binance.rest import budget_stores

REPO = Path(__file__).resolve().parents[1]
_SESSION = Path(tempfile.mkdtemp(prefix="binance-tests-"))
atexit.register(shutil.rmtree, _SESSION, ignore_errors=True)

# What a developer's own shell sets must not reach a test; a proxy would carry requests off this machine.
_FOREIGN = re.compile(r"BINANCE_(?!REALDATA$)|AIRFLOW_|(https?|all)_proxy$", re.IGNORECASE)


def _clean_environment() -> None:
    for name in [name for name in os.environ if _FOREIGN.match(name)]:
        del os.environ[name]
    os.environ.update(
        TZ="Asia/Kolkata",  # half an hour off the grid: a local time that slips in shows at once
        AIRFLOW_HOME=str(_SESSION / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        XDG_CACHE_HOME=str(_SESSION / "cache"),
        XDG_STATE_HOME=str(_SESSION / "state"),
        MPLBACKEND="Agg",
        MPLCONFIGDIR=str(_SESSION / "matplotlib"),
    )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # imports of the many child processes are 2-3 times faster
    time.tzset()


_clean_environment()

# A shell that starts us in the background has SIGINT ignored, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not os.environ.get("CI"):  # where Hypothesis does so by itself
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

_PLUGINS = ("tests.fix_postgres", "tests.fix_simulator", "tests.fix_browser", "tests.fix_valkey")
pytest_plugins = [name for name in _PLUGINS if (REPO / f"{name.replace('.', '/')}.py").exists()]

_test_number = itertools.count()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No BINANCE_* setting from outside, and caches and weight budget of this test alone."""
    for name in [name for name in os.environ if re.match(r"BINANCE_(?!REALDATA$)", name)]:
        monkeypatch.delenv(name)
    own = _SESSION / "tests" / str(next(_test_number))  # made by whoever writes to it
    monkeypatch.setenv("XDG_CACHE_HOME", str(own / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(own / "state"))
    # A simulator may get the port of an earlier one, which had banned this address.
    monkeypatch.setattr(budget_stores, "_process_store", budget_stores.MemoryBudgetStore())


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of one request follow each other at once. The clients took `time.sleep` when they were defined."""
    from airflow_provider_binance.archive.http import ArchiveHttp
    from airflow_provider_binance.rest.client import BinanceRest

    for client in (ArchiveHttp, BinanceRest):
        monkeypatch.setitem(client.__init__.__kwdefaults__, "sleep", lambda seconds: time.sleep(min(seconds, 0.01)))


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real recordings: BINANCE_REALDATA, else `../shared/realdata` beside the repository."""
    folder = Path(os.environ.get("BINANCE_REALDATA") or REPO.parent / "shared" / "realdata")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set BINANCE_REALDATA to the folder of recordings")
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run the tests (`make test`), a file stays in one; and so do all that share an Airflow."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "tests/airflow" if path.startswith("tests/airflow/") else path

    return ByFile(config, log)


# --- In CI a test of real data, PostgreSQL or a browser that skips has failed -------------------------------------

_NEVER_SKIPPED = re.compile(r"real ?data|postgres|no browser", re.IGNORECASE)


def _skip_reason(report: Any) -> str:
    longrepr = report.longrepr
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


def _fail_forbidden_skip(report: Any, markers: set[str]) -> None:
    """Turn a skip that CI must not have into a failure; others stay what they are."""
    if os.environ.get("CI", "").lower() in ("", "0", "false") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _skip_reason(report)
    if markers & {"realdata", "postgres", "browser"} or _NEVER_SKIPPED.search(reason):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, which CI does not accept: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_forbidden_skip(report, {marker.name for marker in item.iter_markers()})
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_forbidden_skip(report, set())
    return report
