"""HTTP to the archive: no key, no cookie, one retry loop, redirects followed without anything to leak."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import (
    ArchiveError,
    ArchiveFileMissingError,
    BinanceError,
    LocalStorageError,
    RestrictedLocationError,
    UnreachableError,
)
from airflow_provider_binance.market import SECOND_US, to_us
from airflow_provider_binance.masking import mask_url
from airflow_provider_binance.proxies import proxy_error

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)
_ATTEMPTS = 5
_PATIENT_AGAIN_SECONDS = 60.0
#: Kept open at the most; `jobs` may be more, then some are opened anew.
_CONNECTIONS = 16
_LONGEST_SLEEP_SECONDS = 20.0
T = TypeVar("T")


class ArchiveHttp:
    """Requests to the archive and its listing, each tried `attempts` times; threads may share it.

    `date_us` is the last `Date` that was answered.
    """

    def __init__(
        self, config: BinanceConfig, *, attempts: int = _ATTEMPTS, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._config = config
        self._attempts = attempts
        self._sleep = sleep
        self._lock = threading.Lock()
        self._opened: requests.Session | None = None
        self.date_us: int | None = None
        self._gave_up_at = -_PATIENT_AGAIN_SECONDS

    def close(self) -> None:
        """Drop the pooled connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def get(self, url: str, read: Callable[[requests.Response], T], *, headers: Mapping[str, str] | None = None,
            params: Mapping[str, str] | None = None, ref: str) -> T:  # fmt: skip
        """What `read` makes of the streamed answer; passing failures are tried again, `read` included.

        Raises:
            ArchiveFileMissingError: HTTP 404.
            RestrictedLocationError: HTTP 451.
            UnreachableError: five attempts in vain; or one, within a minute of such five.
            ArchiveError: any other 4xx.
        """
        import requests

        # A host that is away is away for the next files, too: each of them need not wait for it as long again.
        attempts = 1 if time.monotonic() < self._gave_up_at + _PATIENT_AGAIN_SECONDS else self._attempts
        for attempt in range(1, attempts + 1):
            try:
                with self._session().get(
                    url, params=params, headers=dict(headers or {}), stream=True,
                    # Said with each request: of a session's proxies, requests would prefer those of the environment.
                    timeout=self._config.request_timeout_seconds, proxies=self._config.proxies,
                ) as answer:  # fmt: skip
                    if blamed := proxy_error(f"archive {ref}", url, self._config.proxies, status=answer.status_code):
                        raise blamed
                    self._note_date(answer)
                    _raise_for(answer, ref)
                    return read(answer)
            except (requests.RequestException, UnreachableError, OSError) as error:
                if isinstance(error, OSError) and not isinstance(error, requests.RequestException | ConnectionError):
                    raise LocalStorageError(
                        f"archive {ref}: cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}. Free "
                        f"space there, or name another folder in the environment variable TMPDIR"
                    ) from error
                blamed = proxy_error(f"archive {ref}", url, self._config.proxies, error=error)
                if blamed is not None and not blamed.retryable:
                    raise blamed from None
                reason = mask_url(str(blamed or error)).removeprefix(f"archive {ref}: ")
                if attempt == attempts:
                    self._gave_up_at = time.monotonic() if attempts > 1 else self._gave_up_at
                    raise UnreachableError(f"archive {ref}: {attempt} attempts in vain, the last: {reason}") from error
                pause = random.uniform(0.2, 1) * min(_LONGEST_SLEEP_SECONDS, 0.5 * 2**attempt)  # jitter
                log.warning("archive %s: attempt %d failed (%s), next in %.1f s", ref, attempt, reason, pause)
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _session(self) -> requests.Session:
        with self._lock:
            if self._opened is None:
                import requests
                from requests.adapters import HTTPAdapter

                session = requests.Session()
                session.headers["Accept-Encoding"] = "identity"
                for scheme in ("https://", "http://"):
                    session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
                self._opened = session
            return self._opened

    def _note_date(self, answer: requests.Response) -> None:
        """Remember the archive's own clock; an answer that a cache has kept says for how long."""
        with suppress(KeyError, TypeError, ValueError):
            age_us = int(answer.headers.get("Age", "0")) * SECOND_US
            self.date_us = to_us(parsedate_to_datetime(answer.headers["Date"])) + age_us


def _raise_for(answer: requests.Response, ref: str) -> None:
    if answer.status_code < 400 or (answer.status_code == 416 and "Range" in answer.request.headers):
        return
    if answer.status_code == 404:
        raise ArchiveFileMissingError(f"archive {ref}: there is no such file (404)", ref=ref, status=404)
    if answer.status_code == 451:
        raise RestrictedLocationError(f"archive {ref}: HTTP 451, not served to this location", status=451)
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise UnreachableError(f"HTTP {answer.status_code}", status=answer.status_code)
    error: type[BinanceError] = ArchiveError
    raise error(f"archive {ref}: HTTP {answer.status_code}", ref=ref, status=answer.status_code)
