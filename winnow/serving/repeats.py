"""A library that says the same thing with every attempt says it once a minute in our logs, and how often it did.

Sits on handlers: a filter of a logger does not see what the loggers below it pass on. Knows no library; which one is
meant, its name says.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_S = 60.0
AT_MOST = 200  # kinds of lines that are known at a time
NUMBER = re.compile(r"\d+(\.\d+)?")

logger = logging.getLogger(__name__)

Line = tuple[int, str]  # (level, its text without numbers: waits, ports and counts change from line to line)


@dataclass(slots=True)
class Kind:
    """Lines that are the same but for their numbers."""

    said_at: float
    level: int
    text: str
    left_out: int = 0


class Repeats(logging.Filter):
    """Of the lines of `library` (and of loggers below it) one of a kind passes every `every_s`, and says how many like it
    did not. A kind that nothing follows is told of in a line of our own, with the first record that comes thereafter."""

    def __init__(
        self,
        library: str,
        *,
        every_s: float = EVERY_S,
        at_most: int = AT_MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(library)
        self._every_s = every_s
        self._at_most = at_most
        self._clock = clock
        self._kinds: dict[Line, Kind] = {}  # the longest ago said first
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            passes = not super().filter(record) or self._passes(record)
            silent = self._silent()
        for kind in silent:  # outside the lock: these lines come by here, too
            logger.log(kind.level, "%s: left out %d more like this: %s", self.name, kind.left_out, kind.text)
        return passes

    def _passes(self, record: logging.LogRecord) -> bool:
        try:
            now, text = self._clock(), record.getMessage()
        except (TypeError, ValueError):  # a line that cannot be written is the handler's to report
            return True
        line = record.levelno, NUMBER.sub("#", text)
        known = self._kinds.get(line)
        if known is not None and now - known.said_at < self._every_s:
            known.left_out += 1
            return False
        self._kinds.pop(line, None)
        self._kinds[line] = Kind(now, record.levelno, text)
        if known is not None and known.left_out:
            record.msg, record.args = (
                f"{text} (and {known.left_out} times in the {now - known.said_at:.0f} s before)",
                (),
            )
        return True

    def _silent(self) -> list[Kind]:
        """Forget kinds that have not come again in a while, or are too many; those of which lines were left out."""
        until, found = self._clock() - 2 * self._every_s, []
        while self._kinds:
            line, oldest = next(iter(self._kinds.items()))
            if oldest.said_at > until and len(self._kinds) <= self._at_most:
                break
            del self._kinds[line]
            found += [oldest] if oldest.left_out else []
        return found
