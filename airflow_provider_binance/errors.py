"""Every error this package raises on purpose, by what the caller can do next.

::

    IngestError
    ├── InputError                 2  the caller's words are off; nothing was done
    │   ├── ConfigError               a setting is missing or malformed
    │   ├── NaiveTimeError            a time without offset
    │   ├── UnknownSymbolError        Binance lists no such symbol in this market
    │   └── UnknownIntervalError      no such interval, or not in this market
    ├── UnexplainedGapError        3  finished, but something unexplained remains (``on_gap="fail"``)
    ├── BufferFullError            3  retryable: real-time data came faster than it was taken (``on_full="raise"``)
    ├── BinanceError               4  Binance is unreachable, refuses or bans
    │   ├── UnreachableError          retryable: no answer (DNS, reset, time-out, 5xx)
    │   ├── MalformedResponseError    retryable: an answer that is no answer (cut short, not JSON)
    │   ├── ThrottledError            retryable after ``retry_after``: HTTP 429
    │   ├── BannedError               retryable after ``retry_after``: HTTP 418
    │   ├── BlockedError              retryable: HTTP 403 of the web application firewall
    │   ├── RestrictedLocationError   HTTP 451
    │   ├── AuthenticationError       key or signature refused, or what a proxy is shown
    │   ├── ClockSkewError            −1021 although the clock was set anew
    │   ├── RequestRejectedError      any other 4xx, with Binance's ``code`` and ``msg``
    │   └── ArchiveError              the archive's part
    │       ├── ArchiveFileMissingError   404
    │       └── CorruptArchiveError       retryable: wrong checksum, broken zip, odd content
    └── StoreError                 5  the ingest database
        ├── StoreUnavailableError     retryable: connection lost, locked, disk full
        ├── StoreVersionError         schema newer than this code can read
        ├── StoreRightsError          the role may not do what is needed
        ├── EnvironmentMismatchError  the store belongs to another environment
        └── LocalStorageError         retryable: this machine's disk cannot take what is being fetched

``retryable`` says whether the same call may succeed later, ``retry_after`` (seconds, or None) how much later, and
``exit_status`` is what the command line ends with. Read these, never the message.
"""

from __future__ import annotations

from typing import Any, ClassVar


class IngestError(Exception):
    """Root of everything this package raises on purpose. Picklable, with its facts as attributes.

    `report`: what had been done or found by then, of all series, where that is known (a LoadReport, RepairReport or
    VerifyReport; not pickled).
    """

    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 5
    retry_after: float | None = None
    report: Any = None

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self.facts))


def _rebuild(cls: type[IngestError], message: str, facts: dict[str, Any]) -> IngestError:
    return cls(message, **facts)


class InputError(IngestError):
    """The caller's words are off: the message names the value, the accepted ones and the way out."""

    exit_status = 2


class ConfigError(InputError):
    """A setting is missing or malformed; the message names every way to set it."""


class NaiveTimeError(InputError):
    """A time without offset; the message shows the aware spelling."""


class UnknownSymbolError(InputError):
    """Binance lists no such symbol in this market; the message has near matches."""


class UnknownIntervalError(InputError):
    """No such interval, or none in this market."""


class UnexplainedGapError(IngestError):
    """The load finished, but a piece of its window is neither there nor explained."""

    retryable = True
    exit_status = 3


class BufferFullError(IngestError):
    """Real-time data came faster than it was taken, and ``on_full="raise"`` says to end then. All that came before has
    been handed on."""

    retryable = True
    exit_status = 3


class BinanceError(IngestError):
    """Binance is unreachable, refuses or bans."""

    exit_status = 4
    status: int | None = None
    code: int | None = None


class UnreachableError(BinanceError):
    """No answer: name resolution, refused or reset connection, time-out, HTTP 5xx or 408."""

    retryable = True


class MalformedResponseError(BinanceError):
    """An answer that is no answer: cut short, not JSON, not of the documented shape."""

    retryable = True


class ThrottledError(BinanceError):
    """HTTP 429: the weight of the minute is used up; ``retry_after`` says for how long."""

    retryable = True


class BannedError(BinanceError):
    """HTTP 418: this address is banned until ``retry_after`` seconds from now."""

    retryable = True


class BlockedError(BinanceError):
    """HTTP 403 of the web application firewall; asking the same again at once does not help."""

    retryable = True


class RestrictedLocationError(BinanceError):
    """HTTP 451: Binance does not serve this location from this host."""


class AuthenticationError(BinanceError):
    """The API key or the signature is refused (HTTP 401, −1022, −2014, −2015), or the proxy's credentials (407)."""


class ClockSkewError(BinanceError):
    """−1021 although the clock offset was measured anew."""


class RequestRejectedError(BinanceError):
    """Any other 4xx; ``code`` and ``msg`` are Binance's."""

    msg: str = ""


class ArchiveError(BinanceError):
    """The archive cannot give what was asked; ``ref`` names the file."""

    ref: str = ""


class ArchiveFileMissingError(ArchiveError):
    """The archive has no such file (HTTP 404)."""


class CorruptArchiveError(ArchiveError):
    """The file is not what its checksum or its layout promise; `bytes_downloaded` were spent on it."""

    retryable = True
    bytes_downloaded: int = 0


class StoreError(IngestError):
    """The ingest database cannot do what was asked."""


class StoreUnavailableError(StoreError):
    """Connection lost, database locked, disk full: the same call may succeed later."""

    retryable = True


class StoreVersionError(StoreError):
    """The store's schema is newer than this code can read, or not there."""


class StoreRightsError(StoreError):
    """The database role may not do what is needed; the message says which statement was refused."""


class EnvironmentMismatchError(StoreError):
    """The store belongs to another environment (production, testnet, simulator)."""


class LocalStorageError(StoreError):
    """This machine's disk cannot take what is being fetched; the message names the folder."""

    retryable = True
