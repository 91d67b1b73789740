"""What must not stand in a log: passwords in addresses, and the words of an error that may quote what was sent."""

from __future__ import annotations

import re
import traceback

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")  # of addresses that may hold a password
CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")


def without_credentials(text: str) -> str:
    """The text, in which no address says a name or a password: `http://***@host`."""
    return CREDENTIALS.sub("***@", text) if "@" in text else text


def without_words(error: BaseException, seen: int = 0) -> str:
    """Where an error came from, and its class; what it says itself may hold an id or a query, except the system's own
    words. Causes first, as Python prints them."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [without_words(before, seen + 1), "\n"] if before is not None and seen < 5 else []
    lines += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    words = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    kind = type(error)
    return "".join(lines) + f"{kind.__module__}.{kind.__qualname__}{words}"
