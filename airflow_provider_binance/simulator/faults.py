"""Faults that can be switched on, by ``--fault`` or while the simulator runs.

``NAME[=VALUE[:COUNT]][@PATH]``: COUNT says how many times (default: always), PATH is a part of the decoded request path
it is limited to. Names without VALUE take the COUNT directly: ``reset=2@/klines``.

================== ======================== ==========================================================================
name               VALUE                    effect
================== ======================== ==========================================================================
``http``           status                   answer with that status, and do not handle the request
``latency``        milliseconds             answer that much later (real time)
``hang``           seconds                  be silent that long (real time), then close the connection
``reset``                                   reset the connection instead of answering
``truncate``                                close after half of the announced body
``nonjson``                                 HTTP 200 with an HTML page
``429``                                     over the weight limit, whatever was used
``418``            seconds                  ban the address for so long (simulated time); COUNT defaults to 1
``451``                                     restricted location
``403``                                     the firewall's HTML page
``empty-page``                              klines answers ``[]``
``clock-skew``     milliseconds             signed timestamps are judged by a clock so far ahead, which ``time`` hides
``corrupt-zip``                             bytes in the middle of an archive zip are wrong, its checksum is not
``bad-checksum``                            the CHECKSUM file names another hash
``late-day``       YYYY-MM-DD               daily files of that day are not out, and not listed
``missing-rest``   SERIES                   rows are missing from REST
``missing-archive`` SERIES                  rows are missing from daily and monthly files
``missing-monthly`` SERIES                  rows are missing from monthly files
``missing-daily``  SERIES                   rows are missing from daily files
``missing-both``   SERIES                   rows are missing from REST and archive
``halt``           SERIES                   the symbol did not trade: no rows, and longer candles without that part
================== ======================== ==========================================================================

SERIES is ``[MARKET:]SYMBOL:INTERVAL:START..END``, half-open, ISO times in UTC; MARKET defaults to spot, INTERVAL ``*``
means all. These and ``late-day`` take no COUNT; PATH is of no use to SERIES. A ``halt`` is one of all intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_binance.simulator.archive_files import KINDS, TICKS
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.exchange import Exchange, Hidden
from airflow_provider_binance.simulator.fault_names import COUNTED, HALT, LATE_DAY, MISSING_FROM, NAMES, VALUED
from airflow_provider_binance.simulator.instruments import MARKETS
from airflow_provider_binance.simulator.limits import Verdict, WeightLimiter
from airflow_provider_binance.simulator.wire import Request


@dataclass
class Fault:
    """A fault that is switched on; ``remaining`` None means for ever."""

    name: str
    value: float | None = None
    remaining: int | None = None
    path: str = ""
    day: str = ""

    def matches(self, request: Request) -> bool:
        """Whether it would strike this request."""
        return self.remaining != 0 and self.path in request.path


class Faults:
    """The faults of one simulator."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._faults: list[Fault] = []
        self.late_days: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Switch a fault on.

        Raises:
            ValueError: not of the form that the module describes.
        """
        body, _, path = text.partition("@")
        name, _, argument = body.partition("=")
        if name in MISSING_FROM or name == HALT:
            self._add_missing(name, argument)
        elif name == LATE_DAY:
            to_ms(argument)
            self.late_days[argument] = path
        elif name in VALUED:
            value, _, count = argument.partition(":")
            # A second ban while the first lasts would have no end, so one is the default.
            count = count or ("1" if name == "418" else "")
            try:
                self._faults.append(Fault(name, float(value), int(count) if count else None, path))
            except ValueError:
                raise ValueError(f"fault {text!r}: {name} wants {name}=NUMBER[:COUNT][@PATH]") from None
        elif name in COUNTED:
            count = argument.lstrip(":")
            if count and not count.isdigit():
                raise ValueError(f"fault {text!r}: {name} wants {name}[=COUNT][@PATH]")
            self._faults.append(Fault(name, None, int(count) if count else None, path))
        else:
            raise ValueError(f"unknown fault {name!r}; there are {', '.join(NAMES)}")

    def clear(self) -> None:
        """Switch all faults off, missing rows and halts too."""
        self._faults.clear()
        self.late_days.clear()
        self._exchange.clear_gaps()

    def take(self, name: str, request: Request) -> Fault | None:
        """The fault of that name that strikes this request, counted as used; None if there is none."""
        for fault in self._faults:
            if fault.name == name and fault.matches(request):
                if fault.remaining is not None:
                    fault.remaining -= 1
                return fault
        return None

    def number(self, name: str, request: Request) -> float | None:
        """The value of the fault that strikes this request."""
        fault = self.take(name, request)
        return fault.value if fault else None

    def verdict(self, request: Request, limiter: WeightLimiter, pool: str, now_ms: int) -> Verdict | None:
        """A limit that was not really reached."""
        ban_seconds = self.number("418", request)
        if ban_seconds is not None:
            return limiter.ban(request.remote, pool, now_ms, int(ban_seconds * 1000))
        if self.take("429", request):
            return Verdict(429, limiter.limits[pool] + 1, retry_after=-(-(60_000 - now_ms % 60_000) // 1000))
        return None

    def _add_missing(self, name: str, argument: str) -> None:
        market, _, rest = argument.partition(":")
        if market not in MARKETS:
            market, rest = "spot", argument
        try:
            symbol, interval, span = rest.split(":", 2)
            start, end = (to_ms(each) for each in span.split(".."))
        except ValueError:
            raise ValueError(f"fault {name} wants [MARKET:]SYMBOL:INTERVAL:START..END, not {argument!r}") from None
        if interval not in ("*", *KINDS):
            raise ValueError(f"fault {name}: {interval!r} is neither an interval nor one of {', '.join(TICKS)}")
        if (market, symbol) not in self._exchange.instruments:
            raise ValueError(f"fault {name}: the simulator has no {market}:{symbol}")
        if name == HALT:
            self._exchange.halt(market, symbol, start, end)
        else:
            hidden = Hidden(market, symbol, None if interval == "*" else interval, start, end, MISSING_FROM[name])
            self._exchange.hide(hidden)
