"""A small file that somebody else writes: read when it changes, and the last good content kept when it cannot be.

Kubernetes replaces a mounted Secret by moving a link, so what the path leads to is looked at, not the path.
"""

from __future__ import annotations

import os
from pathlib import Path

from winnow.errors import FailedPrecondition, PayloadTooLarge

Seen = tuple[int, int, int]


class Watched:
    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._seen: Seen | None = None

    def read(self) -> bytes:
        """FailedPrecondition with the system's words where it cannot be read, PayloadTooLarge where it is no such file."""
        try:
            with self._path.open("rb") as file:
                seen = seen_of(os.fstat(file.fileno()))  # of what is read: another file may take its place meanwhile
                content = file.read(self._max_bytes + 1)
            self._seen = seen
        except OSError as wrong:
            raise FailedPrecondition(f"{self._path}: {wrong.strerror}") from wrong
        if len(content) > self._max_bytes:
            raise PayloadTooLarge(f"{self._path}: more than {self._max_bytes} bytes")
        return content

    def changed(self) -> bool:
        """Whether there is something new to read."""
        try:
            return seen_of(self._path.stat()) != self._seen
        except OSError:
            return False


def seen_of(state: os.stat_result) -> Seen:
    return state.st_ino, state.st_mtime_ns, state.st_size
