"""The control protocol of one connection, without sockets: a message in, replies out, perhaps the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MOST_STREAMS = 1024
POLICY = 1008
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
COMBINED = "combined"

_TEXT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")


@dataclass(frozen=True)
class Reply:
    """What goes back: a text, None for nothing, and the close code and reason if that was all."""

    text: str | None
    close: tuple[int, str] | None = None


class _RejectedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Session:
    """Which streams one connection has subscribed to, and in which form it wants them.

    An acknowledgement says nothing about a stream: names that the market does not have are taken like others.
    """

    def __init__(self, market: str, *, combined: bool, streams: Iterable[str] = ()) -> None:
        self._market = market
        self.combined = combined
        self.streams: dict[str, None] = dict.fromkeys(streams)

    def refused_at_once(self) -> Reply | None:
        """The end of a connection whose address names too many streams."""
        return self._too_many(None) if len(self.streams) > MOST_STREAMS else None

    def handle(self, text: str) -> Reply:
        """Answer one text message."""
        request_id = None
        try:
            message = _parsed(text)
            request_id = message.get("id")
            _check_id(request_id)
            before = dict(self.streams)
            result = self._perform(message)
        except _RejectedError as error:
            return self._rejection(error, request_id)
        if len(self.streams) > MOST_STREAMS:
            self.streams = before
            return self._too_many(request_id)
        return Reply(_json({"result": result, "id": request_id}))

    def _perform(self, message: dict[str, Any]) -> Any:
        method = message.get("method")
        if method is None:
            raise _RejectedError(2, "Invalid request: missing field `method` at line 1 column 1")
        if method not in METHODS:
            listed = ", ".join(f"`{each}`" for each in METHODS)
            raise _RejectedError(2, f"Invalid request: unknown variant `{method}`, expected one of {listed}")
        params = message.get("params", [])
        if not isinstance(params, list):
            raise _RejectedError(2, "Invalid request: invalid type, expected a sequence")
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not all(isinstance(each, str) for each in params):
                raise _RejectedError(2, "Invalid request: invalid type, expected a string")
            for name in params:
                if method == "SUBSCRIBE":
                    self.streams.setdefault(name)
                else:
                    self.streams.pop(name, None)
            return None
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.streams)
        return self._property(method, params)

    def _property(self, method: str, params: list[Any]) -> Any:
        if len(params) > (2 if method == "SET_PROPERTY" else 1):
            raise _RejectedError(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise _RejectedError(2, "Invalid request: property name must be a string")
        if params[0] != COMBINED:
            raise _RejectedError(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self.combined
        if len(params) != 2 or not isinstance(params[1], bool):
            raise _RejectedError(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return None

    def _rejection(self, error: _RejectedError, request_id: Any) -> Reply:
        body = {"code": error.code, "msg": error.message}
        if self._market == "spot":
            return Reply(_json(body if request_id is None else body | {"id": request_id}))
        # Futures close after a request that they reject.
        return Reply(_json({"error": body, "id": request_id}), (POLICY, "Invalid request"))

    def _too_many(self, request_id: Any) -> Reply:
        body: dict[str, Any] = {"error": {"code": 4, "msg": "Too many subscriptions"}}
        if request_id is not None:
            body["id"] = request_id
        return Reply(_json(body), (POLICY, "Too many subscriptions"))


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise _RejectedError(3, f"Invalid JSON: expected value at line {line} column {column}") from None
    if not isinstance(message, dict):
        raise _RejectedError(2, "Invalid request: invalid type, expected a map")
    return message


def _check_id(request_id: Any) -> None:
    if request_id is None or (isinstance(request_id, str) and _TEXT_ID.fullmatch(request_id)):
        return
    whole = isinstance(request_id, int) and not isinstance(request_id, bool)
    if not whole or not -(2**63) <= request_id < 2**63:
        raise _RejectedError(
            2, "Invalid request: request ID must be an integer, a string of up to 36 letters and digits"
        )


def _json(payload: Any) -> str:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
