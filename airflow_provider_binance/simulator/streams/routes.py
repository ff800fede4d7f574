"""Where streams are served: ``/spot``, ``/um`` and ``/cm`` stand for the hosts of the three markets.

Below them are Binance's own paths: ``/ws``, ``/ws/<stream>[/<stream>…]`` and ``/stream?streams=<stream>/<stream>``,
on um also under ``/public``, ``/market`` and ``/private``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_provider_binance.simulator.streams.names import is_public

PREFIX = {"spot": "/spot", "um": "/um", "cm": "/cm"}

_PATH = re.compile(r"/(spot|um|cm)(?:/(public|market|private))?/(?:(stream)|ws(?:/(.*))?)/?")


@dataclass(frozen=True)
class Route:
    """What a connection may carry, and what it asked for when it was opened.

    ``branch`` is the part of um: ``public``, ``market``, ``private``, or empty for the address of before 2026.
    """

    market: str
    branch: str
    combined: bool
    streams: tuple[str, ...]
    microseconds: bool

    def carries(self, name: str) -> bool:
        """Whether events of that stream come over this route; if not, it is acknowledged all the same."""
        if self.market != "um":
            return True
        # The old address still carries what is public now.
        return self.branch in (("public", "") if is_public(name) else ("market",))


def parse(raw_path: str, query: str) -> Route | None:
    """The route of a request target; None where no streams are."""
    match = _PATH.fullmatch(unquote(raw_path))
    if match is None:
        return None
    market, branch, combined, raw_streams = match.groups()
    if branch and market != "um":
        return None
    parameters = dict(pair.partition("=")[::2] for pair in query.split("&"))
    # A plus sign stands for itself here, as in a time zone.
    text = unquote(parameters.get("streams", "")) if combined else raw_streams or ""
    unit = parameters.get("timeUnit", "")
    return Route(
        market,
        branch or "",
        bool(combined),
        tuple(dict.fromkeys(each for each in text.split("/") if each)),
        market == "spot" and unit.upper() == "MICROSECOND",
    )
