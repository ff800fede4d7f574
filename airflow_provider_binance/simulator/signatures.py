"""The three ways to sign a payload that Binance knows, as the server verifies them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key


class SignatureScheme(Protocol):
    """One way to sign a payload."""

    def verify(self, payload: bytes, signature: str) -> bool:
        """Whether ``signature``, decoded from the query string, fits the payload."""


@dataclass(frozen=True)
class HmacSha256:
    """Hex HMAC-SHA256 in either case."""

    secret: str = field(repr=False)

    def verify(self, payload: bytes, signature: str) -> bool:
        """See :class:`SignatureScheme`."""
        expected = hmac.new(self.secret.encode(), payload, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.lower().encode())


@dataclass(frozen=True)
class RsaSha256:
    """Base64 of RSASSA-PKCS1-v1_5 with SHA-256."""

    key: RSAPublicKey = field(repr=False)

    def verify(self, payload: bytes, signature: str) -> bool:
        """See :class:`SignatureScheme`."""
        try:
            self.key.verify(base64.b64decode(signature, validate=True), payload, PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Ed25519:
    """Base64 of an Ed25519 signature."""

    key: Ed25519PublicKey = field(repr=False)

    def verify(self, payload: bytes, signature: str) -> bool:
        """See :class:`SignatureScheme`."""
        try:
            self.key.verify(base64.b64decode(signature, validate=True), payload)
        except (InvalidSignature, ValueError):
            return False
        return True


def scheme_of(public_key: str) -> SignatureScheme:
    """The scheme of a public key, given as PEM text: what a user of Binance hands in when making an API key.

    Raises:
        ValueError: not the PEM text of an RSA or Ed25519 public key.
    """
    try:
        key = load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, RSAPublicKey):
        return RsaSha256(key)
    if isinstance(key, Ed25519PublicKey):
        return Ed25519(key)
    raise ValueError("the public key is not the PEM text (-----BEGIN PUBLIC KEY-----) of an RSA or Ed25519 key")
