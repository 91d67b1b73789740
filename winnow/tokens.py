"""What a client gets for its events and hands back with its next request: a log position as an opaque text.

Knows nothing of logs. A text that was never given out is refused by its check bits, not taken for a position.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

from winnow.errors import InvalidArgument

VERSION = 1
BODY = struct.Struct(">BQ")  # version, position
CHECK = struct.Struct(">H")
LENGTH = 15  # characters


def token_of(watermark: int) -> str:
    body = BODY.pack(VERSION, watermark)
    return text_of(body + CHECK.pack(check_bits(body)))


def watermark_of(token: str) -> int:
    """The position; InvalidArgument for a text that no answer to events ever held."""
    try:
        content = urlsafe_b64decode(token + "=") if len(token) == LENGTH and token.isascii() else b""
    except (binascii.Error, ValueError):
        content = b""
    body, check = content[: BODY.size], content[BODY.size :]
    if len(content) != BODY.size + CHECK.size or check != CHECK.pack(check_bits(body)) or text_of(content) != token:
        raise InvalidArgument("must be a token that an answer to events held", field="token")
    version, watermark = BODY.unpack(body)
    if version != VERSION:
        raise InvalidArgument("is of a newer release", field="token")
    return int(watermark)


def text_of(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def check_bits(body: bytes) -> int:
    return zlib.crc32(body) & 0xFFFF
