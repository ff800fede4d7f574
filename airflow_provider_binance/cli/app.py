"""`main`: parse, run one command, and turn whatever happens into a line and an exit status."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from airflow_provider_binance.cli.arguments import parser_for
from airflow_provider_binance.cli.commands import COMMANDS
from airflow_provider_binance.cli.output import Output
from airflow_provider_binance.cli.signals import Interrupted, stopping_on_signals
from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.logs import logging_to_stderr

_M_MMAP_THRESHOLD = -3  # of malloc.h
FAULT_STATUS = 70  # EX_SOFTWARE of sysexits.h
_GO_ON = {
    "load": "what was committed stays; run the same command again to go on",
    "repair": "what was committed stays; run the same command again to go on",
    "verify": "what was committed stays; run the same command again",
    "forget": "a series is forgotten whole or not at all; run the same command again to go on",
    "sync": "what was committed stays; run the same command again to go on",
    "migrate": "a migration is in whole or not at all; run the same command again to go on",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `binance-ingest` with `argv` (default: the process's) and return the exit status; never raises."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Told from the raw words, so that errors in the arguments keep to --json too.
    output = Output(as_json="--json" in words, verbosity=_verbosity(words))
    ending = threading.Lock()

    def stopped(status: int) -> None:
        if ending.acquire(blocking=False):
            command = next((word for word in words if word in _GO_ON), "")
            how = "terminated" if status == 128 + signal.SIGTERM else "interrupted"
            output.stopped(how, _GO_ON.get(command, "nothing was changed"))

    def leave(status: int) -> None:
        stopped(status)
        os._exit(status)

    try:
        arguments = parser_for(words).parse_args(words)
        if arguments.command == "simulate":
            from airflow_provider_binance.simulator.command import run

            return run(arguments)
        _give_memory_back()
        as_json = getattr(arguments, "log_format", "text") == "json"
        with logging_to_stderr(output.verbosity, output.mask, as_json=as_json), stopping_on_signals(leave):
            return COMMANDS[arguments.command](arguments, output)
    except SystemExit as ended:  # --help and --version
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt as stop:
        status = stop.status if isinstance(stop, Interrupted) else 128 + signal.SIGINT
        stopped(status)
        if _threads_run():
            os._exit(status)  # Python would wait for their downloads, and every commit is whole by itself
        return status
    except IngestError as error:
        output.error(error)
        return error.exit_status
    except Exception as error:  # noqa: BLE001  # the last resort: a line and a status in place of a traceback
        output.error(error)
        return FAULT_STATUS


def _verbosity(words: Sequence[str]) -> int:
    return sum(
        1 if word == "--verbose" else word.count("v")
        for word in words
        if word == "--verbose" or (word.startswith("-v") and not word.strip("-v"))
    )


def _give_memory_back() -> None:
    """Have glibc return every large buffer when it is freed: a tenth less memory on long loads (measured). By itself it
    learns to keep them, in pieces that later ones do not fit."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def _threads_run() -> bool:
    return any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())
