"""`BinanceHook`: an Airflow connection as a metered Binance client and as the front doors of the ingest core."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote

from airflow.sdk import BaseHook

from airflow_provider_binance.errors import ConfigError, IngestError
from airflow_provider_binance.masking import mask_values

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from binance.client import Client

    from airflow_provider_binance.config import BinanceConfig
    from airflow_provider_binance.findings import RepairReport, VerifyReport
    from airflow_provider_binance.records import Kline
    from airflow_provider_binance.reports import LoadReport, PlanReport
    from airflow_provider_binance.rest.client import BinanceRest

#: Seconds within which the Test button has an answer: the API server waits for it.
TEST_TIMEOUT_SECONDS = 4.0


class BinanceHook(BaseHook):
    """Binance through an Airflow connection. Constructing it reads nothing; the first use reads the connection.

    Every request, also one made through `get_conn()`, is metered by the weight budget that all processes behind one IP
    address share.

    Args:
        binance_conn_id: connection of type `binance` (login = API key, password = API secret, extras = settings).
        store_conn_id: connection of type `postgres` or `sqlite`, the ingest database of `plan` and `load`.
        priority: class of the weight budget: `live`, `repair`, `daily` or `backfill`.
    """

    conn_name_attr = "binance_conn_id"
    default_conn_name = "binance_default"
    conn_type = "binance"
    hook_name = "Binance"

    def __init__(
        self,
        binance_conn_id: str = default_conn_name,
        *,
        store_conn_id: str = "ingest_default",
        priority: str = "backfill",
        logger_name: str | None = None,
    ) -> None:
        super().__init__(logger_name=logger_name)
        self.binance_conn_id = binance_conn_id
        self.store_conn_id = store_conn_id
        self.priority = priority

    @cached_property
    def config(self) -> BinanceConfig:
        """Settings of the connection, over those of the environment; raises ConfigError naming the connection."""
        return self._config()

    @cached_property
    def store_config(self) -> BinanceConfig:
        """`config` with the ingest database of the store's connection."""
        from airflow_provider_binance.airflow_connections import get_connection, store_target

        target = store_target(get_connection(self.store_conn_id))
        return self._config(store_url=target.url, store_schema=target.schema)

    @cached_property
    def rest(self) -> BinanceRest:
        """The metered, classified way to Binance's REST interfaces."""
        from airflow_provider_binance.rest.client import BinanceRest

        return BinanceRest(self._shared_config(), priority=self.priority)

    def get_conn(self) -> Client:
        """The python-binance `Client`, metered: whatever is called on it counts against the shared weight budget."""
        return self.rest.client

    def request(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | None = None,
        *,
        market: str = "spot",
        signed: bool = False,
    ) -> Any:
        """The decoded answer to one request, such as `request("GET", "/api/v3/time")`; fractions are Decimal.

        `signed` adds timestamp, recvWindow and signature, by the connection's key of whatever kind. A GET that fails
        in passing is tried again, others are not.

        Raises:
            BinanceError: no answer, or one that says no; ConfigError: the key that the call needs is missing.
        """
        from airflow_provider_binance.market import Market

        return self.rest.request(method, path, params, market=Market.parse(market), signed=signed)

    def server_now(self, market: str = "spot") -> datetime:
        """What time it is at Binance."""
        from airflow_provider_binance.market import Market, from_us

        return from_us(self.rest.server_now_us(Market.parse(market)))

    def get_klines(
        self, symbol: str, interval: str, start: datetime | str, end: datetime | str, *, market: str = "spot"
    ) -> list[Kline]:
        """The closed klines that open in `[start, end)`, ascending, prices and quantities exact; nothing is stored."""
        from airflow_provider_binance import ingest

        return ingest.fetch_klines(
            market=market,
            symbol=symbol,
            interval=interval,
            start=start,
            end=end,
            config=self._shared_config(),
            priority=self.priority,
        )

    def plan(self, *, market: str, symbols: Sequence[str] | str, **arguments: Any) -> PlanReport:
        """What `load` with the same arguments would fetch, and its cost; writes nothing."""
        from airflow_provider_binance import ingest

        return ingest.plan(market=market, symbols=symbols, **self._defaults(arguments))

    def load(self, *, market: str, symbols: Sequence[str] | str, **arguments: Any) -> LoadReport:
        """Load into the ingest database what the window lacks; arguments as of `ingest.load`."""
        from airflow_provider_binance import ingest

        return ingest.load(market=market, symbols=symbols, **self._defaults(arguments))

    def repair(self, **arguments: Any) -> RepairReport:
        """Fill what is lacking inside what the ingest database covers; arguments as of `ingest.repair`."""
        from airflow_provider_binance import ingest

        return ingest.repair(**{"priority": "repair", **arguments, "config": self.store_config})

    def verify(self, **arguments: Any) -> VerifyReport:
        """Compare the ingest database with itself, its ledger and Binance; arguments as of `ingest.verify`."""
        from airflow_provider_binance import ingest

        return ingest.verify(**{"priority": "repair", **arguments, "config": self.store_config})

    def test_connection(self) -> tuple[bool, str]:
        """Whether Binance answers and, with a key, accepts it: one signed read-only call. Under five seconds."""
        from airflow_provider_binance.rest.client import BinanceRest

        secrets: tuple[str, ...] = ()
        try:
            config = self.config.model_copy(
                # A budget of its own: the button must not wait behind a backfill.
                update={"request_timeout_seconds": TEST_TIMEOUT_SECONDS / 2, "rate_limit_store": "memory://"}
            )
            secrets = config.secrets()
            market = config.markets[0]
            url = config.rest_url(market)
            with BinanceRest(config, priority="live", attempts=1) as rest:
                if config.api_key is None:
                    rest.ping(market)
                    return True, (
                        f"{market} at {url} answers. No API key is set, so only reachability was checked; public "
                        "market data needs none."
                    )
                warnings = "".join(f" WARNING: {warning}." for warning in rest.account_check(market).warnings)
                return True, f"The API key works on {market}: a signed read-only call succeeded.{warnings}"
        except IngestError as error:
            return False, mask_values(str(error), secrets)

    def close(self) -> None:
        """Drop the client and the settings read so far; the next use reads the connection again."""
        if (rest := self.__dict__.pop("rest", None)) is not None:
            rest.close()
        for name in ("config", "store_config"):
            self.__dict__.pop(name, None)

    def _shared_config(self) -> BinanceConfig:
        """`config`, with the store's connection if there is one: the weight budget that is `auto` lives with the store,
        and what is asked for without storing it counts there too."""
        if self.config.rate_limit_store != "auto":
            return self.config
        try:
            return self.store_config
        except ConfigError as error:
            if "conn_id" not in error.facts:  # who stores nothing need not have that connection; a wrong one is told
                self.log.warning("The weight budget is not that of the ingest database: %s", error)
            return self.config

    def _defaults(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"priority": self.priority, **arguments, "config": self.store_config}

    def _config(self, **keywords: Any) -> BinanceConfig:
        return _read_config(self.binance_conn_id, keywords)


def _read_config(conn_id: str, keywords: dict[str, Any]) -> BinanceConfig:
    """The settings of the connection as it is now; who uses them reads them again by this when a key is replaced."""
    from airflow_provider_binance.airflow_connections import get_connection

    config = config_of(get_connection(conn_id), **keywords)
    return config.reread_by(partial(_read_config, conn_id, keywords))


def config_of(connection: Connection, **keywords: Any) -> BinanceConfig:
    """The settings of a connection, its secrets masked in Airflow's logs; raises ConfigError naming it."""
    from airflow_provider_binance.config import BinanceConfig
    from airflow_provider_binance.connections import binance_settings

    settings = binance_settings(connection)
    try:
        config = BinanceConfig.load(connection=settings, **keywords)
    except ConfigError as error:
        raise ConfigError(f"connection {connection.conn_id!r}: {error}", **error.facts) from None
    _mask(config.secrets())
    return config


def _mask(secrets: Sequence[str]) -> None:
    """Have Airflow mask `secrets` in its logs: it knows passwords, but neither logins nor their encoded spellings."""
    import base64

    from airflow.sdk.log import mask_secret

    for secret in {*secrets, *map(unquote, secrets)}:  # a URL holds its password encoded
        for spelling in {
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            base64.b64encode(secret.encode()).decode(),
        }:
            mask_secret(spelling)
