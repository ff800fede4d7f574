"""What an API key may do, as far as Binance tells it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import RequestRejectedError
from airflow_provider_binance.market import Market
from airflow_provider_binance.masking import mask_url

log = logging.getLogger(__name__)

_ACCOUNT = {Market.SPOT: "/api/v3/account", Market.UM: "/fapi/v2/account", Market.CM: "/dapi/v1/account"}
_RIGHTS = "/sapi/v1/account/apiRestrictions"


@dataclass(frozen=True, slots=True)
class AccountRights:
    """What the API key may do; `warnings` are sentences for whoever set it up. None: the venue does not tell."""

    may_trade: bool
    may_withdraw: bool
    is_ip_restricted: bool | None
    warnings: tuple[str, ...] = ()


def check_account(config: BinanceConfig, market: Market, signed_get: Callable[[str], bytes]) -> AccountRights:
    """What the key may do, by one signed GET of a path; logs a warning when it may do more than read.

    Raises:
        RequestRejectedError: the host has no accounts.
    """
    # The account says what the account may do, apiRestrictions what the key may; the test hosts have no /sapi.
    knows_key = market is Market.SPOT and config.environment != "testnet"
    try:
        found = json.loads(signed_get(_RIGHTS if knows_key else _ACCOUNT[market]))
    except RequestRejectedError as error:
        if error.status != 404:
            raise
        raise RequestRejectedError(
            f"{error}. {market}_rest_url={mask_url(config.rest_url(market))} has no accounts, so no key can be tried "
            f"there; data-only hosts serve public data, which needs no key",
            **error.facts,
        ) from None
    trade = ("enableSpotAndMarginTrading", "enableFutures", "enableMargin") if knows_key else ("canTrade",)
    may_trade = any(bool(found.get(name)) for name in trade)
    may_withdraw = bool(found.get("enableWithdrawals" if knows_key else "canWithdraw"))
    who = "this API key" if knows_key else "the account of this key, and maybe the key (Binance does not say here),"
    warnings = [
        f"{who} may {what}; loading market data needs no more than reading"
        for what, may in (("trade", may_trade), ("withdraw", may_withdraw))
        if may
    ]
    for warning in warnings:
        log.warning("%s: %s", market, warning)
    return AccountRights(may_trade, may_withdraw, found.get("ipRestrict") if knows_key else None, tuple(warnings))
