"""`BinanceConfig`: every setting, read in one place.

Precedence: keyword (or command line) > Airflow connection > environment `BINANCE_<FIELD>` > YAML file > default.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.keys import pem_text, secret_lines
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url, url_password
from airflow_provider_binance.proxies import checked
from airflow_provider_binance.registry import datasets
from airflow_provider_binance.texts import listed

Environment = Literal["production", "testnet", "simulator"]

_PRODUCTION_URLS = {
    "spot_rest_url": "https://api.binance.com",
    "um_rest_url": "https://fapi.binance.com",
    "cm_rest_url": "https://dapi.binance.com",
    "spot_stream_url": "wss://stream.binance.com:9443",
    "um_stream_url": "wss://fstream.binance.com",
    "cm_stream_url": "wss://dstream.binance.com",
    "archive_url": "https://data.binance.vision",
    "archive_listing_url": "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
}
_TESTNET_URLS = {
    "spot_rest_url": "https://testnet.binance.vision",
    "um_rest_url": "https://demo-fapi.binance.com",
    "cm_rest_url": "https://testnet.binancefuture.com",
    "spot_stream_url": "wss://stream.testnet.binance.vision:9443",
    "um_stream_url": "wss://demo-fstream.binance.com",
    "cm_stream_url": "wss://dstream.binancefuture.com",
}
_TESTNET_HOSTS = ("testnet.binance.vision", "binancefuture.com", "demo-api.binance.com", "demo-fapi.binance.com",
                  "demo-dapi.binance.com", "demo-stream.binance.com", "demo-fstream.binance.com",
                  "demo-dstream.binance.com")  # fmt: skip
_PRODUCTION_HOSTS = ("binance.com", "binance.vision", "amazonaws.com")
#: Paths that the requests bring themselves: given by mistake at a URL's end, they are dropped.
# What an API key, which goes as a header, may consist of.
_HEADER_WORD = re.compile(r"[!-~]*")
_PATHS = re.compile(r"(/api/v3|/fapi/v1|/dapi/v1)$")
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def _mapped(value: Any) -> Any:
    """Proxies: a mapping, also as JSON text; one bare URL serves http and https alike."""
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("{") else ({"http": text, "https": text} if text else {})
    return checked(value) if isinstance(value, Mapping) else value


def _section(value: Any) -> Any:
    """A mapping, or its JSON text; what is in it is its reader's to check."""
    return json.loads(value) if isinstance(value, str) else value


def _days(value: Any) -> Any:
    """Days by dataset, from a mapping or its JSON text."""
    found = json.loads(value) if isinstance(value, str) else value
    if isinstance(found, Mapping):
        names = [entry.name for entry in datasets() if entry.day_column is not None]
        for name, days in found.items():
            if name not in names or isinstance(days, bool) or not isinstance(days, int) or days < 1:
                raise ValueError(f"{name}: {days!r} is no retention; give 1 or more days of {' or '.join(names)}")
    return found


TextList = Annotated[list[str], BeforeValidator(listed)]


class BinanceConfig(BaseModel):
    """Settings as a value: frozen, compared by value, secrets masked in every `repr`.

    Build it with keywords, or with `BinanceConfig.load` to read connection, environment and YAML file too. Raises
    ConfigError, which names the field, the value (never a secret one) and every way to set it.
    """

    #: What reads these settings anew, a `Callable[[], BinanceConfig]`; None: they are what they are.
    _source: ClassVar[Any] = None

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)

    api_key: SecretStr | None = Field(None, description="API key; public market data needs none")
    api_secret: SecretStr | None = Field(None, description="HMAC secret of the key")
    private_key: SecretStr | None = Field(
        None, description="RSA or Ed25519 key in place of the secret: PEM text, or the absolute path of its file"
    )
    private_key_password: SecretStr | None = Field(None, description="password of the private key")
    testnet: bool = Field(False, description="use the test hosts of all three markets; they have no archive")
    rate_limit_requests_per_minute: int | None = Field(
        None, ge=1, description="additional cap on request weight per minute; default: the venue's own limit"
    )
    symbols: TextList = Field(default_factory=list, description="symbols of the universe, JSON or comma-separated")
    timeframes: TextList = Field(default_factory=list, description="intervals of the universe")
    markets: Annotated[list[Market], BeforeValidator(listed)] = Field(
        default_factory=lambda: [Market.SPOT], description="markets of the universe: spot, um, cm"
    )
    store_url: str = Field("sqlite:///binance.db", description="ingest database: postgresql+psycopg://… or sqlite:///…")
    store_schema: str | None = Field(None, description="PostgreSQL schema of the tables; default: the search path's")
    environment: Environment | None = Field(
        None, description="production, testnet or simulator; default: told by the hosts"
    )
    proxies: Annotated[dict[str, str], BeforeValidator(_mapped)] = Field(
        default_factory=dict, description="proxy URL, or JSON of scheme to URL"
    )
    rate_limit_store: str = Field(
        "auto",
        description="where the weight budget lives: auto (the PostgreSQL of store_url, else the file "
        "~/.cache/airflow-provider-binance/budget.json, below $XDG_CACHE_HOME if set), file:///path, postgresql://…, "
        "redis://… or memory://",
    )
    egress_id: str | None = Field(None, description="name of the IP address that requests leave by; default: the proxy")
    kline_close_lag_seconds: float = Field(
        2.0, ge=0, le=60, description="a kline is closed when its close_time lies this far before the server's time"
    )
    retention_days: Annotated[dict[str, int], BeforeValidator(_days)] = Field(
        default_factory=dict,
        description='how many days of a tick dataset `retire` keeps, as JSON: {"agg_trades": 90}; default: all',
    )
    stream: Annotated[dict[str, Any], BeforeValidator(_section)] = Field(
        default_factory=dict,
        description="what `stream` streams, by market: symbols, datasets, intervals; see docs/stream.md",
    )
    request_timeout_seconds: float = Field(20.0, gt=0, le=300, description="time-out of one request")
    spot_rest_url: str = Field("", description="REST of spot: scheme, host, optional path prefix")
    um_rest_url: str = Field("", description="REST of USDⓈ-M futures")
    cm_rest_url: str = Field("", description="REST of COIN-M futures")
    spot_stream_url: str = Field("", description="streams of spot")
    um_stream_url: str = Field("", description="streams of USDⓈ-M futures")
    cm_stream_url: str = Field("", description="streams of COIN-M futures")
    archive_url: str = Field("", description="archive, without /data")
    archive_listing_url: str = Field("", description="S3 listing of the archive")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _config_error(error, values) from None
        if self.api_key is not None and not _HEADER_WORD.fullmatch(self.api_key.get_secret_value()):
            raise ConfigError(
                f"setting api_key: it has blanks, line ends or characters that no API key has; copy it anew. "
                f"{ways_to_set('api_key')}",
                field="api_key",
            )
        if self.private_key is not None:
            try:
                text = pem_text(self.private_key.get_secret_value())
            except ConfigError as error:
                raise ConfigError(
                    f"setting private_key: {error}. {ways_to_set('private_key')}", **error.facts
                ) from None
            object.__setattr__(self, "private_key", SecretStr(text))
        hosts = {**_PRODUCTION_URLS, **(_TESTNET_URLS if self.testnet else {})}
        for name, default in hosts.items():
            url = (getattr(self, name) or default).rstrip("/")
            _check_endpoint(name, url)
            object.__setattr__(self, name, _PATHS.sub("", url))
        told = self._told_hosts()
        if self.environment == "production" and (self.testnet or "testnet" in told.values()):
            named = ", ".join(
                f"{name}={mask_url(getattr(self, name))}" for name, kind in told.items() if kind == "testnet"
            )
            raise ConfigError(
                f"environment=production contradicts the test hosts ({named or 'testnet=True'}): their data must not "
                f"get into a production store. Leave environment out, or say testnet",
                field="environment",
            )
        object.__setattr__(self, "environment", self.environment or self._told_environment(told))

    @classmethod
    def load(
        cls,
        *,
        connection: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        config_file: str | Path | None = None,
        **keywords: Any,
    ) -> Self:
        """Settings from all ways at once; keywords that are None count as not given.

        Raises:
            ConfigError: unknown or malformed setting, unreadable file.
        """
        ways = {"connection": connection, "environ": environ, "config_file": config_file, **keywords}
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = _from_file(config_file) if config_file else {}
        for name in cls.model_fields:
            if (text := environ.get(f"BINANCE_{name.upper()}", "")) != "":
                values[name] = text
        for given in (connection or {}, keywords):
            values.update({name: value for name, value in given.items() if value is not None})
        return cls(**values).reread_by(partial(cls.load, **ways))

    def reread(self) -> BinanceConfig:
        """These settings as they are now, read again in the ways by which they were read; raises as `load`."""
        source: Callable[[], BinanceConfig] | None = self._source
        return self if source is None else source()

    def reread_by(self, source: Callable[[], BinanceConfig] | None) -> Self:
        """A copy that `reread` reads by `source`; None: it stays what it is. Equality does not look at this."""
        copy = self.model_copy()
        object.__setattr__(copy, "_source", source)
        return copy

    @field_serializer("store_url", "proxies", "rate_limit_store")
    def _masked(self, value: str | dict[str, str]) -> str | dict[str, str]:
        """Dumps are printed and stored: they show no password."""
        return mask_url(value) if isinstance(value, str) else {scheme: mask_url(url) for scheme, url in value.items()}

    def rest_url(self, market: Market) -> str:
        """Scheme, host and prefix of the market's REST API."""
        return str(getattr(self, f"{market}_rest_url"))

    @property
    def has_archive(self) -> bool:
        """Whether there is an archive: the test hosts have none."""
        return not self.testnet and self.environment != "testnet"

    @property
    def egress(self) -> str:
        """The name under which the weight budget knows the IP address that requests leave by."""
        if self.egress_id:
            return self.egress_id
        if self.proxies:
            return mask_url(self.proxies.get("https") or next(iter(self.proxies.values())))
        # Two local servers are two counters: a simulator's weights are its own.
        return urlsplit(self.spot_rest_url).netloc if self.environment == "simulator" else "direct"

    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for masking."""
        fields = (self.api_key, self.api_secret, self.private_key_password)
        urls = (self.store_url, self.rate_limit_store, *self.proxies.values())
        quoted = [url_password(url) for url in urls]
        passwords = {text for password in quoted if password for text in (password, unquote(password))}
        pem = secret_lines(self.private_key.get_secret_value()) if self.private_key is not None else ()
        return tuple(s.get_secret_value() for s in fields if s is not None) + tuple(sorted(passwords)) + pem

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            if name == "proxies":
                value = {scheme: mask_url(url) for scheme, url in value.items()}
            yield name, mask_url(value) if isinstance(value, str) else value

    def _told_hosts(self) -> dict[str, str]:
        """What the host of each setting says of its environment."""
        told: dict[str, str] = {}
        for name in _PRODUCTION_URLS:
            if name.endswith("_stream_url") or (self.testnet and name.startswith("archive")):
                continue
            host = urlsplit(getattr(self, name)).hostname or ""
            told[name] = _environment_of(host)
        return told

    def _told_environment(self, told: Mapping[str, str]) -> Environment:
        kinds = set(told.values())
        if len(kinds) == 1 and (kind := kinds.pop()) in get_args(Environment):
            return kind  # type: ignore[return-value]  # narrowed by the membership test
        hosts = ", ".join(f"{name}={mask_url(getattr(self, name))} ({kind})" for name, kind in told.items())
        raise ConfigError(
            f"cannot tell the environment from these hosts: {hosts}. {ways_to_set('environment')} with one of: "
            f"{', '.join(get_args(Environment))}",
            field="environment",
        )


def _check_endpoint(name: str, url: str) -> None:
    schemes = ("wss", "ws") if name.endswith("_stream_url") else ("https", "http")
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # half an IPv6 address, or a port that is none
        is_one = False
    if not is_one or parts.query or parts.fragment or parts.username is not None or re.search(r"\s", url):
        raise ConfigError(
            f"setting {name}={mask_url(url)!r} is no endpoint: give scheme ({' or '.join(schemes)}), host and, if need "
            f"be, port and path prefix, without user, query and fragment. {ways_to_set(name)}",
            field=name,
        )


def _environment_of(host: str) -> str:
    def within(names: tuple[str, ...]) -> bool:
        return any(host == name or host.endswith("." + name) for name in names)

    if within(_LOOPBACK_HOSTS) or host.startswith("127."):
        return "simulator"
    if within(_TESTNET_HOSTS):
        return "testnet"
    return "production" if within(_PRODUCTION_HOSTS) else "unknown"


def ways_to_set(name: str) -> str:
    """A sentence with every way to set the field `name`."""
    return (
        f"Set {name} as keyword {name}=, environment variable BINANCE_{name.upper()}, {name}: in the YAML file "
        f"(--config), or in the Airflow connection"
    )


def _config_error(error: ValidationError, values: Mapping[str, Any]) -> ConfigError:
    lines = []
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else "?"
        if detail["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name!r}; accepted: {' '.join(BinanceConfig.model_fields)}")
            continue
        annotation = str(BinanceConfig.model_fields[name].annotation) if name in BinanceConfig.model_fields else ""
        # A mistyped proxy may have its password where no mask finds it; its own error says what can be shown.
        shown = "" if "Secret" in annotation or name == "proxies" else f" {mask_url(repr(values.get(name)))}"
        lines.append(f"setting {name}{shown}: {detail['msg']}. {ways_to_set(name)}")
    return ConfigError("; ".join(lines), field=name)


def _from_file(path: str | Path) -> dict[str, Any]:
    import yaml  # here, since only --config needs it

    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {str(path)!r}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a time that is none, or bytes that are no UTF-8
        # Not its text, which quotes the file, secrets included.
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or type(error).__name__
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"the configuration file {str(path)!r} is not YAML{where}: {problem}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"the configuration file {str(path)!r} must be a mapping of setting to value")
    return {str(name): value for name, value in loaded.items()}
