"""The bundled Binance simulator as a process of its own, for the demo and the end-to-end test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class LocalSimulator:
    """A simulator that serves while the `with` lasts; `settings` are its endpoints as BINANCE_<FIELD>."""

    def __init__(self, *arguments: str, log_file: Path) -> None:
        self._command = [sys.executable, "-m", "airflow_provider_binance.simulator", "--port", "0", *arguments]
        self._log_file = log_file
        self._process: subprocess.Popen[str] | None = None
        self.settings: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BINANCE_")}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a Ctrl-C is for whoever holds this object, who then ends the simulator
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
            raise RuntimeError(f"the simulator did not start; see {self._log_file}")
        self.settings = json.loads(line)
        return self

    def __exit__(self, *exception: object) -> None:
        if (process := self._process) is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def connection_extra(self) -> dict[str, Any]:
        """The extras of a `binance` connection to this simulator."""
        return {name.removeprefix("BINANCE_").lower(): value for name, value in self.settings.items()}
