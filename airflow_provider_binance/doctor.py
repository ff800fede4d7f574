"""`examine`: is everything there that a load needs? Hosts, clock, key, weight budget, store, disk, and each remedy.

Nothing is changed but the count of the few requests in the weight budget. A check that is not `ok` would stop loads or
make them wrong; one that is `ok` and has a remedy is a warning.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    ArchiveError,
    ArchiveFileMissingError,
    AuthenticationError,
    BannedError,
    BinanceError,
    ClockSkewError,
    ConfigError,
    IngestError,
    RestrictedLocationError,
    StoreError,
    StoreRightsError,
    StoreVersionError,
    ThrottledError,
)
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url, mask_values
from airflow_provider_binance.proxies import proxy_of
from airflow_provider_binance.reports import SCHEMA
from airflow_provider_binance.rest.budget_stores import BudgetStore, MemoryBudgetStore
from airflow_provider_binance.rest.client import BinanceRest
from airflow_provider_binance.rest.failures import way_out
from airflow_provider_binance.store.base import StoreState, open_store

#: Somebody waits for the answers.
TIMEOUT_SECONDS = 8.0
#: Binance refuses signed requests of a clock that is further ahead; loads go by Binance's clock and are not harmed.
CLOCK_SECONDS = 1.0
#: A month of 1s klines is 130 MB zipped, and a few files are fetched at a time.
LEAST_FREE_BYTES = 1_000_000_000
_OTHER_PLACE = "name another place in store_url, or make the folder that it names"
_CAUSE = re.compile(r"\(Caused by (.+)\)$")
#: Asked for to see the archive answer; whether it is there is no matter.
_PROBE = "data/spot/monthly/klines/BTCUSDT/1d/BTCUSDT-1d-2024-01.zip.CHECKSUM"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `status` is what the command ends with if it is not ok."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None
    status: int = 4

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All checks, in order."""

    checks: tuple[Check, ...]

    @property
    def exit_status(self) -> int:
        """0 if all are ok; else that of the settings, then the worst."""
        found = {check.status for check in self.checks if not check.ok}
        return 2 if 2 in found else max(found, default=0)

    def to_dict(self) -> dict[str, Any]:
        """The document of `doctor --json`."""
        return {"schema": SCHEMA, "checks": [check.to_dict() for check in self.checks]}


def examine(config: BinanceConfig | None = None, markets: Sequence[Market] | None = None) -> DoctorReport:
    """Look at everything that a load with these settings needs, in the given markets (default: all three).

    Never raises an IngestError for what it finds: that becomes a check that is not ok.
    """
    config = config or BinanceConfig.load()
    quick = min(config.request_timeout_seconds, TIMEOUT_SECONDS)
    config = config.model_copy(update={"request_timeout_seconds": quick})
    secrets = config.secrets()

    def masked(check: Check) -> Check:
        texts = (mask_values(" ".join((text or "").split()), secrets) for text in (check.detail, check.remedy))
        detail, remedy = texts
        return Check(check.name, check.ok, detail, remedy or None, check.status)

    found = [*_of_binance(config, tuple(markets or Market)), _archive(config), *_of_store(config), *_disks(config)]
    return DoctorReport(tuple(masked(check) for check in found))


def _of_binance(config: BinanceConfig, markets: Sequence[Market]) -> Iterator[Check]:
    """Hosts, clock, key and the weight budget that all of them are asked through."""
    # Hosts are reached without a key: one that cannot be used is told once, not with every host.
    keyless = config.model_copy(update=dict.fromkeys(("api_key", "api_secret", "private_key", "private_key_password")))
    try:
        with BinanceRest(keyless, priority="live", attempts=1) as rest:
            budget = rest.budget_store
            found = list(_hosts(rest, markets))
        checked = _budget(config, budget)
    except (ConfigError, StoreError) as error:
        checked = _no_budget(config, error)
        budget = MemoryBudgetStore()
        with BinanceRest(keyless, budget_store=budget, priority="live", attempts=1) as rest:
            found = list(_hosts(rest, markets))
    yield from found
    reached = [market for market, check in zip(markets, found, strict=False) if check.ok]
    with closing(budget):
        yield _key(config, budget, reached)
    yield checked


def _hosts(rest: BinanceRest, markets: Sequence[Market]) -> Iterator[Check]:
    """Each host, and the clock of the first that is reached; raises ConfigError or StoreError of the weight budget."""
    hosts = {market: _host(rest, market) for market in markets}
    yield from hosts.values()
    yield _clock(rest, [market for market, check in hosts.items() if check.ok])


def _budget(config: BinanceConfig, store: BudgetStore) -> Check:
    setting = f"rate_limit_store={mask_url(config.rate_limit_store)}"
    place = getattr(store, "url", None) or getattr(store, "path", None)
    if place is None:
        alone = "it is this process's alone: two processes behind one address would get it banned"
        shared = "set rate_limit_store to auto, unless this process is alone behind its address"
        return Check("weight_budget", True, f"{setting}: {alone}", shared)
    return Check("weight_budget", True, f"{setting}: {mask_url(str(place))}, address {config.egress!r}")


def _no_budget(config: BinanceConfig, error: IngestError) -> Check:
    detail = f"rate_limit_store={mask_url(config.rate_limit_store)}: {error}"
    remedy = "set rate_limit_store to what all processes behind this address can reach, or start its server"
    if isinstance(error, StoreRightsError):
        remedy = (
            "have the owner run what `binance-ingest migrate --sql` prints, and grant the role the rights named above"
        )
    return Check("weight_budget", False, detail, remedy, error.exit_status)


def _host(rest: BinanceRest, market: Market) -> Check:
    name, url = f"{market}_rest", rest.config.rest_url(market)
    try:
        seconds = rest.ping(market)
    except IngestError as error:
        if _is_of_budget(error):
            raise
        return Check(name, False, _told(url, error), _remedy(error, f"{market}_rest_url", market), error.exit_status)
    return Check(name, True, f"{mask_url(url)} answers in {seconds * 1000:.0f} ms{_through(url, rest.config)}")


def _is_of_budget(error: IngestError) -> bool:
    return isinstance(error, StoreError) or error.facts.get("field") == "rate_limit_store"


def _clock(rest: BinanceRest, reached: Sequence[Market]) -> Check:
    if not reached:
        return Check("clock", True, "not compared: no REST host was reached")
    try:
        offset = rest.clock_offset_seconds(reached[0])
    except BinanceError as error:
        return Check("clock", False, str(error), _remedy(error, f"{reached[0]}_rest_url", reached[0]))
    if rest.config.environment == "simulator":
        return Check("clock", True, f"the simulator's clock is {offset:+.3f} s from this machine's, as it was set")
    told = f"this machine's clock is {abs(offset):.3f} s {'behind' if offset > 0 else 'ahead of'} Binance's"
    if abs(offset) <= CLOCK_SECONDS:
        return Check("clock", True, told)
    return Check("clock", False, told, "have the clock set by NTP (chrony, systemd-timesyncd)", 3)


def _key(config: BinanceConfig, budget: BudgetStore, reached: Sequence[Market]) -> Check:
    name = "api_key"
    if config.api_key is None:
        return Check(name, True, "no API key is set; public market data needs none")
    if not reached:
        return Check(name, True, "not tried: no REST host was reached")
    try:
        with BinanceRest(config, budget_store=budget, priority="live", attempts=1) as rest:
            rights = rest.account_check(reached[0])
    except ClockSkewError as error:
        return Check(name, False, str(error), "have the clock set by NTP; is a proxy holding requests back?")
    except AuthenticationError as error:
        return Check(name, False, str(error), "look at the key at Binance (API Management): spelling, IP list, rights")
    except IngestError as error:
        return Check(name, False, str(error), _remedy(error, f"{reached[0]}_rest_url", reached[0]), error.exit_status)
    detail = f"works on {reached[0]}: a signed call that only reads succeeded"
    if rights.is_ip_restricted is not None:
        detail += "; bound to IP addresses" if rights.is_ip_restricted else "; not bound to IP addresses"
    if not rights.warnings:
        return Check(name, True, detail)
    return Check(name, True, "; ".join((detail, *rights.warnings)), "use a key with nothing but the right to read")


def _archive(config: BinanceConfig) -> Check:
    name = "archive"
    if not config.has_archive:
        return Check(name, True, "the test hosts have none: everything comes by REST")
    listing = {"prefix": "data/spot/", "delimiter": "/", "max-keys": "1"}
    url, listing_url = config.archive_url, config.archive_listing_url
    asked: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("archive_url", f"{url}/{_PROBE}", {}),
        ("archive_listing_url", listing_url, listing),
    )
    with closing(ArchiveHttp(config, attempts=1)) as http:
        for setting, where, params in asked:
            try:
                http.get(where, lambda answer: answer.content, params=params, ref=urlsplit(where).netloc)
            except ArchiveFileMissingError:
                pass  # it answers
            except IngestError as error:
                return Check(name, False, _told(where, error), _remedy(error, setting, None), error.exit_status)
    return Check(name, True, f"{mask_url(url)} and its listing answer{_through(url, config)}")


def _of_store(config: BinanceConfig) -> Iterator[Check]:
    """Whether the store can be reached and written, and whether its tables are those of this version."""
    try:
        with closing(open_store(config.store_url, schema=config.store_schema, create=False)) as store:
            url, state = store.url, store.inspect()
    except StoreVersionError as error:
        yield Check("store", True, f"{mask_url(config.store_url)} answers")
        yield Check("store_version", False, str(error), "upgrade airflow-provider-binance here", 5)
        return
    except IngestError as error:
        remedy = {StoreRightsError: "have the owner grant the rights", ConfigError: _OTHER_PLACE}.get(type(error))
        remedy = remedy or "is store_url right, and the database running?"
        yield Check("store", False, str(error), remedy, error.exit_status)
        return
    yield _rights(config, url, state)
    yield _version(state)


def _rights(config: BinanceConfig, url: str, state: StoreState) -> Check:
    if state.refused:
        detail = f"{url}: this process may not {', '.join(state.refused)}"
        if url.startswith("sqlite:"):
            remedy = "let this user write there, or name another place in store_url"
        else:
            grants = "have the owner GRANT these"
            remedy = grants if state.has_tables else f"{grants}, or run what `binance-ingest migrate --sql` prints"
        return Check("store", False, detail, remedy, 5)
    if state.environment not in (None, config.environment):
        detail = f"{url} holds data of {state.environment}, and these settings are of {config.environment}"
        return Check("store", False, detail, "use another store (store_url, store_schema) for this environment", 5)
    holds = f"holds data of {state.environment}" if state.environment else "holds no data yet"
    return Check("store", True, f"{url} can be read and written; it {holds}")


def _version(state: StoreState) -> Check:
    if not state.has_tables:
        return Check("store_version", True, "no tables yet: the first load makes them")
    if state.lacking:
        detail = f"the tables are older than this version: lacking {', '.join(state.lacking)}"
        return Check("store_version", False, detail, "run `binance-ingest migrate`", 5)
    return Check("store_version", True, "the tables are those of this version")


def _disks(config: BinanceConfig) -> Iterator[Check]:
    """Room where archive files are fetched to, and where a SQLite store grows."""
    yield _disk("temporary_disk", Path(tempfile.gettempdir()), "free space there, or name another folder in TMPDIR")
    if config.store_url.startswith("sqlite:///"):
        path = Path(config.store_url.removeprefix("sqlite:///")).expanduser().absolute().parent
        yield _disk("store_disk", path, "free space there, or move the store to a larger disk (store_url)")


def _disk(name: str, folder: Path, remedy: str) -> Check:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, False, f"{folder}: {error.strerror or error}", remedy, 5)
    told = f"{free / 1e9:.1f} GB free in {folder}"
    return Check(name, True, told) if free >= LEAST_FREE_BYTES else Check(name, False, told, remedy, 5)


def _told(url: str, error: IngestError) -> str:
    """The error without what every failed connection repeats."""
    cause = _CAUSE.search(str(error))
    return f"{mask_url(url)} is not reached: {cause[1]}" if cause else str(error)


def _through(url: str, config: BinanceConfig) -> str:
    proxy = proxy_of(url, config.proxies)
    return f", through the proxy {proxy}" if proxy else ""


#: What to do about the errors that have one answer; the others are about a host that is not reached.
_REMEDIES: tuple[tuple[type[IngestError], Callable[[IngestError], str]], ...] = (
    (BannedError, lambda error: f"let nobody send from this address for {error.retry_after or 0:.0f} s"),
    (ThrottledError, lambda error: f"ask again in {error.retry_after or 0:.0f} s; who else uses this address?"),
    (AuthenticationError, lambda error: "set proxies with the proxy's user and password"),
    (ConfigError, lambda error: "set what the message names"),
)


def _remedy(error: IngestError, setting: str, market: Market | None) -> str:
    if isinstance(error, RestrictedLocationError):
        return way_out(market) if market else "send through a proxy elsewhere (proxies)"
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return remedy(error)
    if isinstance(error, ArchiveError):
        return f"is {setting} right?"
    return f"is {setting} right, and may this machine get there (name resolution, firewall, proxies)?"


__all__ = ["Check", "DoctorReport", "examine"]
