"""Known defects of Binance's own data, so that a gap of theirs is not taken for one of ours.

Compiled from Binance's public issue list (github.com/binance/binance-public-data) and its own announcements. A gap
inside one of these is Binance's; what the ledger believes of it, and whether it is asked again, is not changed by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from airflow_provider_binance.market import to_us
from airflow_provider_binance.records import Series


@dataclass(frozen=True, slots=True)
class Known:
    """Something known to be missing or odd within `[start, end)`; `symbols` and `intervals` are patterns."""

    markets: tuple[str, ...]
    start: str
    end: str
    note: str
    symbols: str = "*"
    intervals: str = "*"

    def concerns(self, series: Series, start_us: int, end_us: int) -> bool:
        """Whether a stretch of `series` overlaps it."""
        return (
            series.market in self.markets
            and fnmatchcase(series.symbol, self.symbols)
            and fnmatchcase(series.interval, self.intervals)
            and start_us < _us(self.end)
            and end_us > _us(self.start)
        )


_SPOT = ("spot",)
_HALT = "exchange halt"

KNOWN: tuple[Known, ...] = (
    Known(_SPOT, "2018-02-08", "2018-02-10", _HALT),
    Known(_SPOT, "2018-06-26", "2018-06-27", _HALT),
    Known(_SPOT, "2020-02-19", "2020-02-20", f"{_HALT}, 11:35 to 17:30 (binance-public-data #84)"),
    Known(_SPOT, "2020-06-28", "2020-06-29", _HALT),
    Known(_SPOT, "2020-11-30", "2020-12-01", f"{_HALT}, 06:00 to 07:00 (ccxt #8068)"),
    Known(_SPOT, "2020-12-21", "2020-12-22", _HALT),
    Known(_SPOT, "2021-04-20", "2021-04-21", _HALT),
    Known(_SPOT, "2021-04-25", "2021-04-26", _HALT),
    Known(_SPOT, "2021-08-13", "2021-08-14", _HALT),
    Known(_SPOT, "2021-09-29", "2021-09-30", _HALT),
    Known(_SPOT, "2023-03-24", "2023-03-25", f"{_HALT}, 12:40 to 14:00"),
    Known(_SPOT, "2022-09-30", "2023-03-12", "klines missing (binance-public-data #262)", "ETHUSDC", "1m"),
    Known(_SPOT, "2025-10-05", "2025-10-06", "klines missing (binance-public-data #440)", "SOLUSDT"),
    Known(_SPOT, "2025-07-30", "2025-07-31", "partial file, replaced later (binance-public-data #436)", "*", "1s"),
    Known(_SPOT, "2025-08-02", "2025-08-03", "partial file, replaced later (binance-public-data #436)", "*", "1s"),
    Known(("um",), "2022-04-01", "2022-04-03", "klines missing (binance-public-data #297)"),
    Known(("um",), "2023-04-07", "2023-04-08", "missing from monthly files only (binance-public-data #253)"),
    Known(("spot", "um", "cm"), "2022-06-09", "2022-06-10", "data missing (binance-public-data #186, #192, #215)"),
    Known(("spot", "um", "cm"), "2025-04-17", "2025-04-18", "outage (binance-public-data #410, #411)"),
)


def known_defect(series: Series, start_us: int, end_us: int) -> str:
    """What is known of a stretch, or ''."""
    return next((entry.note for entry in KNOWN if entry.concerns(series, start_us, end_us)), "")


def _us(day: str) -> int:
    return to_us(datetime.fromisoformat(day).replace(tzinfo=UTC))
