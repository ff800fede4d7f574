"""Private keys made for a test run, as users keep them, and the public halves that they hand to Binance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PASSWORD = "open / sésame"
KINDS = ("rsa", "ed25519")


@dataclass(frozen=True)
class KeyPair:
    """PEM texts of one key."""

    private: str
    encrypted: str
    legacy: str
    public: str


@cache
def key_pair(kind: str, number: int = 0) -> KeyPair:
    """The key pair of that kind and number, always the same within a run; `ec` is a kind that Binance does not take."""
    makers = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    }
    key = makers[kind]()

    def pem(form: PrivateFormat, encryption: KeySerializationEncryption) -> str:
        return key.private_bytes(Encoding.PEM, form, encryption).decode()

    return KeyPair(
        pem(PrivateFormat.PKCS8, NoEncryption()),
        pem(PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())),
        pem(PrivateFormat.PKCS8 if kind == "ed25519" else PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )
