"""Faults that can be switched on, by ``--fault`` or while the simulator runs.

``NAME[=VALUE[:COUNT]][@PATH]``: COUNT says how many times (default: always), PATH is a part of the decoded request path
it is limited to. Names without VALUE take the COUNT directly: ``reset=2@/klines``.

==================== ==================== ============================================================================
name                 VALUE                effect
==================== ==================== ============================================================================
``http``             status               answer with that status, and do not handle the request
``latency``          milliseconds         answer that much later (real time)
``jitter``           milliseconds         answer later by up to so much, a hash of the request's number says how much
``hang``             seconds              be silent that long (real time), then close the connection
``slow-body``        seconds              send the headers at once and the body in pieces over that long (real time)
``reset``                                 reset the connection instead of answering
``truncate``                              close after half of the announced body
``nonjson``                               HTTP 200 with an HTML page
``429``                                   over the weight limit, whatever was used
``418``              seconds              ban the address for so long (simulated time); COUNT defaults to 1
``451``                                   restricted location
``403``                                   the firewall's HTML page
``overloaded``                            HTTP 503 with -1008
``no-retry-after``                        429 and 418 do not say how long
``no-weight-header``                      answers do not say the used weight
``gzip``                                  REST answers are compressed for clients that take it
``empty-page``                            a page of klines, trades or aggregates is ``[]``
``duplicates``                            every tenth row of such a page comes twice
``disorder``                              the second half of such a page comes first
``clock-skew``       milliseconds         signed timestamps are judged by a clock so far ahead, which ``time`` hides
``wrong-date``       seconds              the ``Date`` header is so far ahead
``corrupt-zip``                           bytes in the middle of an archive zip are wrong, its checksum is not
``bad-checksum``                          the CHECKSUM file names another hash
``late-day``         YYYY-MM-DD           daily files of that day are not out, and not listed
``late-month``       YYYY-MM              monthly files of that month are not out, and not listed
``stale-listing``    YYYY-MM-DD           listings show what was out at the beginning of that day; files are served
``short-listing``    entries              listings end after so many entries, and say that they are complete
``stream-cut``       seconds              a connection so old (simulated time) ends in the middle of its next event
``stream-reset``     seconds              a connection so old is reset
``stream-stall``     seconds              nothing comes for so long, no pong either, and what was to come is lost
``stream-burst``     seconds              events are held back for so long and come at once
``server-shutdown``  seconds              a ``serverShutdown`` is announced; so much later the connection is closed
``stream-gap``       events               so many events in a row are missing; COUNT defaults to 1
``stream-duplicates``                     every tenth event comes twice
``stream-disorder``                       every tenth event comes after the one that follows it
``stream-silent``                         events do not come, while the subscription is acknowledged
``no-close``                              closed klines do not come
``missing-rest``     SERIES               rows are missing from REST
``missing-archive``  SERIES               rows are missing from daily and monthly files
``missing-monthly``  SERIES               rows are missing from monthly files
``missing-daily``    SERIES               rows are missing from daily files
``missing-both``     SERIES               rows are missing from REST and archive
``halt``             SERIES               nobody traded: no rows, and longer candles without that part
``voided``           SERIES               aggregates are void, in REST and archive: price and quantity 0, no trade ids
``duplicated``       SERIES               rows are twice in their files
``disordered``       SERIES               rows are in reverse order in their files
``zero-quantity``    SERIES               every third trade or aggregate has quantity 0 in its files
``wrong-day``        SERIES               rows carry the times of the next day in their files
``corrected``        SERIES               files are uploaded again now, with volumes a unit higher than REST has them
``republished``      SERIES               files are uploaded again now: new bytes, ETag and time, same rows
==================== ==================== ============================================================================

SERIES is ``[MARKET:]SYMBOL:INTERVAL:START..END``, half-open, ISO times in UTC; MARKET defaults to spot. INTERVAL may be
``trades`` or ``aggTrades``; ``*`` means all of them. A ``halt`` is one of all intervals. These, and those that take a
day or a month, have no COUNT; with PATH those from ``duplicated`` on are limited to files with it in their key, as
``@/monthly/``.

Faults from ``stream-cut`` to ``server-shutdown`` strike each connection once; PATH is a part of its path with its
streams behind it. For those of events it is a part of the path with the event's own stream behind it, as
``@/um/market/ws/btcusdt@aggTrade``. Handshakes suffer the faults of requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_binance.simulator.alterations import Alteration
from airflow_provider_binance.simulator.archive_files import KINDS, TICKS
from airflow_provider_binance.simulator.clock import to_ms
from airflow_provider_binance.simulator.exchange import Exchange, Hidden
from airflow_provider_binance.simulator.fault_names import (
    ALTERATIONS,
    COUNTED,
    HALT,
    LATE_DAY,
    LATE_MONTH,
    MISSING_FROM,
    NAMES,
    STALE_LISTING,
    STREAM_GAP,
    VALUED,
    VOIDED,
)
from airflow_provider_binance.simulator.instruments import MARKETS
from airflow_provider_binance.simulator.limits import Verdict, WeightLimiter
from airflow_provider_binance.simulator.wire import Request

# What listings and files look at; filled here, read there.
DAYS = (LATE_DAY, LATE_MONTH)


@dataclass
class Fault:
    """A fault that is switched on; ``remaining`` None means for ever."""

    name: str
    value: float | None = None
    remaining: int | None = None
    path: str = ""
    # How many events it has looked at.
    seen: int = 0

    def matches(self, path: str) -> bool:
        """Whether it would strike a request, a connection or an event of that path."""
        return self.remaining != 0 and self.path in path

    def use(self) -> None:
        """Count it as used."""
        if self.remaining is not None:
            self.remaining -= 1


@dataclass(frozen=True)
class Series:
    """Rows of one symbol; ``kind`` None means all intervals and ticks."""

    market: str
    symbol: str
    kind: str | None
    start_ms: int
    end_ms: int


class Faults:
    """The faults of one simulator."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._faults: list[Fault] = []
        # Day or month of the files that are late: a part of the keys concerned.
        self.late: dict[str, str] = {}
        self.listed_until_ms: int | None = None

    def add(self, text: str) -> None:
        """Switch a fault on.

        Raises:
            ValueError: not of the form that the module describes.
        """
        body, _, path = text.partition("@")
        name, _, argument = body.partition("=")
        if name in MISSING_FROM or name in ALTERATIONS or name in (HALT, VOIDED):
            self._add_series(name, self._series(name, argument), path)
        elif name in DAYS:
            to_ms(argument)
            if len(argument) != (len("2024-01-01") if name == LATE_DAY else len("2024-01")):
                raise ValueError(f"fault {name} wants {'YYYY-MM-DD' if name == LATE_DAY else 'YYYY-MM'}")
            self.late[argument] = path
        elif name == STALE_LISTING:
            self.listed_until_ms = to_ms(argument)
        elif name in VALUED:
            value, _, count = argument.partition(":")
            # A second ban while the first lasts would have no end, so one is the default.
            # So would a gap.
            count = count or ("1" if name in ("418", STREAM_GAP) else "")
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
        self.late.clear()
        self.listed_until_ms = None
        self._exchange.clear_gaps()

    def take(self, name: str, request: Request) -> Fault | None:
        """The fault of that name that strikes this request, counted as used; None if there is none."""
        for fault in self._faults:
            if fault.name == name and fault.matches(request.path):
                fault.use()
                return fault
        return None

    def among(self, names: frozenset[str]) -> list[Fault]:
        """The faults of these names that are not used up."""
        return [fault for fault in self._faults if fault.name in names and fault.remaining != 0]

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

    def spoiled(self, rows: list[Any], request: Request) -> list[Any]:
        """A page of rows with what is wrong with it."""
        if self.take("empty-page", request):
            return []
        if self.take("duplicates", request):
            rows = [row for index, row in enumerate(rows) for _ in range(2 if index % 10 == 9 else 1)]
        if self.take("disorder", request):
            rows = rows[len(rows) // 2 :] + rows[: len(rows) // 2]
        return rows

    def _series(self, name: str, argument: str) -> Series:
        market, _, rest = argument.partition(":")
        if market not in MARKETS:
            market, rest = "spot", argument
        try:
            symbol, kind, span = rest.split(":", 2)
            start_ms, end_ms = (to_ms(each) for each in span.split(".."))
        except ValueError:
            raise ValueError(f"fault {name} wants [MARKET:]SYMBOL:INTERVAL:START..END, not {argument!r}") from None
        if kind not in ("*", *KINDS):
            raise ValueError(f"fault {name}: {kind!r} is neither an interval nor one of {', '.join(TICKS)}")
        if (market, symbol) not in self._exchange.instruments:
            raise ValueError(f"fault {name}: the simulator has no {market}:{symbol}")
        return Series(market, symbol, None if kind == "*" else kind, start_ms, end_ms)

    def _add_series(self, name: str, series: Series, path: str) -> None:
        fields = (series.market, series.symbol, series.kind, series.start_ms, series.end_ms)
        if name == HALT:
            self._exchange.halt(series.market, series.symbol, series.start_ms, series.end_ms)
        elif name in MISSING_FROM:
            self._exchange.hide(Hidden(*fields, MISSING_FROM[name]))
        else:
            self._exchange.alterations.append(Alteration(name, *fields, path, self._exchange.clock.now_ms()))
