"""Where the command line's words go: results to stdout, everything else to stderr, no secret to either."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import unquote

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import IngestError
from airflow_provider_binance.masking import mask_url, mask_values
from airflow_provider_binance.reports import SCHEMA

PROGRAM = "binance-ingest"

#: Texts that a secret cannot be in; a password `klines` must not black them out.
_OURS = frozenset({"market", "dataset", "symbol", "interval", "start", "end", "state", "source", "dag", "summary"})


class Output:
    """The two streams, in `--json` or in human shape, with the secrets it must not show."""

    def __init__(self, *, as_json: bool, verbosity: int = 0) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self._partial: dict[str, Any] = {}
        self._secrets: set[str] = {
            value
            for name, field in BinanceConfig.model_fields.items()
            if "Secret" in str(field.annotation) and (value := os.environ.get(f"BINANCE_{name.upper()}", "").strip())
            if not (name == "private_key" and value.startswith(("/", "~")))  # a path, which may be told
        }

    def keep_secret(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, also as they are without the escapes of a URL."""
        for secret in secrets:
            self._secrets.update((secret, unquote(secret)))

    def mask(self, text: str) -> str:
        """`text` without any secret."""
        return mask_values(text, sorted(self._secrets, key=_shortness))

    def result(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print a command's result: the document with `--json`, else the lines."""
        if self.as_json:
            _write(sys.stdout, json.dumps(self._masked(document), ensure_ascii=False))
        else:
            _write(sys.stdout, "\n".join(self.mask(line) for line in lines))

    def partial(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print what was done before the error that comes next; with `--json` it is part of the error's document."""
        if self.as_json:
            self._partial = self._masked(document)
        else:
            self.result(document, lines)

    def text(self, document: Mapping[str, Any], text: str) -> None:
        """Print a text of ours as it is, unmasked, or the document with `--json`."""
        _write(sys.stdout, json.dumps(dict(document), ensure_ascii=False) if self.as_json else text)

    def note(self, text: str) -> None:
        """Tell the person something on stderr."""
        _write(sys.stderr, f"{PROGRAM}: {self.mask(text)}")

    def error(self, error: BaseException) -> None:
        """One line on stderr and, with `--json`, the error document on stdout."""
        known = isinstance(error, IngestError)
        message = self.mask(" ".join(str(error).split())) or type(error).__name__
        if not known:
            message = f"unexpected {type(error).__name__}: {message}"
        if self.verbosity and not known:
            _write(sys.stderr, self.mask("".join(traceback.format_exception(error)).rstrip()))
        hint = "" if known or self.verbosity else "; this is a fault of ours: please report it with the output of -v"
        _write(sys.stderr, f"{PROGRAM}: error: {message}{hint}")
        facts = (bool(getattr(error, "retryable", False)), getattr(error, "retry_after", None))
        self._error_document(type(error).__name__, message, *facts)

    def stopped(self, how: str, then: str) -> None:
        """Say that a signal ended the command, and how to go on."""
        _write(sys.stderr, f"\n{PROGRAM}: {how}: {then}")
        self._error_document("Interrupted", f"{how}: {then}", True, None)

    def _error_document(self, kind: str, message: str, retryable: bool, retry_after: float | None) -> None:
        if self.as_json:
            facts = {"type": kind, "message": message, "retryable": retryable, "retry_after": retry_after}
            _write(sys.stdout, json.dumps({"schema": SCHEMA, **self._partial, "error": facts}, ensure_ascii=False))

    def _masked(self, value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return mask_url(value) if name in _OURS else self.mask(value)
        if isinstance(value, Mapping):
            return {key: self._masked(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(inner, name) for inner in value]
        return value


def _shortness(secret: str | None) -> int:
    return -len(secret or "")  # a secret inside another must not leave the other's ends behind


def _write(stream: TextIO, text: str) -> None:
    """Print, and carry on without a reader: a closed pipe (`| head`) is no failure of the command."""
    if not text:
        return
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # Later writes and the flush at exit go nowhere, as https://docs.python.org/3/library/signal.html advises.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
