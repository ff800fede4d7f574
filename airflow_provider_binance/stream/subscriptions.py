"""Which connection carries which stream: a plan within Binance's limits, and what changes from one plan to the next.

Limits: 1024 streams a connection; 5 control messages a second on spot and 10 on futures, pings and pongs included. What
fits into a URL is subscribed by it and costs no message; the rest follows in messages of 200 names, which was
measured to be accepted.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.names import encoded, stream_name, stream_path

MOST_STREAMS = 1024
MOST_NAMES_A_MESSAGE = 200
#: Servers and proxies commonly take lines of 8,000.
MOST_URL_BYTES = 4000
#: A second; what pings and pongs need is left free.
MESSAGES_A_SECOND = {Market.SPOT: 3, Market.UM: 7, Market.CM: 7}

#: Host and path by which connections are told apart: `(market, "public" | "market" | "")`.
Route = tuple[Market, str]


@dataclass(frozen=True, slots=True)
class Carried:
    """One connection as planned: its number, which it keeps for life, its route, and its series by stream name."""

    number: int
    route: Route
    streams: Mapping[str, Series]

    @property
    def names(self) -> tuple[str, ...]:
        """Its streams, in order."""
        return tuple(sorted(self.streams))


@dataclass(frozen=True, slots=True)
class Change:
    """What turns one plan into the next: connections to open and to close, and the names to add and to drop on those
    that stay."""

    opened: tuple[Carried, ...] = ()
    closed: tuple[Carried, ...] = ()
    added: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    dropped: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard:
    """The part `number` of `count` of all symbols. All streams of a symbol are in the same part."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/3`; raises InputError for what is no part."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip(), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"shard {text!r} is none: use i/n with 1 ≤ i ≤ n, as in 1/2 and 2/2")
        return cls(int(match[1]), int(match[2]))

    def has(self, series: Series) -> bool:
        """Whether the series is in this part: told by market and symbol alone, so that no other symbol matters."""
        return zlib.crc32(f"{series.market} {series.symbol}".encode()) % self.count == self.number - 1


def plan(
    wanted: Iterable[Series], before: Sequence[Carried] = (), *, shard: Shard | None = None, most: int = MOST_STREAMS
) -> tuple[Carried, ...]:
    """The connections that carry `wanted`, or the shard's part of it, in the order of their numbers.

    What `before` carries stays where it is; what is new goes where most room is, and only where there is none to a new
    connection. `most` is the number of streams a connection may have.

    Raises:
        InputError: a series that has no stream.
    """
    routed: dict[Route, dict[str, Series]] = defaultdict(dict)
    for series in sorted(set(wanted)):
        if shard is None or shard.has(series):
            routed[Market(series.market), stream_path(series)][stream_name(series)] = series
    planned: list[Carried] = []
    unused = max((carried.number for carried in before), default=0) + 1
    for route in sorted({*routed, *(carried.route for carried in before)}):
        names = routed.get(route, {})
        kept = [
            replace(carried, streams={name: names[name] for name in carried.names if name in names})
            for carried in before
            if carried.route == route
        ]
        there = {name for carried in kept for name in carried.streams}
        lacking = [name for name in names if name not in there]
        room = [dict(carried.streams) for carried in kept if carried.streams]
        room.extend({} for _ in range(_connections_lacking(room, len(lacking), most)))
        for name in lacking:
            min(room, key=len)[name] = names[name]
        numbers = [carried.number for carried in kept if carried.streams]
        while len(numbers) < len(room):
            numbers.append(unused)
            unused += 1
        planned += [Carried(number, route, streams) for number, streams in zip(numbers, room, strict=True)]
    return tuple(sorted(planned, key=lambda carried: carried.number))


def change(before: Sequence[Carried], after: Sequence[Carried]) -> Change:
    """What has to be done to get from one plan to the next."""
    old = {carried.number: carried for carried in before}
    new = {carried.number: carried for carried in after}
    stay = old.keys() & new.keys()
    added = {number: tuple(sorted(new[number].streams.keys() - old[number].streams.keys())) for number in stay}
    dropped = {number: tuple(sorted(old[number].streams.keys() - new[number].streams.keys())) for number in stay}
    return Change(
        tuple(new[number] for number in sorted(new.keys() - old.keys())),
        tuple(old[number] for number in sorted(old.keys() - new.keys())),
        {number: names for number, names in sorted(added.items()) if names},
        {number: names for number, names in sorted(dropped.items()) if names},
    )


def carried_by(planned: Iterable[Carried]) -> list[Series]:
    """All series of a plan."""
    return [series for carried in planned for series in carried.streams.values()]


def opening(base_url: str, carried: Carried) -> tuple[str, tuple[str, ...]]:
    """The URL that opens a connection, and the names that it has no room for.

    Spot sends times in microseconds when asked to.
    """
    market, path = carried.route
    head = f"{base_url}/{path}/stream?" if path else f"{base_url}/stream?"
    tail = "&timeUnit=MICROSECOND" if market is Market.SPOT else ""
    taken: list[str] = []
    size = len(head) + len("streams=") + len(tail)
    for name in carried.names:
        size += len(encoded(name)) + 1
        if size > MOST_URL_BYTES and taken:
            break
        taken.append(encoded(name))
    return f"{head}streams={'/'.join(taken)}{tail}", carried.names[len(taken) :]


def messages(method: str, names: Sequence[str], first_id: int) -> Iterator[str]:
    """The control messages that `SUBSCRIBE` or `UNSUBSCRIBE` names, their ids from `first_id` on."""
    for number, at in enumerate(range(0, len(names), MOST_NAMES_A_MESSAGE), first_id):
        told = {"method": method, "params": list(names[at : at + MOST_NAMES_A_MESSAGE]), "id": number}
        yield json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _connections_lacking(room: Sequence[Mapping[str, Series]], lacking: int, most: int) -> int:
    free = sum(max(0, most - len(streams)) for streams in room)
    return max(0, -(-(lacking - free) // most))
