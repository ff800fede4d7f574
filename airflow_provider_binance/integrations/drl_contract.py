"""What drl-trading-ingest reads: its table, its timeframes, its names of symbols, its whole-number volumes.

Said once, in SQL, so that the view and the sync cannot differ: `d` is a row of klines, `s` a row of `series`.
"""

from __future__ import annotations

from enum import StrEnum

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.store.schema import literal

TABLE = "market_data"


class Timeframe(StrEnum):
    """Its timeframes, the shortest first; its reader fails on any other."""

    MINUTE_1 = "1m"
    MINUTE_5 = "5m"
    MINUTE_15 = "15m"
    MINUTE_30 = "30m"
    HOUR_1 = "1h"
    HOUR_4 = "4h"
    DAY_1 = "1d"
    WEEK_1 = "1w"
    MONTH_1 = "1M"


TIMEFRAMES = tuple(each.value for each in Timeframe)
#: It knows no markets: what is appended to the symbol says which one.
SUFFIXES = {Market.SPOT: "", Market.UM: ".P", Market.CM: ".CM"}
SYMBOL_LENGTH = 20

#: Why a kline cannot be shown.
NOT_A_TIMEFRAME = "interval is none of " + " ".join(TIMEFRAMES)
LONG_SYMBOL = f"symbol with its suffix is longer than {SYMBOL_LENGTH} characters"
OVERFLOW = "volume does not fit into bigint"
NO_VOLUME = "has no quote volume"


class VolumeMode(StrEnum):
    """What becomes of a volume such as 0.9 BTC at 60,000: 1 BTC, 90,000,000 hundred-millionths, 54,000 USDT."""

    ROUND = "round"
    SCALE_1E8 = "scale_1e8"
    QUOTE = "quote"

    @classmethod
    def parse(cls, text: str) -> VolumeMode:
        """The mode called `text`; raises InputError with the accepted names."""
        try:
            return cls(str(text).strip().lower())
        except ValueError:
            raise InputError(f"unknown volume mode {text!r}: use {', '.join(cls)}") from None

    @property
    def column(self) -> str:
        """The column of klines that it is made of."""
        return "quote_volume" if self is VolumeMode.QUOTE else "volume"

    @property
    def whole(self) -> str:
        """The whole number, in SQL."""
        return f"round(d.{self.column}{' * 100000000' if self is VolumeMode.SCALE_1E8 else ''})::bigint"

    @property
    def limit(self) -> str:
        """What the column must stay below so that the whole number is a bigint: a bare comparison with a column, whose
        share of the rows the database knows."""
        return "92233720368.547758075" if self is VolumeMode.SCALE_1E8 else "9223372036854775807.5"

    @property
    def fits(self) -> str:
        """Whether a row can be shown, in SQL; not so where the column is NULL."""
        return f"d.{self.column} < {self.limit}"


#: The symbol by which the service knows a series, in SQL, however long it is.
FULL_SYMBOL = "(s.symbol || CASE s.market " + " ".join(
    f"WHEN {literal(market)} THEN {literal(suffix)}" for market, suffix in SUFFIXES.items() if suffix
) + " ELSE '' END)"  # fmt: skip
SYMBOL = f"{FULL_SYMBOL}::varchar({SYMBOL_LENGTH})"
TIMEFRAME = """s."interval"::varchar(10)"""
#: Whether a series can be shown, in SQL.
IS_TAKEN = (
    f"""s."interval" IN ({", ".join(map(literal, TIMEFRAMES))}) AND char_length({FULL_SYMBOL}) <= {SYMBOL_LENGTH}"""
)


def left_out(mode: VolumeMode) -> str:
    """Why a row is not shown, in SQL; NULL where it is."""
    return (
        f"""CASE WHEN s."interval" NOT IN ({", ".join(map(literal, TIMEFRAMES))}) THEN {literal(NOT_A_TIMEFRAME)} """
        f"WHEN char_length({FULL_SYMBOL}) > {SYMBOL_LENGTH} THEN {literal(LONG_SYMBOL)} "
        f"WHEN d.{mode.column} IS NULL THEN {literal(NO_VOLUME)} "
        f"WHEN NOT {mode.fits} THEN {literal(OVERFLOW)} END"
    )


def symbol_of(market: str, symbol: str) -> str:
    """The symbol by which the service knows a series."""
    return symbol + SUFFIXES[Market(market)]
