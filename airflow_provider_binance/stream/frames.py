"""Frames of combined streams → records. A frame that is odd is counted and logged, and never ends anything."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.names import KINDS
from airflow_provider_binance.stream.payloads import LEAST_US, PAYLOADS, Values, us
from airflow_provider_binance.symbols import is_name

log = logging.getLogger(__name__)
T = TypeVar("T")

_HEAD = b'{"stream":"'
_HEAD_BYTES = len(_HEAD)
#: All-market streams, by their whole name. On both hosts of futures they have the symbols of um and cm.
_ALL_MARKET = {
    "!markPrice@arr": "mark_prices", "!markPrice@arr@1s": "mark_prices", "!bookTicker": "book_tickers",
    "!forceOrder@arr": "liquidations",
}  # fmt: skip
#: `BTCUSD_PERP`, `ETHUSD_261225`: what only cm calls its symbols. um's quarterlies are `BTCUSDT_261225`.
_COIN_MARGINED = re.compile(r"[^_]+USD_(PERP|\d{6})")
_ST = {1: Market.UM, 2: Market.CM}
_SHOWN_BYTES = 200


class Record(NamedTuple):
    """One event: its series, when Binance sent it (None: it does not say) and it came here, and its row (the columns
    are `payloads.columns`)."""

    series: Series
    event_us: int | None
    received_us: int
    values: Values


class Reply(NamedTuple):
    """The answer to a control message; `error` is what Binance says is wrong with it, or ''."""

    id: int | str | None
    error: str


class Shutdown(NamedTuple):
    """The server says that it is about to go."""

    event_us: int


Found = Sequence[Record] | Reply | Shutdown

_NOTHING: tuple[Record, ...] = ()
_made = tuple.__new__  # half the time of Record(…)


class _Envelope(msgspec.Struct, Generic[T], gc=False):
    data: T


class _AnyEnvelope(msgspec.Struct):
    """What any frame may have: a stream's data, or the reply to a control message, or an event of its own."""

    stream: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: int | str | None = None
    code: int | None = None
    msg: str | None = None
    e: str | None = None
    E: int = 0


_any = msgspec.json.Decoder(_AnyEnvelope)


class _Reader:
    """Reads the frames of one kind of stream of one host. `row` makes the row of a payload, or None of an open kline,
    and raises ValueError for one that makes no sense."""

    def __init__(self, dataset: str, host: Market) -> None:
        payload, self.row = PAYLOADS[dataset]
        self._dataset = dataset
        self._host = host
        self._series: dict[tuple[str, int | None, str], Series] = {}
        envelope: Any = _Envelope[payload]  # type: ignore[valid-type]  # msgspec makes the type
        self.frame: Callable[[bytes], Any] = msgspec.json.Decoder(envelope).decode
        self.data: Callable[[Any], Any] = msgspec.json.Decoder(payload).decode
        self.many: Callable[[Any], Any] = msgspec.json.Decoder(list[payload]).decode  # type: ignore[valid-type]

    def record(self, payload: Any, received_us: int) -> Record | None:
        """The record of a payload, as `row` tells."""
        values = self.row(payload, received_us)
        if values is None:
            return None
        return Record(self.series(payload), None if payload.E is None else us(payload.E), received_us, values)

    def series(self, payload: Any) -> Series:
        """The series that a payload is of; raises ValueError if there can be none such."""
        key = (payload.s, payload.st, payload.k.i if self._dataset == "klines" else "")
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._new_series(*key)
        return series

    def _new_series(self, symbol: str, st: int | None, interval: str) -> Series:
        if not is_name(symbol) or symbol != symbol.upper():
            raise ValueError(f"{symbol[:40]!r} is no symbol")
        return Series(_market(self._host, symbol, st), self._dataset, symbol, interval)


class _Stream:
    """One stream: what reads its frames, and the series of its last event, which will be that of the next one."""

    __slots__ = ("frame", "last", "reader", "row", "series", "st")

    def __init__(self, reader: _Reader) -> None:
        self.reader, self.frame, self.row = reader, reader.frame, reader.row
        self.last: str | None = None
        self.st: int | None = None
        self.series = Series("", "", "")

    def series_of(self, payload: Any) -> Series:
        """The series of an event."""
        series = self.series = self.reader.series(payload)
        # A kline's is told by its interval too.
        self.last, self.st = None if series.interval else payload.s, payload.st
        return series


def _market(host: Market, symbol: str, st: int | None) -> str:
    """The market of a symbol that a host's stream has: each host of futures may carry the other one's."""
    if host is Market.SPOT:
        return host.value
    if st is not None:
        return _ST[st].value
    return (Market.CM if _COIN_MARGINED.fullmatch(symbol) else Market.UM).value


class Frames:
    """Reads the frames that come from one market's host. `counts` has events, open klines, replies, and what is
    `unknown` or `malformed`."""

    def __init__(self, host: Market) -> None:
        self.counts: Counter[str] = Counter()
        #: The names of the streams that brought something since somebody took them.
        self._heard: set[bytes] = set()
        self._streams: dict[bytes, _Stream] = {}
        self._newest = 0
        self._host = host
        self._readers = {name: _Reader(name, host) for name, kind in KINDS.items() if host in kind.markets}
        self._by_suffix: dict[bytes, _Reader] = {}
        for name, reader in self._readers.items():
            suffix = KINDS[name].suffix
            for ending in INTERVALS if name == "klines" else ("",):
                self._by_suffix[f"{suffix}{ending}".encode()] = reader
        if mark_prices := self._readers.get("mark_prices"):
            self._by_suffix[b"markPrice"] = mark_prices

    @property
    def newest_us(self) -> int:
        """The latest time that an event had, those of open klines too; 0 before the first."""
        return us(self._newest)

    @property
    def heard(self) -> set[str]:
        """The streams that brought something, open klines too, since `take_heard`."""
        return {name.decode(errors="replace") for name in self._heard}

    def take_heard(self) -> set[str]:
        """`heard`, which begins anew."""
        heard, self._heard = self.heard, set()
        return heard

    def read(self, frame: bytes, received_us: int) -> Found:
        """What a text frame says: records (none for an open kline, and for what is odd), a reply, or the shutdown."""
        try:
            if frame.startswith(_HEAD):
                name = frame[_HEAD_BYTES : frame.find(b'"', _HEAD_BYTES)]
                stream = self._streams.get(name) or self._new_stream(name)
                if stream is not None:
                    self._heard.add(name)
                    payload = stream.frame(frame).data
                    values = stream.row(payload, received_us)
                    at = payload.E
                    if values is None:
                        if self._newest < at:
                            self._newest = at
                        self.counts["open"] += 1
                        return _NOTHING
                    is_same = payload.s == stream.last and payload.st == stream.st
                    series = stream.series if is_same else stream.series_of(payload)
                    if at is not None:
                        if self._newest < at:
                            self._newest = at
                        at = at if at >= LEAST_US else at * 1000
                    self.counts["events"] += 1
                    return (_made(Record, (series, at, received_us, values)),)
            return self._read_other(frame, received_us)
        except (msgspec.MsgspecError, ValueError, KeyError, OverflowError, RecursionError) as error:
            self._count_odd("malformed", frame, error)
            return _NOTHING

    def _new_stream(self, name: bytes) -> _Stream | None:
        symbol, _, suffix = name.partition(b"@")
        reader = self._by_suffix.get(suffix) if symbol else None
        if reader is None:
            return None
        stream = self._streams[name] = _Stream(reader)
        return stream

    def _read_other(self, frame: bytes, received_us: int) -> Found:
        """The slow way: all-market streams, replies, shutdowns, and other spellings of the same JSON."""
        told = _any.decode(frame)
        if told.e == "serverShutdown" or told.stream == "!serverShutdown":
            return Shutdown(us(told.E) if told.e else received_us)
        if told.stream is not None and told.data is not msgspec.UNSET:
            return self._read_stream(told.stream, told.data, frame, received_us)
        if told.error is not msgspec.UNSET or told.msg is not None:
            self.counts["replies"] += 1
            said = bytes(told.error).decode() if told.error is not msgspec.UNSET else f"{told.code}: {told.msg}"
            return Reply(told.id, said[:_SHOWN_BYTES])
        if told.result is not msgspec.UNSET:
            self.counts["replies"] += 1
            return Reply(told.id, "")
        self._count_odd("unknown", frame, None)
        return _NOTHING

    def _read_stream(self, name: str, data: msgspec.Raw, frame: bytes, received_us: int) -> Sequence[Record]:
        reader = (
            self._readers.get(_ALL_MARKET[name])
            if name in _ALL_MARKET
            else self._by_suffix.get(name.partition("@")[2].encode())
        )
        if reader is None:
            self._count_odd("unknown", frame, None)
            return _NOTHING
        self._heard.add(name.encode())
        payloads = reader.many(data) if bytes(data).startswith(b"[") else [reader.data(data)]
        records = [record for payload in payloads if (record := reader.record(payload, received_us)) is not None]
        self.counts["events"] += len(records)
        self.counts["open"] += len(payloads) - len(records)
        return records

    def _count_odd(self, what: str, frame: bytes, error: Exception | None) -> None:
        """Count, and log the first, tenth, hundredth … of its sort."""
        self.counts[what] += 1
        count = self.counts[what]
        if str(count).strip("0") == "1":
            log.warning("%s frame: host=%s count=%d error=%s frame=%r", what, self._host, count, error,
                        frame[:_SHOWN_BYTES])  # fmt: skip
