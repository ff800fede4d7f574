"""Which sidecar streams which series: one lease per series in the store, so that no two stream the same.

A sidecar lives so long as its beats come within `TTL_SECONDS`, by the database's clock, and its leases with it: to
renew them is one line. What a dead one held is free. A sidecar takes the series of its own part of the symbols first;
what nobody streams of other parts it takes too, and gives it back when a sidecar of that part claims it.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from airflow_provider_binance.records import Series
from airflow_provider_binance.store.sidecars import Lease, LeaseChange, Sidecar
from airflow_provider_binance.stream.subscriptions import Shard

BEAT_SECONDS = 3.0
TTL_SECONDS = 15.0


def decide(
    me: str,
    shard: Shard,
    wanted: Iterable[Series],
    leases: Iterable[Lease],
    sidecars: Iterable[Sidecar],
    ttl_seconds: float,
) -> LeaseChange:
    """What `me` is to do about leases. Pure.

    What is free of other parts is taken by a sidecar that has lived for `ttl_seconds`, so that the others may come
    first, and in portions, so that those that are left share it.
    """
    living = {one.instance: one for one in sidecars if one.silent_seconds < ttl_seconds}
    held: Mapping[Series, Lease] = {lease.series: lease for lease in leases if lease.instance in living}
    everything = set(wanted)
    wanted = sorted(everything)
    home = {series for series in wanted if shard.has(series)}
    mine = {series: lease for series, lease in held.items() if lease.instance == me}
    take = [(series, True) for series in wanted if series in home and series not in held]
    # Its own, taken before its part was said otherwise.
    take += [(series, True) for series, lease in sorted(mine.items()) if series in home and not lease.is_home]
    claim = [
        series
        for series in sorted(home)
        if series in held and not held[series].is_home and held[series].instance != me
        and held[series].claimant not in living
    ]  # fmt: skip
    free = [series for series in sorted(mine) if series not in everything]
    give = [
        (series, lease.claimant)
        for series, lease in sorted(mine.items())
        if series in everything and series not in home and lease.claimant is not None and lease.claimant in living
    ]
    if me in living and living[me].age_seconds >= ttl_seconds:
        nobodys = [series for series in wanted if series not in home and series not in held]
        take += [(series, False) for series in nobodys[: math.ceil(len(nobodys) / len(living))]]
    return LeaseChange(tuple(take), tuple(claim), tuple(give), tuple(free))


def instance_name() -> str:
    """A name for this process that no other has, nor had: host, process id, place and a word by chance."""
    return f"{socket.gethostname()}:{os.getpid()}:{_place()}:{secrets.token_hex(4)}"


def gone(me: str, sidecars: Sequence[Sidecar]) -> list[str]:
    """Those of `sidecars` that were processes of this place and are no more: nobody need wait for their time to end."""
    return [one.instance for one in sidecars if one.instance != me and _is_gone(one.instance)]


def _is_gone(name: str) -> bool:
    parts = name.rsplit(":", 3)
    if len(parts) != 4 or parts[2] != _place() or not parts[1].isdigit():
        return False
    if int(parts[1]) == os.getpid():
        return True  # this process has another name
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _place() -> str:
    """Where process ids mean the same: this boot of this machine, and the namespace of its processes. Else ''."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink()
        return f"{boot.replace('-', '')[:12]}{''.join(filter(str.isdigit, str(space)))}"
    return secrets.token_hex(4)
