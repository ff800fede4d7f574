"""`DrlBinanceProvider`: Binance as drl-trading-ingest wants its data providers, by the shape of its port alone.

History comes by REST under the shared weight budget, without a store; trades by websocket, kept up through cuts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError, InputError
from airflow_provider_binance.integrations.drl_contract import SUFFIXES, Timeframe
from airflow_provider_binance.market import INTERVALS, Market, from_us, to_us
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.records import Kline, Series
from airflow_provider_binance.symbols import spelled
from airflow_provider_binance.texts import listed

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_binance.integrations.drl_stream import TradeStream

log = logging.getLogger(__name__)

#: So many bars, the newest ones, are given where neither a start nor a number is asked for.
NEWEST_BARS = 1000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class TimeframeDataset:
    """The bars of one timeframe; `base_dataset` is true of the shortest of an answer."""

    timeframe: Timeframe
    base_dataset: bool
    asset_price_dataset: pd.DataFrame


@dataclass(frozen=True, slots=True)
class SymbolDatasets:
    """The datasets of one symbol."""

    symbol: str
    datasets: list[TimeframeDataset]


class DrlProviderConfig(BaseModel):
    """The keys that the service may give."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key_env: str | None = None
    secret_key_env: str | None = None
    base_url: str | None = None
    testnet: Annotated[bool, Field(strict=True)] = False
    symbols: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    timeframes: Annotated[tuple[Timeframe, ...], BeforeValidator(listed)] = (Timeframe.MINUTE_1,)
    max_bars: Annotated[int | None, Field(strict=True, ge=1)] = None
    websocket_url: str | None = None
    reconnect_attempts: Annotated[int | None, Field(strict=True, ge=0)] = None
    ping_interval: float = Field(4.0, gt=0, le=600)

    @field_validator("timeframes")
    @classmethod
    def _some(cls, value: tuple[Timeframe, ...]) -> tuple[Timeframe, ...]:
        if not value:
            raise ValueError(f"is empty: name one or more of {' '.join(Timeframe)}")
        return value

    @classmethod
    def of(cls, config: object) -> DrlProviderConfig:
        """The mapping, checked; raises ConfigError naming each key that is wrong."""
        if not isinstance(config, dict):
            raise ConfigError(f"the provider's config is of type {type(config).__name__}: give a dict")
        try:
            return cls(**{str(name): value for name, value in config.items()})
        except ValidationError as error:
            lines = []
            for detail in error.errors(include_url=False, include_context=False):
                name = str(detail["loc"][0])
                if detail["type"] == "extra_forbidden":
                    lines.append(f"unknown key {name!r}; accepted: {' '.join(cls.model_fields)}")
                else:
                    lines.append(f"key {name} = {mask_url(repr(config.get(name)))}: {detail['msg']}")
            raise ConfigError("; ".join(lines), field=name) from None

    def settings(self) -> BinanceConfig:
        """The package's settings: those of the environment, and over them what is given here."""
        given: dict[str, Any] = {"testnet": self.testnet or None, "spot_rest_url": self.base_url,
                                 "spot_stream_url": self.websocket_url}  # fmt: skip
        for field, variable in (("api_key", self.api_key_env), ("api_secret", self.secret_key_env)):
            if variable is not None and not (text := os.environ.get(variable, "").strip()):
                log.warning("%s: the environment variable %s is not set; public data needs no key",
                            f"{field.removeprefix('api_')}_env", variable)  # fmt: skip
            elif variable is not None:
                given[field] = text
        if self.base_url is not None and not self.testnet and "BINANCE_ENVIRONMENT" not in os.environ:
            host = urlsplit(self.base_url).hostname or ""
            if host in _LOOPBACK:
                given["environment"] = "simulator"
        return BinanceConfig.load(**{name: value for name, value in given.items() if value is not None})


class DrlBinanceProvider:
    """Binance as a data provider of drl-trading-ingest. Constructing checks the words, and opens nothing.

    Args:
        config: `api_key_env` and `secret_key_env` (names of environment variables), `base_url`, `testnet`, `symbols`,
            `timeframes`, `max_bars`, `websocket_url`, `reconnect_attempts`, `ping_interval`; all optional.

    Raises:
        ConfigError: an unknown key, or a value that cannot be.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._given = DrlProviderConfig.of(config)
        for symbol in self._given.symbols:
            _named(self.map_symbol(symbol))
        self._settings: BinanceConfig | None = None
        self._stream: TradeStream | None = None

    @property
    def provider_name(self) -> str:
        """`binance`."""
        return "binance"

    def setup(self) -> None:
        """Read keys and hosts; asks nobody."""
        self._ready()

    def teardown(self) -> None:
        """End what runs. The provider may be set up again."""
        self.stop_streaming()
        self._settings = None

    def map_symbol(self, internal_symbol: str) -> str:
        """Binance's name: `btc-usdt` and `BTC/USDT` are `BTCUSDT`."""
        return internal_symbol.replace("-", "").replace("/", "").strip().upper()

    def fetch_historical_data(
        self,
        symbol: str,
        start_date: str | None = None,
        end_date: str | None = None,
        timeframe: str | None = None,
        limit: int | None = None,
    ) -> list[SymbolDatasets]:
        """Closed bars, ascending, fetched now.

        Args:
            symbol: in any spelling that `map_symbol` takes; with `.P` of USDⓈ-M, with `.CM` of COIN-M futures.
            start_date: ISO date or time; without offset it is UTC. Without it, the newest bars up to `end_date`.
            end_date: likewise; a bar that opens at this very instant is the last. Default: now.
            timeframe: one of `Timeframe`; default: each of the config's.
            limit: at most so many bars of each timeframe: the first ones from `start_date`, else the newest ones.

        Returns:
            One container with a dataset for each timeframe, the shortest first.

        Raises:
            InputError: words that cannot be, or a symbol that Binance does not know.
            BinanceError: Binance is unreachable, refuses or bans.
        """
        mapped = self.map_symbol(symbol)
        market, name = _named(mapped)
        start_us, end_us = _instant("start_date", start_date), _instant("end_date", end_date)
        if start_us is not None and end_us is not None and start_us > end_us:
            raise InputError(f"start_date {start_date!r} lies behind end_date {end_date!r}")
        most = self._most(limit)
        wanted = self._timeframes(timeframe)
        datasets = [
            TimeframeDataset(each, each is wanted[0], _frame(self._bars(market, name, each, start_us, end_us, most)))
            for each in wanted
        ]
        return [SymbolDatasets(mapped, datasets)]

    def start_streaming(self, symbols: Sequence[str], callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with each trade of `symbols` (spot; default: the config's) as Binance sent it.

        Returns at once. The callback runs in a thread of its own, one call after the other; what it raises is logged.
        Connections are made anew when they are lost, and no trade is given twice.

        Raises:
            InputError: no symbols, a symbol of futures (Binance streams trades of spot only), or it streams already.
            ConfigError: the extra `[stream]` is not installed.
        """
        from airflow_provider_binance.stream import require_extra

        require_extra()
        if self._stream is not None and self._stream.is_running:
            raise InputError("trades are streamed already: call stop_streaming() first")
        wanted = [self.map_symbol(symbol) for symbol in symbols or self._given.symbols]
        if not wanted:
            raise InputError("no symbols to stream: name one or more, or give the key symbols")
        series = []
        for mapped in wanted:
            market, name = _named(mapped)
            if market is not Market.SPOT:
                raise InputError(f"{mapped!r} is of futures, and Binance streams single trades of spot only")
            series.append(Series(market.value, "trades", name))
        if not callable(callback):
            raise InputError("callback cannot be called: give a function of one argument")
        from airflow_provider_binance.integrations.drl_stream import TradeStream

        self._stream = TradeStream(
            self._ready(), series, callback, attempts=self._given.reconnect_attempts,
            silence_seconds=self._given.ping_interval,
        )  # fmt: skip
        self._stream.start()

    def stop_streaming(self) -> None:
        """End the streams; no callback is made after this returns."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.stop()

    # --- history ------------------------------------------------------------------------------------------------------

    def _ready(self) -> BinanceConfig:
        settings = self._settings
        if settings is None:
            settings = self._settings = self._given.settings()
        return settings

    def _timeframes(self, timeframe: str | None) -> list[Timeframe]:
        if timeframe is None:
            return sorted(set(self._given.timeframes), key=list(Timeframe).index)
        try:
            return [Timeframe(timeframe)]
        except ValueError:
            raise InputError(f"unknown timeframe {timeframe!r}: use {' '.join(Timeframe)}") from None

    def _most(self, limit: int | None) -> int | None:
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InputError(f"limit {limit!r} is no number of bars: give 1 or more")
        return min((n for n in (limit, self._given.max_bars) if n is not None), default=None)

    def _bars(
        self, market: Market, symbol: str, timeframe: Timeframe, start_us: int | None, end_us: int | None,
        most: int | None,
    ) -> list[Kline]:  # fmt: skip
        from airflow_provider_binance.ingest import fetch_klines

        grid, config = INTERVALS[timeframe], self._ready()
        stop_us = self._now_us(market) if end_us is None else end_us + 1
        is_newest, first_us = start_us is None, start_us
        if first_us is None:
            most = NEWEST_BARS if most is None else most
            # A month is at most 31 days; the one that is open is not given.
            first_us = grid.floor(stop_us) - (most + 1) * (
                31 * grid.size_us // 28 if grid.is_calendar else grid.size_us
            )
        elif most is not None:
            stop_us = min(stop_us, grid.advance(grid.ceil(first_us), most))
        if grid.ceil(first_us) >= stop_us:
            return []
        found = fetch_klines(
            market=market.value, symbol=symbol, interval=timeframe, start=from_us(max(first_us, 0)),
            end=from_us(stop_us), config=config, priority="live",
        )  # fmt: skip
        return found[-most:] if is_newest and most is not None else found

    def _now_us(self, market: Market) -> int:
        from airflow_provider_binance.rest.client import BinanceRest

        with BinanceRest(self._ready(), priority="live") as rest:
            return rest.server_now_us(market)


def _named(mapped: str) -> tuple[Market, str]:
    """Market and Binance's symbol of a mapped one."""
    for market, suffix in SUFFIXES.items():
        if suffix and mapped.endswith(suffix):
            return market, spelled(mapped.removesuffix(suffix))
    return Market.SPOT, spelled(mapped)


def _instant(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InputError(f"{name} {text!r} is no date: write 2024-01-31 or 2024-01-31T12:00:00Z") from None
    return to_us(at if at.tzinfo is not None else at.replace(tzinfo=UTC))


def _frame(bars: Sequence[Kline]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {"timestamp": pd.to_datetime([bar.open_time for bar in bars], utc=True)}
    for name, column in (*((name, f"{name}_price") for name in ("open", "high", "low", "close")), ("volume", "volume")):
        columns[column] = [float(getattr(bar, name)) for bar in bars]
    return pd.DataFrame(columns).astype({name: "float64" for name in columns if name != "timestamp"})
