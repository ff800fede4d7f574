"""Binance's error answers: HTTP status, code and text."""

from __future__ import annotations


class ApiError(Exception):
    """A request that Binance refuses; becomes the answer ``{"code": …, "msg": …}``."""

    def __init__(self, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def illegal_characters(name: str, legal: str) -> ApiError:
    """A value outside the parameter's pattern."""
    return ApiError(400, -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def duplicate_values(name: str) -> ApiError:
    """A parameter sent twice."""
    return ApiError(400, -1101, f"Duplicate values for parameter '{name}' detected.")


def duplicate_symbols() -> ApiError:
    """A symbol that is twice in ``symbols``."""
    return ApiError(400, -1151, "Symbol is present multiple times in the list.")


def mandatory_missing(name: str) -> ApiError:
    """A parameter that must be sent was not."""
    return ApiError(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def unread_parameters(read: int, sent: int) -> ApiError:
    """Spot refuses parameters that the endpoint does not know."""
    message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
    return ApiError(400, -1104, message)


def empty_parameter(name: str) -> ApiError:
    """A parameter without a value."""
    return ApiError(400, -1105, f"Parameter '{name}' was empty.")


def start_after_end() -> ApiError:
    """Futures refuse a reversed range."""
    return ApiError(400, -1023, "Start time is greater than end time.")


def invalid_interval() -> ApiError:
    """No kline interval of this market."""
    return ApiError(400, -1120, "Invalid interval.")


def invalid_symbol() -> ApiError:
    """A symbol that this host has never heard of."""
    return ApiError(400, -1121, "Invalid symbol.")


def invalid_symbol_status(message: str = "Invalid symbol status.") -> ApiError:
    """A futures symbol that exists but does not trade now, or a bad ``symbolStatus`` on spot."""
    return ApiError(400, -1122, message)


def other_symbol_status() -> ApiError:
    """A spot symbol that does not have the status asked for."""
    return ApiError(400, -1220, "The symbol's status does not match the requested symbolStatus.")


def window_too_big() -> ApiError:
    """More time between start and end than the endpoint looks up."""
    return ApiError(400, -1127, "Lookup interval is too big.")


def more_hours_than(hours: int) -> ApiError:
    """More hours between start and end than aggTrades takes."""
    return ApiError(400, -1127, f"More than {hours} hours between startTime and endTime.")


def outside_search_window(days: int) -> ApiError:
    """Ticks of futures that are older than REST goes back."""
    return ApiError(400, -4166, f"Search window is restricted to recent {days} days only.")


def invalid_depth_limit(limit: int) -> ApiError:
    """Futures depth has a few sizes only."""
    return ApiError(400, -4021, f"{limit} is not valid depth limit")


def backend_timeout() -> ApiError:
    """The matching engine did not answer in time."""
    message = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
    return ApiError(408, -1007, message)


def invalid_combination(message: str) -> ApiError:
    """Optional parameters that exclude each other."""
    return ApiError(400, -1128, message)


def invalid_data(name: str) -> ApiError:
    """A value that is well formed but not allowed."""
    return ApiError(400, -1130, f"Data sent for parameter '{name}' is not valid.")


def invalid_time_unit() -> ApiError:
    """A time unit other than milli- or microseconds."""
    message = "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
    return ApiError(400, -1194, message)


def outside_recv_window() -> ApiError:
    """A signed request that is too old."""
    return ApiError(400, -1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> ApiError:
    """A signed request from the future."""
    return ApiError(400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def invalid_signature() -> ApiError:
    """A signature that does not fit payload and key."""
    return ApiError(400, -1022, "Signature for this request is not valid.")


def bad_key_format() -> ApiError:
    """Something that cannot be an API key."""
    return ApiError(401, -2014, "API-key format invalid.")


def unknown_key() -> ApiError:
    """A well-formed API key that nobody owns."""
    return ApiError(401, -2015, "Invalid API-key, IP, or permissions for action.")


def not_found(path: str, method: str) -> ApiError:
    """A path that leads nowhere."""
    return ApiError(404, -5000, f"Path {path}, Method {method} is invalid")


def internal_error(status: int) -> ApiError:
    """Something went wrong behind the door."""
    return ApiError(status, -1001, "Internal error; unable to process your request. Please try again.")


def overloaded() -> ApiError:
    """The venue throttles itself; such a request does not count."""
    message = "Server is currently overloaded with other requests. Please try again in a few minutes."
    return ApiError(503, -1008, message)


def restricted_location() -> ApiError:
    """The answer to addresses in countries that Binance does not serve."""
    message = "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of use."
    return ApiError(451, 0, message)
