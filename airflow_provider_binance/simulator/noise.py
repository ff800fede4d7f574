"""Hashes as a market's randomness: keyed by the seed and looked up at any index, so that nothing needs a state."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_BITS = 0xFFFFFFFFFFFFFFFF


class Noise:
    """The randomness of one instrument under one seed; ``salt`` tells its uses apart."""

    def __init__(self, seed: int, market: str, symbol: str) -> None:
        digest = hashlib.sha256(f"{seed}/{market}/{symbol}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "little")

    def hashes(self, salt: int, index: Ints) -> Hashes:
        """splitmix64 of the index: fast, and the same on every machine."""
        key = np.uint64((self._key + salt * 0xD1B54A32D192ED03) & _BITS)
        with np.errstate(over="ignore"):
            state = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))

    def pick(self, salt: int, index: Ints, choices: int) -> Ints:
        """A number below ``choices`` for each index."""
        return (self.hashes(salt, index) % np.uint64(choices)).astype(np.int64)


def piece(hashes: Hashes, shift: int, choices: int | Ints) -> Ints:
    """A number below ``choices`` out of the bits above ``shift`` (> 0): one hash serves several uses."""
    picked: Ints = (hashes >> np.uint64(shift)).astype(np.int64) % choices
    return picked
