"""Passwords in URLs and secrets in any text are masked."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from airflow_provider_binance.masking import mask_url, mask_values


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://user:pa55@host:5432/db",
        "connection to postgresql://user:p%4055@host failed",
        "http://user:pa:55@proxy:3128/",
        "postgresql://user:p@ss@w0rd@host/db",
        "https://api.binance.com/api/v3/account?timestamp=1&signature=deadbeef",
        "host=db password=hunter2 dbname=x",
        "postgresql://user@host/db?sslmode=verify-full&sslpassword=hunter2",
    ],
)
def test_passwords_and_signatures_of_urls_are_masked(text: str):
    """What identifies the host stays, what opens it does not."""
    masked = mask_url(text)
    for secret in ("pa55", "p%4055", "pa:55", "p@ss", "w0rd", "deadbeef", "hunter2"):
        assert secret not in masked
    assert "***" in masked


def test_urls_without_password_stay_as_they_are():
    """Masking changes nothing else."""
    for text in ("sqlite:////var/lib/binance.db", "https://api.binance.com/api/v3/klines?symbol=BTCUSDT", "a: b@c"):
        assert mask_url(text) == text


def test_given_secrets_are_masked_plain_and_encoded():
    """A secret with odd characters is found in a URL too."""
    secret = "s3cr/t+&ü"
    assert mask_values(f"x {secret} {quote(secret, safe='')}", [secret, None, ""]) == "x *** ***"
