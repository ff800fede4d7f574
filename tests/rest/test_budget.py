"""The budget's rule, alone and in a made-up world of clients, delays, clock errors and foreign users of the address."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.rest.budget import acquire, forgo, give_back, hold, learn, settle, usable
from airflow_provider_binance.rest.pools import Grant, Pool, PoolState, Priority, Wait, Window

POOL = Pool("spot", 6000)
MINUTE = 60_000
T0 = 1_000_000 * MINUTE + 10_000


def ask(state, *, now=T0, cost=2, priority=Priority.BACKFILL, ticket="a", pool=POOL, guard=0, cap=None):
    return acquire(
        state, pool, now_ms=now, cost=cost, priority=priority, ticket=ticket, guard_ms=guard, cap=cap
    )  # fmt: skip


def fill(state, leave=0, *, now=T0, priority=Priority.BACKFILL, pool=POOL):
    room = usable(state, pool) - leave
    state, granted = ask(state, now=now, cost=room, priority=priority, ticket="filler", pool=pool)
    assert isinstance(granted, Grant)
    return settle(state, pool, granted, now_ms=now)


def test_a_window_is_filled_up_to_the_headroom_and_then_waits_for_the_next_minute():
    state = fill(PoolState())
    state, outcome = ask(state)
    assert outcome == Wait(50.0)
    state, outcome = ask(state, now=T0 + 50_000)
    assert isinstance(outcome, Grant)
    assert 0.95 * 6000 <= usable(state, POOL) < 6000


def test_a_cost_that_never_fits_is_refused_and_the_message_names_the_setting():
    with pytest.raises(InputError, match="rate_limit_requests_per_minute=5"):
        ask(PoolState(), cost=10, cap=5)
    with pytest.raises(InputError, match="weight 6001"):
        ask(PoolState(), cost=6001)


def test_the_header_tells_what_others_used():
    state, mine = ask(PoolState(), cost=2, ticket="a")
    state, _other = ask(state, cost=5, ticket="b")
    state = settle(state, POOL, mine, now_ms=T0 + 100, used=5800)
    window = state.windows[1_000_000]
    assert (window.used, window.foreign, window.foreign_high) == (7, 5793, 5798)
    _, outcome = ask(state, now=T0 + 200, cost=20)
    assert outcome == Wait(5.0), "it fits only if the report has counted the other request: asked again soon"
    _, outcome = ask(state, now=T0 + 200, cost=21)
    assert outcome == Wait(49.8)


def test_reports_that_have_not_counted_all_of_ours_are_no_foreign_use():
    state = PoolState()
    grants = []
    for i in range(16):
        state, grant = ask(state, cost=250, ticket=str(i))
        grants.append(grant)
    for i, grant in enumerate(grants):
        state = settle(state, POOL, grant, now_ms=T0 + 100, used=250 * (i + 1))
    window = state.windows[1_000_000]
    assert (window.used, window.foreign, window.in_flight, window.sure) == (4000, 0, 0, 4000)


def test_a_lower_report_never_lowers_the_count():
    state, mine = ask(PoolState(), cost=20)
    state = settle(state, POOL, mine, now_ms=T0 + 100, used=3)
    assert state.windows[1_000_000].used == 20


def test_a_late_answer_does_not_count_in_the_new_window():
    end = (T0 // MINUTE + 1) * MINUTE
    state, grant = ask(PoolState(), now=end - 100)
    state = settle(state, POOL, grant, now_ms=end + 100, used=5800)
    assert state.windows[1_000_001].used == 2, "only its own cost: it may have arrived late"
    assert isinstance(ask(state, now=end + 200, cost=5000)[1], Grant)


def test_a_late_answer_that_shows_the_new_counter_is_a_report_of_the_new_window():
    end = (T0 // MINUTE + 1) * MINUTE
    state = PoolState(windows={1_000_000: Window(used=5722, sure=2)})
    state, grant = ask(state, now=end - 100, cost=3)
    state = settle(state, POOL, grant, now_ms=end + 100, used=13)
    window = state.windows[1_000_001]
    assert grant.sure == 2
    assert (window.used, window.sure) == (3, 0), "13 may be the old counter, of which only 2 are sure"
    state, grant = ask(replace(state, windows={1_000_000: Window(used=90, sure=90)}), now=end - 100, cost=3)
    state = settle(state, POOL, grant, now_ms=end + 100, used=13)
    window = state.windows[1_000_001]
    assert (window.used, window.sure, window.foreign, window.foreign_high) == (3, 3, 10, 10)


def test_what_is_in_flight_over_the_edge_is_booked_on_the_new_window_too():
    end = (T0 // MINUTE + 1) * MINUTE
    state, _ = ask(PoolState(), now=end - 100, cost=3000)
    _, outcome = ask(state, now=end + 100, cost=3000, ticket="b")
    assert isinstance(outcome, Wait)


def test_within_the_guard_a_request_must_fit_on_both_sides_of_the_edge():
    end = (T0 // MINUTE + 1) * MINUTE
    state = fill(PoolState(), now=end - 5_000)
    state, outcome = ask(state, now=end + 100, guard=300)
    assert outcome == Wait(0.2), "the old window is full, and the server may still be in it"
    assert isinstance(ask(state, now=end + 301, guard=300)[1], Grant)


def test_a_hold_is_for_everyone_and_is_never_shortened():
    state = hold(PoolState(), T0 + 120_000, 418)
    state = hold(state, T0 + 1_000, 429)
    for priority in Priority:
        assert ask(state, priority=priority)[1] == Wait(120.0, 418)
    assert isinstance(ask(state, now=T0 + 120_000)[1], Grant)


def test_a_hold_of_another_clock_is_not_believed():
    assert isinstance(ask(hold(PoolState(), T0 + 10**10, 418))[1], Grant)


def test_a_learned_limit_replaces_the_documented_one():
    state = learn(learn(PoolState(), 2400), 0)
    assert usable(state, POOL) == 2328
    assert usable(state, POOL, cap=100) == 100


def test_a_lower_priority_leaves_a_fifth_while_a_higher_one_waits():
    full = fill(PoolState())
    state, outcome = ask(full, priority=Priority.REPAIR, ticket="repair")
    assert isinstance(outcome, Wait)
    opens = T0 + 50_000
    state, granted = ask(state, now=opens, cost=int(0.8 * 5820), ticket="b")
    assert isinstance(granted, Grant)
    state, outcome = ask(state, now=opens, cost=2, ticket="b2")
    assert isinstance(outcome, Wait)
    state, granted = ask(state, now=opens + 10, cost=1000, priority=Priority.REPAIR, ticket="repair")
    assert isinstance(granted, Grant)


def test_what_the_higher_priority_left_goes_to_the_lower_one_when_it_stops_asking():
    state, granted = ask(PoolState(), priority=Priority.LIVE, ticket="live")
    assert isinstance(granted, Grant)
    assert isinstance(ask(state, now=T0 + 100, cost=5800)[1], Wait)
    assert isinstance(ask(state, now=T0 + 2_100, cost=5800)[1], Grant)


def test_of_one_priority_the_earlier_ticket_comes_first():
    state = fill(PoolState())
    state, _ = ask(state, cost=4000, ticket="first")
    opens = T0 + 50_000
    state, outcome = ask(state, now=opens, cost=2000, ticket="second")
    assert isinstance(outcome, Wait)
    assert isinstance(ask(state, now=opens + 1, cost=4000, ticket="first")[1], Grant)


def test_a_ticket_whose_holder_died_lapses():
    state = fill(PoolState())
    state, _ = ask(state, cost=5820, ticket="dead")
    opens = T0 + 50_000
    _, outcome = ask(state, now=opens, ticket="b")
    assert outcome == Wait(5.0)
    assert isinstance(ask(state, now=opens + 5_001, ticket="b")[1], Grant)


def test_a_lost_state_starts_in_the_next_window():
    state = PoolState.from_json({"lost": True})
    assert state.suspect
    state, outcome = ask(state)
    assert outcome == Wait(50.0)
    assert isinstance(ask(state, now=T0 + 50_000)[1], Grant)


def test_a_client_with_a_wrong_clock_does_not_wipe_out_the_count():
    state = fill(PoolState())
    state, _ = ask(state, now=T0 + 3_600_000, ticket="wrong")
    assert isinstance(ask(state, now=T0 + 1)[1], Wait)


@pytest.mark.parametrize("broken", [{}, {"windows": 3}, {"windows": {"x": [1]}}, [], "text", 7])
def test_anything_that_is_no_state_is_a_suspect_one(broken):
    assert PoolState.from_json(broken).suspect


def test_unknown_priority_names_the_accepted_ones():
    with pytest.raises(InputError, match="live, repair, daily, backfill"):
        Priority.parse("urgent")
    assert Priority.parse("Daily") is Priority.DAILY


@given(st.data())
def test_a_state_survives_json(data):
    rng = random.Random(data.draw(st.integers()))
    state = PoolState()
    for i in range(20):
        state, outcome = ask(state, now=T0 + i * rng.randrange(9000), cost=rng.randrange(1, 3000), ticket=str(i))
        if isinstance(outcome, Grant) and rng.random() < 0.5:
            state = settle(state, POOL, outcome, now_ms=T0 + i * 5000, used=rng.randrange(6000))
    assert PoolState.from_json(json.loads(json.dumps(state.to_json()))) == state


class World:
    """A server that counts, clients that share one state and are wrong about the time by up to the guard."""

    def __init__(
        self, seed: int, limit: int, clients: int, costs: tuple[int, ...], foreign: int, guard: int = 150,
        foreign_from: int = 0,
    ):  # fmt: skip
        self.rng = random.Random(seed)
        self.pool = Pool("p", limit)
        self.state = PoolState()
        self.guard = guard
        self.counted: dict[int, int] = {}
        self.own: dict[int, int] = {}
        self.foreign_over = 0
        self.foreign_over_from = 2
        self.over: list[tuple[int, int]] = []
        self.waited_ms: list[int] = []
        self.foreign = foreign
        self.events: list[tuple[int, int, object]] = []
        self.order = itertools.count()
        for client in range(clients):
            error = self.rng.randint(-guard, guard)
            self.at(T0 + self.rng.randrange(2_000), ("ask", client, error, self.rng.choice(costs), None, None))
        if foreign:
            self.at(T0 + foreign_from, ("foreign",))

    def at(self, when: int, event: object) -> None:
        heapq.heappush(self.events, (when, next(self.order), event))

    def count(self, now: int, cost: int) -> int:
        window = now // MINUTE
        self.counted[window] = self.counted.get(window, 0) + cost
        return self.counted[window]

    def run(self, minutes: int) -> World:
        while self.events[0][0] < T0 + minutes * MINUTE:
            now, _, event = heapq.heappop(self.events)
            kind, *rest = event
            getattr(self, f"on_{kind}")(now, *rest)
        return self

    def on_foreign(self, now: int) -> None:
        used = self.count(now, self.rng.randrange(2 * self.foreign + 1))
        # They begin within the first minute: the second one cannot know yet how much they use in a whole one.
        if used > self.pool.limit and now // MINUTE >= T0 // MINUTE + self.foreign_over_from:
            self.foreign_over = max(self.foreign_over, used - self.pool.limit)
        self.at(now + 500, ("foreign",))

    def on_ask(self, now, client, error, cost, ticket, since) -> None:
        ticket, since = ticket or f"{client}-{now}", since or now
        self.state, outcome = acquire(
            self.state, self.pool, now_ms=now + error, cost=cost, priority=Priority(client % 4), ticket=ticket,
            guard_ms=self.guard,
        )  # fmt: skip
        if isinstance(outcome, Wait):
            wait = max(1, round(outcome.seconds * 1000))
            self.at(now + wait + self.rng.randrange(3), ("ask", client, error, cost, ticket, since))
            return
        self.waited_ms.append(now - since)
        self.at(now + self.rng.randrange(1, 200), ("arrive", client, error, cost, outcome))

    def on_arrive(self, now, client, error, cost, grant) -> None:
        used = self.count(now, cost)
        self.own[now // MINUTE] = self.own.get(now // MINUTE, 0) + cost
        if used > self.pool.limit:
            self.over.append((now, used))
        self.at(now + self.rng.randrange(1, 200), ("answer", client, error, cost, grant, used))

    def on_answer(self, now, client, error, cost, grant, used) -> None:
        self.state = settle(
            self.state, self.pool, grant, now_ms=now + error, guard_ms=self.guard, used=used
        )  # fmt: skip
        self.at(now + 1, ("ask", client, error, cost, None, None))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    limit=st.sampled_from([400, 1000]),
    clients=st.integers(1, 8),
    share=st.sampled_from([0.0, 0.1, 0.2]),
)
def test_no_server_minute_is_ever_over_the_limit(seed, limit, clients, share):
    """And the others, who would be banned with us, find the room that they used in the minute before."""
    world = World(seed, limit, clients, costs=(1, 2), foreign=round(limit * share / 120)).run(4)
    assert world.over == []
    assert world.foreign_over <= 0.1 * limit, "but for the scatter of their steps"


@pytest.mark.parametrize(("limit", "clients", "cost"), [(1200, 24, 2), (1200, 48, 2), (2400, 32, 10)])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_others_are_not_hidden_by_what_is_in_flight(limit, clients, cost, share):
    """They began at the end of a minute; in the next one they use less than is in flight, until it is used up."""
    world = World(1, limit, clients, costs=(cost,), foreign=round(limit * share / 120), foreign_from=35_000)
    world.foreign_over_from = 1
    world.run(3)
    assert world.over == []
    assert world.foreign_over <= 0.03 * limit, "but for the scatter of their steps"
    assert min(world.counted[T0 // MINUTE + i] for i in (1, 2)) >= 0.95 * limit


def test_a_report_that_is_told_late_is_taken_for_what_it_was():
    """The process stood still for 2 seconds: the others used 40 in 10 seconds, not in 12."""
    state, grant = ask(PoolState(), now=T0)
    state = settle(state, POOL, grant, now_ms=T0 + 2_000, used=42)
    assert state.windows[1_000_000].seen_ms == 10_000
    state, later = ask(state, now=T0 + 1_000, ticket="b")
    state, earlier = ask(state, now=T0 + 500, ticket="c")
    state = settle(state, POOL, later, now_ms=T0 + 1_200, used=46)
    known = state.windows[1_000_000]
    state = settle(state, POOL, earlier, now_ms=T0 + 1_300, used=48)
    window = state.windows[1_000_000]
    assert (window.seen_ms, window.foreign, window.foreign_high) == (11_000, 42, max(42, known.foreign_high))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), clients=st.integers(2, 16))
def test_nobody_starves(seed, clients):
    world = World(seed, 200, clients, costs=(1, 2, 20), foreign=0).run(8)
    waiting = [T0 + 8 * MINUTE - t.since_ms for t in world.state.tickets]
    # Two windows until a ticket comes before all others, and one for each 9 of cost 20 that are as old.
    assert max(world.waited_ms + waiting) <= 5 * MINUTE


@pytest.mark.parametrize("foreign", [0, 4])
def test_the_budget_is_used_up(foreign):
    """With others who take a fifth of it, too."""
    world = World(7, 2400, 16, costs=(2,), foreign=foreign).run(5)
    full = [used for window, used in sorted(world.counted.items())][1:-1]
    assert min(full) >= 0.95 * 2400
    assert world.over == []


# --- Nobody will send it --------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 59_999), st.integers(1, 50), st.sampled_from(Priority)), max_size=20),
    st.integers(0, 59_999), st.integers(0, 3_000),
)  # fmt: skip
def test_what_is_given_back_is_as_if_it_had_never_been_granted(before, at, guard):
    state = PoolState()
    for i, (when, cost, priority) in enumerate(sorted(before)):
        state, _ = ask(state, now=T0 - 10_000 + when, cost=cost, priority=priority, ticket=f"t{i}")
    now = T0 - 10_000 + at
    booked, outcome = ask(state, now=now, cost=7, guard=guard)
    assert isinstance(outcome, Grant)
    windows = {w: window for w, window in give_back(booked, outcome).windows.items() if window.used}
    assert windows == dict(state.windows)


def test_who_forgoes_its_place_holds_nobody_up():
    state = PoolState(windows={1_000_000: Window(used=5820)})
    for ticket, priority in (("first", Priority.LIVE), ("second", Priority.BACKFILL)):
        state, outcome = ask(state, ticket=ticket, priority=priority)
        assert isinstance(outcome, Wait)
    assert [t.id for t in forgo(state, "first").tickets] == ["second"]
