"""The weight budget's rule, without clock, store or sleep: state in, "go" or "wait n seconds" out.

Binance counts request weight per IP address in fixed windows of its own UTC clock (one minute; five for two special
pools). So does `PoolState`, one per pool, a small value that travels as JSON between all who share the address.
Instants are milliseconds of the *server's* clock; `guard_ms` is how far the caller's idea of that clock may be off. A
request within the guard of a window's edge may be counted on either side, so it must fit on both and is booked on both.

Who waits holds a ticket. Of one priority, earlier tickets come first; a lower priority leaves a fifth of the window
while a higher one waits; a ticket that is two windows old comes before everything, so nobody waits for ever. A ticket
whose holder does not come back lapses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.rest.pools import Grant, Pool, PoolState, Priority, Ticket, Wait, Window

# Others may share the address, and what they use is known only from the next answer's header.
HEADROOM = 0.03
# What a lower priority leaves free while a higher one waits.
RESERVE = 0.2
# So long a priority counts as waiting after its last request: one that loads page by page does not ask without a break.
STICKY_MS = 2_000
# So long after its time a ticket's holder may come back before others take its place.
TICKET_GRACE_MS = 5_000
# Who is held up by others' tickets only asks again so often, since those may lapse.
RECHECK_MS = 5_000
AGED_WINDOWS = 2
KEPT_WINDOWS = 6
LONGEST_BAN_MS = 4 * 86_400_000


def usable(state: PoolState, pool: Pool, cap: int | None = None) -> int:
    """How much weight of a window may be booked: the limit less the headroom, and not more than `cap`."""
    limit = state.limit or pool.limit
    allowed = limit - max(1, round(limit * HEADROOM)) if limit > 1 else limit
    return min(allowed, cap) if cap is not None else allowed


def acquire(
    state: PoolState,
    pool: Pool,
    *,
    now_ms: int,
    cost: int,
    priority: Priority,
    ticket: str,
    guard_ms: int = 0,
    cap: int | None = None,
) -> tuple[PoolState, Grant | Wait]:
    """Book `cost` now, or say how long to wait.

    `ticket` identifies the request over its tries.

    Raises:
        InputError: the cost is higher than what a whole window allows.
    """
    allowed = usable(state, pool, cap)
    if cost > allowed:
        why = f"rate_limit_requests_per_minute={cap}" if cap is not None and cap == allowed else "the venue's limit"
        raise InputError(f"a request of weight {cost} never fits into {allowed} per window of pool {pool.name} ({why})")
    touched = _touched(now_ms, guard_ms, pool)
    state = _pruned(state, now_ms, pool)
    if state.suspect:
        used_up = {w: replace(state.windows.get(w, Window()), used=max(allowed, pool.limit)) for w in touched}
        state = replace(state, windows={**state.windows, **used_up}, suspect=False)
    state = replace(state, asked_ms=_with(state.asked_ms, priority, now_ms))
    if now_ms < state.hold_until_ms:
        return _queue(state, ticket, priority, cost, now_ms, state.hold_until_ms - now_ms, state.hold_status)
    leave = _leave_for_others(state, touched, allowed, ticket, priority, now_ms, pool)
    full = [w for w in touched if _least(state, w) + cost > allowed]
    if full:
        opens_ms = (max(full) + 1) * pool.window_ms + guard_ms
        return _queue(state, ticket, priority, cost, now_ms, opens_ms - now_ms, 0)
    is_probe = False
    if any(_most(state, w, pool, allowed) + cost + leave > allowed for w in touched):
        is_probe = all(_may_probe(state, w, now_ms, pool, allowed, cost + leave) for w in touched)
        if not is_probe:
            opens_ms = (touched[-1] + 1) * pool.window_ms + guard_ms
            return _queue(state, ticket, priority, cost, now_ms, min(opens_ms - now_ms, RECHECK_MS), 0)
    windows = dict(state.windows)
    for w in touched:
        old = windows.get(w, Window())
        by = _with(old.by, priority, old.by[priority] + cost)
        probe_ms = now_ms - w * pool.window_ms if is_probe else old.probe_ms
        windows[w] = replace(old, used=old.used + cost, in_flight=old.in_flight + cost, probe_ms=probe_ms, by=by)
    tickets = tuple(t for t in state.tickets if t.id != ticket)
    sure = windows[touched[0]].sure
    return replace(state, windows=windows, tickets=tickets), Grant(cost, priority, touched, now_ms, sure)


def settle(
    state: PoolState, pool: Pool, grant: Grant, *, now_ms: int, guard_ms: int = 0, used: int | None = None
) -> PoolState:
    """The request of `grant` is over; `used` is the used weight that its answer reported, if it did.

    The report counts only if it is sure which window it is of: one of an older window must not count in the new one.
    What it has beyond our own bookings was used by others.
    """
    touched = _touched(now_ms, guard_ms, pool)
    windows = dict(state.windows)
    for w in grant.windows:
        if w in windows:
            windows[w] = replace(windows[w], in_flight=max(0, windows[w].in_flight - grant.cost))
    for w in touched:
        # It was slow: it may have been counted when it arrived there, not when it was sent.
        if w not in grant.windows:
            late = windows.get(w, Window())
            windows[w] = replace(late, used=late.used + grant.cost)
    first, last = grant.windows[0], touched[-1]
    if used is not None and touched == grant.windows and len(touched) == 1:
        # It says how things were since its request went, and may be told late.
        seen_ms = max(1, grant.at_ms - first * pool.window_ms)
        windows[first] = _reported(windows.get(first, Window()), grant, used, seen_ms, pool)
    elif used is not None and used < grant.sure + grant.cost and last == first + 1:
        # Less than the first one surely had: the counter has begun anew, so it was counted in the next window.
        seen_ms = max(1, now_ms - last * pool.window_ms)
        windows[last] = _reported(windows.get(last, Window()), replace(grant, sure=0), used, seen_ms, pool)
    return replace(state, windows=windows)


def give_back(state: PoolState, grant: Grant) -> PoolState:
    """The request of `grant` will never be sent: its weight is free again."""
    windows = dict(state.windows)
    for w in grant.windows:
        if (old := windows.get(w)) is not None:
            by = _with(old.by, grant.priority, max(0, old.by[grant.priority] - grant.cost))
            used, in_flight = max(0, old.used - grant.cost), max(0, old.in_flight - grant.cost)
            windows[w] = replace(old, used=used, in_flight=in_flight, by=by)
    return replace(state, windows=windows)


def forgo(state: PoolState, ticket: str) -> PoolState:
    """Whoever holds `ticket` will not ask again: nobody need leave anything to it."""
    return replace(state, tickets=tuple(t for t in state.tickets if t.id != ticket))


def hold(state: PoolState, until_ms: int, status: int) -> PoolState:
    """Nobody sends before `until_ms`, since Binance answered `status` (429 or 418); never shortens a hold."""
    if until_ms <= state.hold_until_ms:
        return state
    return replace(state, hold_until_ms=until_ms, hold_status=status)


def learn(state: PoolState, limit: int) -> PoolState:
    """The venue says that the pool's limit is `limit`; nonsense is not believed."""
    return replace(state, limit=limit) if limit > 0 else state


def _touched(now_ms: int, guard_ms: int, pool: Pool) -> tuple[int, ...]:
    first, last = (now_ms - guard_ms) // pool.window_ms, (now_ms + guard_ms) // pool.window_ms
    return tuple(range(first, last + 1))


def _reported(window: Window, grant: Grant, used: int, seen_ms: int, pool: Pool) -> Window:
    """With what a report says of the others: it has counted what was sure when the request went and the request itself,
    and at most all that we booked until now. In between the former knowledge stays."""
    low, high = max(0, used - window.used), max(0, used - grant.sure - grant.cost)
    window = replace(window, sure=window.sure + grant.cost)
    if seen_ms < window.seen_ms:  # a later request was answered first: no news but that it was so many at least
        foreign = max(window.foreign, low)
        return replace(window, foreign=foreign, foreign_high=max(window.foreign_high, foreign))
    foreign = min(max(window.foreign, low), high)
    if not window.seen_ms:
        window = replace(window, then_ms=seen_ms, then_foreign=foreign)
    elif seen_ms - window.then_ms >= pool.window_ms // 3:
        window = replace(window, then_ms=window.seen_ms, then_foreign=window.foreign)
    return replace(window, foreign=foreign, foreign_high=high, seen_ms=seen_ms)


def _least(state: PoolState, window: int) -> int:
    """The least that may have been counted in a window, or will be of what is under way."""
    # What was sent in the window before and is not answered yet may arrive in this one.
    before = state.windows.get(window - 1, Window())
    known = state.windows.get(window, Window())
    return known.used + known.foreign + before.in_flight


def _rate(state: PoolState, window: int, pool: Pool) -> float:
    """What the others use in a millisecond, rather too much than too little."""
    known = state.windows.get(window, Window())
    rate = _seen_rate(known, pool)
    # What was seen in the first moments is no rate yet; until a sixth of the window it is the last one's, if higher.
    if known.seen_ms < pool.window_ms // 6:
        rate = max(rate, _seen_rate(state.windows.get(window - 1, Window()), pool))
    return rate


def _seen_rate(window: Window, pool: Pool) -> float:
    """The higher one of the rate since the window's start and the rate since an earlier report.

    The former takes all for theirs that may be: what of ours is in flight could hide them until the window is full.
    """
    least_ms = pool.window_ms // 120
    rate = window.foreign_high / max(window.seen_ms, least_ms)
    if (since_ms := window.seen_ms - window.then_ms) >= least_ms:
        rate = max(rate, (window.foreign - window.then_foreign) / since_ms)
    return rate


def _most(state: PoolState, window: int, pool: Pool, allowed: int) -> int:
    """The most: with all that the reports leave open, and with what the others will yet use if they go on as before.

    Who fills the window in its first seconds leaves nothing to the others, and it is one address that is banned.
    """
    known = state.windows.get(window, Window())
    foreseen = min(int(_rate(state, window, pool) * max(0, pool.window_ms - known.seen_ms)), allowed // 2)
    return _least(state, window) + known.foreign_high - known.foreign + foreseen


def _may_probe(state: PoolState, window: int, now_ms: int, pool: Pool, allowed: int, cost: int) -> bool:
    """Whether it is time for a request that brings a new report: the others may have stopped. Only one goes, and only
    if there is room for it and for what the others used since the last report."""
    known = state.windows.get(window, Window())
    now_in_ms = now_ms - window * pool.window_ms
    if now_in_ms - max(known.seen_ms, known.probe_ms) < RECHECK_MS:
        return False
    since = int(_rate(state, window, pool) * (now_in_ms - known.seen_ms))
    return _least(state, window) + min(since, allowed // 2) + cost <= allowed


def _leave_for_others(
    state: PoolState, touched: Iterable[int], allowed: int, ticket: str, priority: Priority, now_ms: int, pool: Pool
) -> int:
    """How much of the window this request must leave for those whose turn is before its own."""
    position = next((i for i, t in enumerate(state.tickets) if t.id == ticket), len(state.tickets))
    aged_since = now_ms - AGED_WINDOWS * pool.window_ms
    is_aged = position < len(state.tickets) and state.tickets[position].since_ms <= aged_since
    aged = higher = equal = 0
    for i, other in enumerate(state.tickets):
        if other.id == ticket:
            continue
        if other.since_ms <= aged_since:
            aged += other.cost if (i < position or not is_aged) else 0
        elif is_aged:
            continue
        elif other.priority < priority:
            higher += other.cost
        elif other.priority == priority and i < position:
            equal += other.cost
    if is_aged:
        return aged
    reserve = 0
    if higher or any(state.asked_ms[p] > now_ms - STICKY_MS for p in range(priority)):
        share = int(allowed * RESERVE)
        taken = max(sum(state.windows.get(w, Window()).by[:priority]) for w in touched)
        reserve = max(share - taken, min(higher, share))
    return aged + equal + reserve


def _queue(
    state: PoolState, ticket: str, priority: Priority, cost: int, now_ms: int, wait_ms: int, status: int
) -> tuple[PoolState, Wait]:
    until_ms = now_ms + wait_ms + TICKET_GRACE_MS
    tickets = [replace(t, until_ms=until_ms) if t.id == ticket else t for t in state.tickets]
    if all(t.id != ticket for t in tickets):
        tickets.append(Ticket(ticket, int(priority), cost, now_ms, until_ms))
    return replace(state, tickets=tuple(tickets)), Wait(max(wait_ms, 1) / 1000, status)


def _pruned(state: PoolState, now_ms: int, pool: Pool) -> PoolState:
    """Without windows that are over and tickets that lapsed.

    Who has a wrong clock until its first answer must not wipe out what the others know: so the nearest windows stay.
    """
    now = now_ms // pool.window_ms
    nearest = sorted(state.windows, key=lambda w: abs(w - now))[:KEPT_WINDOWS]
    tickets = (t for t in state.tickets if now_ms <= t.until_ms and t.since_ms <= now_ms + pool.window_ms)
    # A hold in the far future is another clock's (a simulator's that was set back): no ban is longer than 3 days.
    held = state.hold_until_ms if state.hold_until_ms - now_ms <= LONGEST_BAN_MS else 0
    return replace(state, windows={w: state.windows[w] for w in nearest}, tickets=tuple(tickets), hold_until_ms=held)


def _with(values: tuple[int, int, int, int], at: int, value: int) -> tuple[int, int, int, int]:
    a, b, c, d = (value if i == at else v for i, v in enumerate(values))
    return (a, b, c, d)
