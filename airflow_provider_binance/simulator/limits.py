"""Request weight: what each request costs, Binance's fixed windows, 429 and the bans after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_binance.simulator.intervals import DAY_MS, MINUTE_MS

# Spot has its own pool; the two futures hosts share one since June 2026.
POOL_OF_MARKET = {"spot": "spot", "um": "futures", "cm": "futures"}
WEIGHT_LIMIT = {"spot": 6000, "futures": 2400}
NO_LIMIT = 1_000_000
RAW_REQUEST_LIMIT = 300_000
RAW_WINDOW_MS = 5 * MINUTE_MS
# Of um: so many requests in five minutes, counted for themselves, and without a header.
REQUEST_POOLS = {"funding": 500, "statistics": 1000}

# So many requests of one window may be answered 429 before the address is banned.
PATIENCE = 5
# So many may come while a ban lasts, from whoever has not heard of it yet, before it is laid on anew, and longer.
BANNED_PATIENCE = 50
FIRST_BAN_MS = 2 * MINUTE_MS
LONGEST_BAN_MS = 3 * DAY_MS

FUTURES_TICKS = {"trades": 5, "historicalTrades": 200, "aggTrades": 20}
FIXED_WEIGHT = {
    "spot": {
        "ping": 1,
        "time": 1,
        "exchangeInfo": 20,
        "klines": 2,
        "uiKlines": 2,
        "trades": 25,
        "historicalTrades": 25,
        "aggTrades": 4,
        "account": 20,
        "apiRestrictions": 1,
    },
    "um": FUTURES_TICKS | {"ping": 1, "time": 1, "exchangeInfo": 1, "account": 5, "balance": 5},
    "cm": FUTURES_TICKS | {"ping": 1, "time": 1, "exchangeInfo": 1, "account": 5, "balance": 1},
}
# (highest limit of the band, weight): measured on um, where the bands include their top; documented on cm.
KLINE_BANDS = {
    "um": ((100, 1), (500, 2), (1000, 5)),
    "cm": ((99, 1), (499, 2), (1000, 5)),
}
WEIGHT_ABOVE_BANDS = 10
WEIGHT_WITHOUT_LIMIT = 5
# Spot takes every limit; (highest of the band, weight).
SPOT_DEPTH_BANDS = ((100, 5), (500, 25), (1000, 50))
SPOT_DEPTH_WEIGHT_ABOVE = 250
FUTURES_DEPTH_WEIGHT = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
# Measured on um, where 500 levels without a limit cost as little as a refused limit; documented on cm.
DEPTH_WITHOUT_LIMIT = {"spot": 5, "um": 1, "cm": 10}
REFUSED_DEPTH_WEIGHT = 1
# The ticker of all symbols.
TICKERS_WEIGHT = 40


def weight_of(market: str, endpoint: str, limit: str | None, *, has_symbol: bool = True) -> int:
    """Weight of a request; ``limit`` is the parameter as sent. Refused requests cost the same."""
    asked = int(limit) if limit is not None and limit.isascii() and limit.isdigit() else None
    if endpoint == "klines" and market in KLINE_BANDS:
        if asked is None:
            return WEIGHT_WITHOUT_LIMIT
        return next((weight for top, weight in KLINE_BANDS[market] if asked <= top), WEIGHT_ABOVE_BANDS)
    if endpoint == "ticker/24hr":
        return 1 if has_symbol else TICKERS_WEIGHT
    if endpoint == "depth":
        if asked is None:
            return DEPTH_WITHOUT_LIMIT[market]
        if market != "spot":
            return FUTURES_DEPTH_WEIGHT.get(asked, REFUSED_DEPTH_WEIGHT)
        return next((weight for top, weight in SPOT_DEPTH_BANDS if asked <= top), SPOT_DEPTH_WEIGHT_ABOVE)
    return FIXED_WEIGHT[market].get(endpoint, 1)


@dataclass(frozen=True)
class Verdict:
    """What the limiter says: 200, 429 or 418, with the used weight after this request."""

    status: int
    used_weight: int
    retry_after: int = 0
    banned_until_ms: int = 0


@dataclass
class _Account:
    window: int = -1
    used: int = 0
    raw_window: int = -1
    raw_used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until_ms: int = 0
    while_banned: int = 0


@dataclass
class WeightLimiter:
    """Counts weight per address and pool in fixed windows of the simulator's clock.

    The windows are UTC minutes. Over the limit is 429 until the window ends; more than ``PATIENCE`` refusals in one
    window are a ban, each longer than the last; who goes on all the same is banned anew. With ``enabled`` false it only
    counts and holds to bans that were laid on from outside.
    """

    enabled: bool = True
    limits: dict[str, int] = field(default_factory=lambda: dict(WEIGHT_LIMIT))
    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)

    def charge(self, address: str, pool: str, weight: int, now_ms: int) -> Verdict:
        """Charge one request and judge it."""
        account = self._accounts.setdefault((address, pool), _Account())
        window = now_ms // MINUTE_MS
        if window != account.window:
            account.window, account.used, account.refused = window, 0, 0
        raw_window = now_ms // RAW_WINDOW_MS
        if raw_window != account.raw_window:
            account.raw_window, account.raw_used = raw_window, 0
        account.used += weight
        account.raw_used += 1
        if now_ms < account.banned_until_ms:
            account.while_banned += 1
            if account.while_banned > BANNED_PATIENCE:
                return self.ban(address, pool, now_ms)
            return self._banned(account, now_ms)
        if not self.enabled:
            return Verdict(200, account.used)
        weight_over = account.used > self.limits[pool]
        raw_over = pool == "spot" and account.raw_used > RAW_REQUEST_LIMIT
        if not weight_over and not raw_over:
            return Verdict(200, account.used)
        account.refused += 1
        if account.refused > PATIENCE:
            return self.ban(address, pool, now_ms)
        window_ms = MINUTE_MS if weight_over else RAW_WINDOW_MS
        return Verdict(429, account.used, retry_after=-(-(window_ms - now_ms % window_ms) // 1000))

    def count(self, address: str, pool: str, now_ms: int) -> Verdict:
        """Count one request of a pool that has no weight and judge it; who is banned from futures is so here."""
        account = self._accounts.setdefault((address, pool), _Account())
        window = now_ms // RAW_WINDOW_MS
        if window != account.raw_window:
            account.raw_window, account.raw_used = window, 0
        account.raw_used += 1
        if self.is_banned(address, "futures", now_ms):
            return self._banned(self._accounts[address, "futures"], now_ms)
        if not self.enabled or account.raw_used <= REQUEST_POOLS[pool]:
            return Verdict(200, 0)
        return Verdict(429, 0, retry_after=-(-(RAW_WINDOW_MS - now_ms % RAW_WINDOW_MS) // 1000))

    def announced(self, pool: str) -> int:
        """The limit per minute that exchangeInfo names: one that nobody reaches when there is none."""
        return self.limits[pool] if self.enabled else NO_LIMIT

    def ban(self, address: str, pool: str, now_ms: int, length_ms: int | None = None) -> Verdict:
        """Ban an address: for ``length_ms``, else two minutes, doubled with every ban before."""
        account = self._accounts.setdefault((address, pool), _Account())
        length = min(FIRST_BAN_MS * 2**account.bans, LONGEST_BAN_MS) if length_ms is None else length_ms
        account.bans += 1
        account.while_banned = 0
        account.banned_until_ms = max(account.banned_until_ms, now_ms + length)
        return self._banned(account, now_ms)

    def is_banned(self, address: str, pool: str, now_ms: int) -> bool:
        """Whether an address is banned now, without charging anything."""
        account = self._accounts.get((address, pool))
        return account is not None and now_ms < account.banned_until_ms

    def forgive(self) -> None:
        """Forget all counts and bans."""
        self._accounts.clear()

    @staticmethod
    def _banned(account: _Account, now_ms: int) -> Verdict:
        retry_after = -(-(account.banned_until_ms - now_ms) // 1000)
        return Verdict(418, account.used, retry_after, account.banned_until_ms)
