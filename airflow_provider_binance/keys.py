"""What users have at hand as a private key, as PEM text: pasted with its newlines, without them, or as a file's path.

Nothing is decrypted here; that is for who signs. No error shows any part of a key.
"""

from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_binance.errors import ConfigError

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PUBLIC = ("PUBLIC KEY", "CERTIFICATE")
_OTHER_KINDS = ("EC PRIVATE KEY", "DSA PRIVATE KEY", "EC PARAMETERS")
_LINE = 64
_WANTED = "a key that begins with -----BEGIN PRIVATE KEY-----, or the absolute path of its file"


def pem_text(given: str) -> str:
    """The PEM text that `given` is, or that the file of this absolute path has, its lines in order.

    Raises:
        ConfigError: neither text nor path, a file that cannot be read, a public key, a kind that Binance does not take.
    """
    where = "the value "
    if given.startswith(("/", "~")):
        path = Path(given).expanduser()
        where = f"the file {str(path)!r} "
        try:
            given = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ConfigError(f"{where}cannot be read: {error.strerror or error}", field="private_key") from None
    found = _PEM.search(given.replace("\\n", "\n"))
    if found is None:
        raise ConfigError(f"{where}is no private key; it must be {_WANTED}", field="private_key")
    label, body = found[1].strip(), found[2].strip()
    if label.endswith(_PUBLIC):
        raise ConfigError(
            f"{where}is a {label.lower()}: the public half is for Binance, this setting needs the private key "
            f"that belongs to it",
            field="private_key",
        )
    if label in _OTHER_KINDS:
        raise ConfigError(f"{where}is an {label.split()[0]} key; Binance takes RSA and Ed25519", field="private_key")
    if ":" in body:  # the lines of an old encryption's headers must stay as they are
        return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
    packed = "".join(body.split())
    lines = "\n".join(packed[at : at + _LINE] for at in range(0, len(packed), _LINE))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def is_encrypted(pem: str) -> bool:
    """Whether a password is needed to read the key, as far as its text tells."""
    return "ENCRYPTED" in pem


def secret_lines(pem: str) -> tuple[str, ...]:
    """The text and those of its lines that would give it away, for masking."""
    return (pem, pem.replace("\n", "\\n"), *(line for line in pem.splitlines() if len(line) >= _LINE // 2))
