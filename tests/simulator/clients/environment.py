"""The environment that the foreign clients live in: made once per set of requirements, below ``build/``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
BUILD = HERE.parents[2] / "build" / "clients"


def client_python() -> Path:
    """The Python of that environment; skips the test where no registry can be reached, but never in CI."""
    wanted = f"{sys.version_info}{sys.prefix}".encode() + REQUIREMENTS.read_bytes()
    folder = BUILD / hashlib.sha256(wanted).hexdigest()[:12]
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            failure = _make(folder)
            if failure and os.environ.get("CI"):
                pytest.fail(f"the environment of the clients cannot be made:\n{failure}")
            if failure:
                pytest.skip(f"no package registry can be reached: {failure.strip()[-300:]}")
            (folder / "ready").touch()
    return folder / "bin" / "python"


def _make(folder: Path) -> str:
    """What went wrong, empty if nothing did."""
    python = str(folder / "bin" / "python")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, "-r", str(REQUIREMENTS)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [python, "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)],
        ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=800)
        if done.returncode:
            return done.stderr or f"{command} failed"
    return ""
