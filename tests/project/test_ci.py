"""`.ci/run` and the Makefile: steps in order, a browser where there was none, the failing step named, pytest's summary
last."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

#: All that `.ci/run` calls besides what is faked here; a browser of this machine is not among it.
TOOLS = ["bash", "chmod", "dirname", "env", "find", "grep", "id", "mkdir", "mktemp", "rm", "sed", "tail", "tee"]

FAKE_MAKE = """#!/usr/bin/env bash
echo "make $* CI=$CI OFFLINE=${BINANCE_OFFLINE:-}" >> "$CALLS"
if [ "$1" = test ]; then echo "====== 123 passed, 2 skipped in 45.67s ======"; fi
if [ "$1" = demo ]; then echo "3 passed by in 1.0s, says the demo"; fi
if [ "$1" = "${FAILING:-}" ]; then exit 2; fi
"""

FAKE_APT = """#!/usr/bin/env bash
echo "apt-get $*" >> "$CALLS"
case "$*" in *install*) printf '#!/bin/sh\\n' > "${0%/*}/chromium"; chmod 755 "${0%/*}/chromium" ;; esac
"""


def ci(folder: Path, **environ: str) -> tuple[int, list[str], list[str]]:
    """`.ci/run` with a `make` that only notes its calls: exit status, calls, what was printed."""
    (folder / ".ci").mkdir()
    shutil.copy(REPO / ".ci" / "run", folder / ".ci")
    programs = folder / "bin"
    programs.mkdir()
    fakes = {"make": environ.pop("FAKE", FAKE_MAKE), "chromium": "#!/bin/sh\n", "apt-get": FAKE_APT}
    if environ.pop("BROWSER", "") == "absent":
        del fakes["chromium"]
    for name, text in fakes.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    calls = folder / "calls"
    done = subprocess.run(
        [str(programs / "bash"), ".ci/run"],
        cwd=folder,
        env={"PATH": str(programs), "CALLS": str(calls), "VENV": ".venv", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, calls.read_text().splitlines(), done.stdout.splitlines()


def test_every_check_runs_and_the_summary_comes_last(tmp_path: Path) -> None:
    status, calls, printed = ci(tmp_path)
    assert status == 0
    assert [call.split()[1] for call in calls] == ["setup", "lint", "imports", "types", "test", "demo"]
    assert all("CI=true" in call for call in calls)
    assert calls[-1].endswith("OFFLINE=1")
    assert printed[-1] == "123 passed, 2 skipped in 45.67s"


@pytest.mark.parametrize("step", ["lint", "test", "demo"])
def test_first_failure_ends_the_run_and_is_named(tmp_path: Path, step: str) -> None:
    status, calls, printed = ci(tmp_path, FAILING=step)
    assert status == 1
    assert calls[-1].split()[1] == step
    assert printed[-1].endswith("run_tests" if step == "test" else f"make {step}")
    assert "CI FAILED in step" in printed[-1]


def test_missing_browser_is_installed_by_root_and_asked_for_otherwise(tmp_path: Path) -> None:
    status, calls, printed = ci(tmp_path, BROWSER="absent")
    if os.geteuid() == 0:
        assert status == 0
        installing = "apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core"
        assert [call for call in calls if call.startswith("apt-get")] == ["apt-get -qq update", installing]
    else:
        assert status == 1
        assert any("No browser found" in line for line in printed)
        assert "make test" not in " ".join(calls)


def test_run_without_a_passed_test_fails(tmp_path: Path) -> None:
    status, _, printed = ci(tmp_path, FAKE='#!/usr/bin/env bash\necho "$1" >> "$CALLS"\n')
    assert status == 1
    assert printed[-1].startswith("CI FAILED")


@pytest.mark.parametrize(
    "target", ["demo", "test", "lint", "types", "imports", "matrix", "bench", "soak", "clean", "help"]
)
def test_make_knows_the_target(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target], cwd=REPO, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_make_soak_finds_tests() -> None:
    """Without any, pytest ends with status 5, and the target fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "soak", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/kill"],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/kill/test_soak.py::" in done.stdout
