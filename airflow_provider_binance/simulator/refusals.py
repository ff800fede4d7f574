"""Answers that come before any service is asked: the firewall's, and those of faults that let nobody through."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from airflow_provider_binance.simulator.errors import (
    ApiError,
    backend_timeout,
    internal_error,
    not_found,
    overloaded,
    restricted_location,
)
from airflow_provider_binance.simulator.faults import Faults
from airflow_provider_binance.simulator.wire import Answer, Request, error_answer

JSON = "application/json"
HTML = {"Content-Type": "text/html"}
FIREWALL_PAGE = (
    b"<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center></body></html>"
)
NOT_FOUND_PAGE = (
    b"<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>"
)
MAINTENANCE_PAGE = b"<!DOCTYPE html><html><body>Binance is under maintenance.</body></html>"

_SQL = re.compile(r"\b(?:select|insert|update|delete|drop|alter|union|truncate)\b", re.IGNORECASE)


def refused_by_firewall(request: Request) -> Answer | None:
    """The firewall takes words of SQL in a query for an attack."""
    return Answer(403, FIREWALL_PAGE, dict(HTML)) if _SQL.search(unquote_plus(request.query)) else None


def refused_by_fault(faults: Faults, request: Request) -> Answer | None:
    """The answer of a fault that lets nobody through."""
    if faults.take("451", request):
        return error_answer(restricted_location(), JSON)
    if faults.take("403", request):
        return Answer(403, FIREWALL_PAGE, dict(HTML))
    if faults.take("nonjson", request):
        return Answer(200, MAINTENANCE_PAGE, dict(HTML))
    if faults.take("overloaded", request):
        return error_answer(overloaded(), JSON)
    status = faults.number("http", request)
    return None if status is None else error_answer(_error_of(int(status), request), JSON)


def no_such_path(request: Request, content_type: str) -> Answer:
    """A path that leads nowhere; a page only for who asks for one."""
    if "text/html" in (request.header("Accept") or ""):
        return Answer(404, NOT_FOUND_PAGE, dict(HTML))
    return error_answer(not_found(request.path, request.method), content_type)


def _error_of(status: int, request: Request) -> ApiError:
    if status == 404:
        return not_found(request.path, request.method)
    return backend_timeout() if status == 408 else internal_error(status)
