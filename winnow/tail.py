"""Reads a log onward from a position, while the process that owns it goes on writing.

Every row is read once and in order; nothing beyond the position that the caller knows to be durable is touched. Rows
that came in bulk are read like the others, or passed over. Knows nothing of who wants the rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq

from winnow.segments import FRAME, HEADER, Damaged, Row, frame_at, measure

IMPORT_ROWS = 500  # read from a bulk segment at a time

Placed = tuple[int, Row]
"""A row with its position in the log. Times are microseconds since 1970, or datetimes where the row came in bulk."""


class Tail:
    """`position` is that of the last row that was read, or passed over."""

    def __init__(self, folder: Path, after: int, *, imports: bool) -> None:
        self.position = after
        self._folder = folder
        self._imports = imports
        self._parts: Iterator[list[Placed]] = iter(())

    def move(self, after: int) -> None:
        """Go on behind this position, which may lie before what was read already."""
        self.position = after
        self._parts = iter(())

    def read(self, upto: int, at_most: int) -> list[Placed]:
        """The next rows, none beyond `upto`: about `at_most`, as many as were written together. Empty at the end."""
        rows: list[Placed] = []
        while self.position < upto and len(rows) < at_most:
            part = next(self._parts, None)
            if part is not None:
                rows += [placed for placed in part if placed[0] > self.position]
                self.position = max(self.position, part[-1][0])
            elif self.position < upto:  # bulk rows may just have been passed over
                self._parts = self._open()
        return rows

    def _open(self) -> Iterator[list[Placed]]:
        """The rest of the segment that holds the next row, frame by frame."""
        wanted = self.position + 1
        starts = sorted((first_of(path), path.suffix, path) for path in files(self._folder))
        here = [path for first, _, path in starts if first <= wanted]
        for path in reversed(here):
            if path.suffix == ".parquet":
                last = measure(path).last
                if last >= wanted:
                    return self._bulk(path, last)
            elif (start := place_of(path, wanted)) is not None:
                return frames(path, *start)
        raise Damaged(f"{self._folder.name}: position {wanted} is missing from the log")

    def _bulk(self, path: Path, last: int) -> Iterator[list[Placed]]:
        if not self._imports:
            self.position = last
            return
        position = first_of(path)
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(IMPORT_ROWS):
                if position + batch.num_rows > self.position:
                    yield list(enumerate(batch.to_pylist(), position))
                position += batch.num_rows


def files(folder: Path) -> list[Path]:
    return [*folder.glob("import-*.parquet"), *folder.glob("live-*.log")]


def first_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def place_of(path: Path, wanted: int) -> tuple[int, int] | None:
    """Byte and first position of the frame with row `wanted`; None when this segment ends before. Skips payloads."""
    position, start = first_of(path), HEADER.size
    with path.open("rb") as file:
        while len(head := os.pread(file.fileno(), FRAME.size, start)) == FRAME.size:
            _, size, _, first, rows = FRAME.unpack(head)
            if first != position:
                raise Damaged(f"{path.name}: byte {start} holds position {first}, expected {position}")
            if wanted < first + rows:
                return start, first
            position, start = first + rows, start + FRAME.size + size
    return None


def frames(path: Path, start: int, position: int) -> Iterator[list[Placed]]:
    """The rows of each frame from byte `start` on; asked only when another is durable, here or in the next segment."""
    with path.open("rb") as file:
        while len(head := os.pread(file.fileno(), FRAME.size, start)) == FRAME.size:
            content = head + os.pread(file.fileno(), FRAME.unpack(head)[1], start + FRAME.size)
            frame = frame_at(content, 0)
            if frame is None or frame.first != position:
                raise Damaged(f"{path.name}: damaged at byte {start}, position {position}")
            yield list(enumerate(orjson.loads(frame.payload), frame.first))
            position, start = position + frame.rows, start + frame.end
