"""The API key that requests carry, and its rotation: read again at most every minute, and at once when it is refused.

The core does not know where keys come from; a `BinanceConfig` knows how to read itself again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from airflow_provider_binance.config import BinanceConfig, ways_to_set
from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.masking import mask_values

log = logging.getLogger(__name__)

REREAD_SECONDS = 60.0


@dataclass(frozen=True)
class Credentials:
    """An API key and what signs for it, compared by value."""

    api_key: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    private_key_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, config: BinanceConfig) -> Credentials:
        """Those of the settings."""
        given = (config.api_key, config.api_secret, config.private_key, config.private_key_password)
        return cls(*(secret.get_secret_value() if secret else None for secret in given))

    def require(self, *, signing: bool) -> None:
        """Raise ConfigError, with every way to set it, if the key or what signs for it is missing."""
        name = "api_key" if not self.api_key else "api_secret"
        if not self.api_key or (signing and not (self.api_secret or self.private_key)):
            raise ConfigError(f"this call needs {name}. {ways_to_set(name)}", field=name)

    def check(self) -> None:
        """Raise ConfigError if there is a private key that cannot be used."""
        if self.private_key:
            self.sign("")

    def sign(self, payload: str) -> str:
        """The signature of a percent-encoded payload, by the key's own scheme.

        Raises:
            ConfigError: nothing to sign with, or a private key that cannot be used.
        """
        return self._signer(payload)

    @cached_property
    def _signer(self) -> Callable[[str], str]:
        from airflow_provider_binance.rest.signing import hmac_signer, private_key_signer

        if self.private_key:
            return private_key_signer(self.private_key, self.private_key_password)
        self.require(signing=True)
        return hmac_signer(self.api_secret or "")


class KeyRing:
    """The credentials in use, for all threads of a client. A key that was replaced is never sent again: whoever still
    sends with the old one is waited for, and only then does anybody get the new one.

    Args:
        config: the settings, which know how they are read again.
        clock: seconds; decides when a minute is over.
    """

    def __init__(self, config: BinanceConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._changed = threading.Condition()
        self._current = Credentials.of(config)
        self._read_at = clock()
        self._lent = 0
        self._is_reading = False
        self._secrets = set(config.secrets())

    @property
    def current(self) -> Credentials:
        """The credentials in use, whatever their age."""
        return self._current

    def secrets(self) -> tuple[str, ...]:
        """Every secret there ever was, for masking."""
        return tuple(self._secrets)

    @contextmanager
    def lent(self) -> Iterator[Credentials]:
        """The credentials to send a request with, until its answer is there; older than a minute they are read anew."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reading)
            if not 0 <= self._clock() - self._read_at < REREAD_SECONDS:
                self._reread()
            lent = self._current
            self._lent += 1
        try:
            yield lent
        finally:
            with self._changed:
                self._lent -= 1
                self._changed.notify_all()

    def renewed(self, refused: Credentials) -> bool:
        """Whether there are other credentials than `refused`, which Binance does not take; reads them if need be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reading)
            if self._current == refused:
                self._reread()
            return self._current != refused and self._current.api_key is not None

    def _reread(self) -> None:
        """Take over what the settings say now. Called with the lock, which is let go of while others still send."""
        self._is_reading = True
        try:
            config = self._config.reread()
            found = Credentials.of(config)
            if found != self._current:
                found.check()  # what cannot sign must not replace what can
                self._changed.wait_for(lambda: not self._lent)
                self._current = found
                self._secrets.update(config.secrets())
                log.info("the API key was replaced: later requests carry the new one")
        except Exception as error:  # noqa: BLE001  # whoever keeps keys may fail in its own ways; the old key may do
            log.warning("cannot read the API key again, going on with it: %s", mask_values(str(error), self._secrets))
        finally:
            self._read_at = self._clock()
            self._is_reading = False
            self._changed.notify_all()
