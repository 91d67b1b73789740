"""Lines in files of a folder, oldest first, within a number of bytes: a spool that is replayed, or a log that rolls.

Lines are appended to the newest file and taken from the oldest. They are not flushed to the disk one by one: a power cut
may cost the newest, a killed process costs nothing. A line that was cut short is passed over. One process and one
thread at a time. Knows nothing of what the lines say.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from winnow.claim import claims
from winnow.errors import NO_ROOM, DiskFull, ResourceExhausted, Unavailable

FILE_BYTES = 8 * 2**20
MAX_CLAIMS = 64  # processes that keep decisions in one home


class Spool:
    """`max_bytes` of lines at most, and none once the disk has less than `free_bytes` left: others need room too.
    `rolling` drops the oldest file for a new line; otherwise the new line is refused."""

    def __init__(
        self, folder: Path, *, max_bytes: int, free_bytes: int, rolling: bool, file_bytes: int = FILE_BYTES
    ) -> None:
        """DiskFull, Unavailable: the folder cannot be made."""
        with translated():
            self._folder, self._lock = claimed(folder)
        self._max_bytes = max_bytes
        self._free_bytes = free_bytes
        self._file_bytes = min(file_bytes, max(1, max_bytes // 4))
        self._rolling = rolling
        self._files = sorted(self._folder.glob("*.jsonl"))
        self._sizes = {path: path.stat().st_size for path in self._files}
        self._number = int(self._files[-1].stem) if self._files else 0
        self._open: Path | None = None  # the file that grows; what an earlier process left is never appended to
        self._start = 0  # bytes of the oldest file that were taken

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes.values())

    @property
    def empty(self) -> bool:
        return not self._files

    def append(self, lines: Sequence[bytes]) -> None:
        """All or none. ResourceExhausted: `max_bytes` are full. DiskFull, Unavailable: the disk is, or failed."""
        content = b"".join(line + b"\n" for line in lines)
        with translated():
            self._make_room(len(content))
            if shutil.disk_usage(self._folder).free - len(content) < self._free_bytes:
                raise DiskFull("the disk has no room left for decisions")
            self._write(content)

    def oldest(self, at_most: int) -> list[bytes]:
        """The oldest lines; they stay until `drop`. DiskFull, Unavailable: the disk failed."""
        with translated():
            while self._files:
                lines, self._end = read(self._files[0], self._start, at_most)
                if lines:
                    return lines
                self._remove(self._files[0])
        return []

    def drop(self) -> None:
        """What `oldest` gave was delivered."""
        self._start = self._end
        if self._files and self._start >= self._sizes[self._files[0]]:
            with translated():
                self._remove(self._files[0])

    def close(self) -> None:
        os.close(self._lock)

    def _make_room(self, size: int) -> None:
        while self._rolling and self._files and self.size_bytes + size > self._max_bytes:
            self._remove(self._files[0])
        if self.size_bytes + size > self._max_bytes:
            raise ResourceExhausted(f"{self._max_bytes} bytes of decisions wait already")

    def _write(self, content: bytes) -> None:
        path = self._open
        if path is None or self._sizes[path] >= self._file_bytes:
            self._number += 1
            path = self._folder / f"{self._number:012d}.jsonl"
            path.touch()
            self._files.append(path)
            self._sizes[path] = 0
        self._open = None  # until this has succeeded: behind half a line nothing is appended
        before = self._sizes[path]
        with path.open("r+b", buffering=0) as file:
            file.seek(before)
            try:
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(before)
                self._open = path
                raise
        self._open = path
        self._sizes[path] = before + len(content)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._files.remove(path)
        del self._sizes[path]
        self._start = 0
        if path == self._open:
            self._open = None


def read(path: Path, start: int, at_most: int) -> tuple[list[bytes], int]:
    """Whole lines from byte `start` on, and the byte behind them."""
    lines: list[bytes] = []
    with path.open("rb") as file:
        file.seek(start)
        while len(lines) < at_most and (line := file.readline()).endswith(b"\n"):
            lines.append(line[:-1])
            start += len(line)
    return lines, start


def claimed(folder: Path) -> tuple[Path, int]:
    """A folder below this one that no other process holds, the first such, and the lock on it: the next process
    replays what the last one left."""
    for own, handle in claims(folder, MAX_CLAIMS):
        return own, handle
    raise ResourceExhausted(f"{MAX_CLAIMS} processes keep decisions in {folder.name} already")


@contextmanager
def translated() -> Iterator[None]:
    """The system's errors as the platform's."""
    try:
        yield
    except OSError as failed:
        raise (DiskFull if failed.errno in NO_ROOM else Unavailable)(f"the disk: {failed.strerror}") from failed
