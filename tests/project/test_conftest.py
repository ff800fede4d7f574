"""The rules of the test suite itself, each shown on a small suite of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

def test_passes():
    pass

def test_real(realdata):
    pass

@pytest.mark.postgres
def test_postgres():
    pytest.skip("no server")

@pytest.mark.browser
def test_clicks():
    pytest.skip("no browser found")

def test_other():
    pytest.skip("not on this platform")
"""


def run_suite(folder: Path, text: str, **environ: str) -> str:
    """The output of a suite that has our conftest.py, run by itself."""
    (folder / "tests").mkdir()
    shutil.copy(REPO / "tests" / "conftest.py", folder / "tests")
    (folder / "tests" / "test_suite.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n    postgres\n    realdata\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if name != "CI"}, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_skips_are_skips_on_a_developers_machine(tmp_path: Path) -> None:
    output = run_suite(tmp_path, SUITE, BINANCE_REALDATA=str(tmp_path / "absent"))
    assert "1 passed, 4 skipped" in output


def test_skipped_real_data_postgres_and_browser_fail_in_ci(tmp_path: Path) -> None:
    output = run_suite(tmp_path, SUITE, CI="true", BINANCE_REALDATA=str(tmp_path / "absent"))
    assert "2 failed, 1 passed, 1 skipped, 1 error" in output
    assert "skipped, which CI does not accept: Skipped: no real data at" in output
    assert "skipped, which CI does not accept: Skipped: no server" in output
    assert "skipped, which CI does not accept: Skipped: no browser found" in output


def test_module_that_skips_itself_for_want_of_postgres_fails_in_ci(tmp_path: Path) -> None:
    text = 'import pytest\npytest.skip("PostgreSQL is not there", allow_module_level=True)\n'
    assert "1 error" in run_suite(tmp_path, text, CI="true")


def test_environment_is_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name in os.environ if name.startswith("BINANCE_") and name != "BINANCE_REALDATA"] == []
    assert time.tzname[0] == "IST"
    assert not Path(os.environ["XDG_CACHE_HOME"]).exists()
    assert Path(os.environ["AIRFLOW_HOME"]).parent.name.startswith("binance-tests-")


def test_settings_of_the_shell_do_not_reach_a_test(tmp_path: Path) -> None:
    text = """
import os

def test_clean():
    assert "BINANCE_API_KEY" not in os.environ
    assert "AIRFLOW_CONN_BINANCE_DEFAULT" not in os.environ
    assert "https_proxy" not in os.environ
"""
    output = run_suite(
        tmp_path, text, BINANCE_API_KEY="k", AIRFLOW_CONN_BINANCE_DEFAULT="{}", https_proxy="http://192.0.2.1:1"
    )
    assert "1 passed" in output
