"""Websocket frames as a server sends them: never masked, never compressed."""

from __future__ import annotations

import struct

TEXT = 0x81
SHORT, MEDIUM = 126, 2**16


def text_frame(text: str) -> bytes:
    """One whole text frame."""
    payload = text.encode()
    length = len(payload)
    if length < SHORT:
        return bytes((TEXT, length)) + payload
    if length < MEDIUM:
        return struct.pack("!BBH", TEXT, 126, length) + payload
    return struct.pack("!BBQ", TEXT, 127, length) + payload
