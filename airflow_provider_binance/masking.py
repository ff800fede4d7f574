"""Keep secrets out of what is printed, stored or raised."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, urlsplit

MASK = "***"
_USERINFO = re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^\s:/@]*):(?P<password>[^\s]*?)@(?=[^\s@]*(?:[\s/?#]|$))")
_SECRET_PARAMETER = re.compile(
    r"(?i)\b((?:ssl)?password|passwd|secret|signature|api_?key|api_?secret|private_key|token)=([^&\s'\"]+)"
)


def mask_url(text: str) -> str:
    """`text` with the password of every URL in it, and every secret query parameter, replaced by `***`."""
    return _SECRET_PARAMETER.sub(lambda m: f"{m[1]}={MASK}", _USERINFO.sub(lambda m: f"{m['head']}:{MASK}@", text))


def mask_values(text: str, secrets: Iterable[str | None]) -> str:
    """`text` with each of `secrets`, plain or URL-encoded, replaced by `***`; then as `mask_url`."""
    for secret in secrets:
        if secret:
            for spelling in {secret, quote(secret, safe=""), quote_plus(secret)}:
                text = text.replace(spelling, MASK)
    return mask_url(text)


def url_password(text: str) -> str | None:
    """The password in a URL as it is written there, None if it has none or is no URL."""
    try:
        return urlsplit(text).password
    except ValueError:  # such as an IPv6 address that does not end
        return None
