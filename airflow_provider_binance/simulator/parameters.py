"""Query parameters, read with Binance's complaints about them."""

from __future__ import annotations

from urllib.parse import parse_qsl

from airflow_provider_binance.simulator.errors import (
    duplicate_values,
    empty_parameter,
    illegal_characters,
    invalid_data,
    mandatory_missing,
    unread_parameters,
)

DIGITS = "^[0-9]{1,20}$"
# Milliseconds of the year 5138: whatever is larger must be microseconds.
FIRST_MICROSECONDS = 10**14


class Parameters:
    """The parameters of one request; remembers which were read, since spot refuses the others.

    Raises:
        ApiError: a parameter comes twice.
    """

    def __init__(self, query: str) -> None:
        self._values: dict[str, str] = {}
        self._read: set[str] = set()
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in self._values:
                raise duplicate_values(name)
            self._values[name] = value

    def optional(self, name: str) -> str | None:
        """The value, None when not sent."""
        self._read.add(name)
        value = self._values.get(name)
        if value == "":
            raise empty_parameter(name)
        return value

    def mandatory(self, name: str) -> str:
        """The value, which must be there."""
        self._read.add(name)
        value = self._values.get(name)
        if not value:
            raise mandatory_missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """A value of digits only."""
        value = self.optional(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 20):
            raise illegal_characters(name, DIGITS)
        return int(value)

    def limit(self, default: int, highest: int, *, capped: bool) -> int:
        """``limit``; one that is too high is the highest where ``capped``, else refused."""
        value = self.integer("limit")
        if value is None:
            return default
        if value == 0 or (value > highest and not capped):
            raise invalid_data("limit")
        return min(value, highest)

    def first_microsecond(self, name: str, *, microseconds: bool) -> int | None:
        """A time as the first microsecond it includes; in milliseconds, or with ``microseconds`` in either unit."""
        value = self.integer(name)
        return value if value is None or _is_fine(value, microseconds) else value * 1000

    def last_microsecond(self, name: str, *, microseconds: bool) -> int | None:
        """A time as the last microsecond that it includes."""
        value = self.integer(name)
        return value if value is None or _is_fine(value, microseconds) else value * 1000 + 999

    def time(self, name: str, *, round_up: bool, microseconds: bool) -> int | None:
        """A time in milliseconds; with ``microseconds`` these are taken too and rounded."""
        value = self.integer(name)
        if value is None or not _is_fine(value, microseconds):
            return value
        return -(-value // 1000) if round_up else value // 1000

    def finish(self, *, strict: bool) -> None:
        """Call after the last read; with ``strict`` parameters that nobody read are refused."""
        if strict and not self._values.keys() <= self._read:
            raise unread_parameters(len(self._values.keys() & self._read), len(self._values))


def _is_fine(value: int, microseconds: bool) -> bool:
    return microseconds and value >= FIRST_MICROSECONDS
