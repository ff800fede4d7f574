"""Logging of the command line: one handler on stderr, UTC times, secrets masked."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PACKAGE = "airflow_provider_binance"


class MaskingFormatter(logging.Formatter):
    """Formats with UTC times and passes the whole text, traceback included, through `mask`."""

    @staticmethod
    def converter(at: float | None) -> time.struct_time:
        """UTC, wherever the machine is."""
        return time.gmtime(at)

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """The line to print."""
        return self._mask(super().format(record))


class JsonFormatter(MaskingFormatter):
    """One JSON object a line: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line to print."""
        told = {"time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z", "level": record.levelname,
                "logger": record.name, "message": self._mask(record.getMessage())}  # fmt: skip
        if record.exc_info:
            told["traceback"] = self._mask(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at the time, above a progress bar if one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        try:
            line = self.format(record)
            if (tqdm := sys.modules.get("tqdm")) is not None:
                tqdm.tqdm.write(line, file=sys.stderr)
            else:
                sys.stderr.write(f"{line}\n")
        except Exception as error:  # noqa: BLE001  # a log line must not end a load; logging's own report shows values
            sys.stderr.write(f"{record.levelname} {record.name}: a log line failed: {type(error).__name__}\n")


@contextmanager
def logging_to_stderr(verbosity: int, mask: Callable[[str], str], *, as_json: bool = False) -> Iterator[None]:
    """Log to stderr inside the block: warnings; with verbosity 1 our INFO, with 2 our DEBUG too.

    Other libraries stay at WARNING whatever the verbosity: some log addresses with their parameters at DEBUG.
    """
    handler = StderrHandler()
    handler.setFormatter((JsonFormatter if as_json else MaskingFormatter)(mask))
    root, package = logging.getLogger(), logging.getLogger(PACKAGE)
    before = package.level
    root.addHandler(handler)
    package.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(before)
