"""The append-only log of one home: rows of one schema, durable before they are acknowledged, at positions 1, 2, …

Calls that wait at the same time share one fsync (group commit): what they bring becomes one frame, so a crash leaves
at most one frame torn, and none of it was acknowledged. One process writes a log at a time. The file format is
`winnow.segments`; this module knows neither events nor items.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from winnow import segments
from winnow.errors import (
    NO_ROOM,
    DiskFull,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
    Unavailable,
    WinnowError,
)
from winnow.segments import HEADER, MAGIC, MAX_FRAME_BYTES, Row, Segment

SEGMENT_BYTES = 64 * 2**20
MAX_WAITING_BYTES = 64 * 2**20
LOCK = ".lock"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Rows of one `append`, waiting to be written; `done` gets the position of the last."""

    payload: bytes
    rows: int
    done: asyncio.Future[int]


class Log:
    """A log open for writing. Opening checks every frame and cuts a torn end off; `Damaged` when more is wrong."""

    def __init__(self, folder: Path, schema: pa.Schema, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.schema = schema
        self._lock = lock(folder)
        try:
            found = segments.segments(folder)
            self._segment = mended(found[-1]) if found else None
        except BaseException:
            os.close(self._lock)
            raise
        self.position = found[-1].last if found else 0
        self.broken = ""  # why nothing can be written any more
        self._segment_bytes = segment_bytes
        self._file = -1
        self._end = 0
        if self._segment is not None and self._segment.live:
            self._file = os.open(self._segment.path, os.O_RDWR)
            self._end = self._segment.end
        self._waiting: deque[Call] = deque()
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "winnow-log")

    def whole(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in the order of their positions."""
        return segments.whole(self.folder, self.schema, columns)

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The same in tables of bounded size."""
        return segments.parts(self.folder, self.schema, columns)

    async def append(self, rows: Sequence[Row]) -> int:
        """Write rows, all or none; returns the position of the last once they are on disk.

        ResourceExhausted: the queue is full. DiskFull, Unavailable: the disk is, or failed. Nothing was taken then.
        """
        payload = segments.encode(rows)
        self._admit(len(payload))
        call = Call(payload, len(rows), asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._waiting_bytes += len(payload)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        return await call.done

    async def close(self) -> None:
        """Write what waits, then let go of the files."""
        if self._writing is not None:
            await self._writing
        self.broken = "the log is closed"
        self._thread.shutdown()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _admit(self, size: int) -> None:
        if self.broken:
            raise Unavailable(f"nothing can be recorded: {self.broken}")
        if size + 2 > MAX_FRAME_BYTES:
            raise PayloadTooLarge(f"one call may bring {MAX_FRAME_BYTES} bytes")
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise ResourceExhausted("too much waits to be written; try again")

    async def _write_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group = self._group()
            rows = sum(call.rows for call in group)
            frame = segments.framed(self.position + 1, [call.payload for call in group], rows)
            try:
                await loop.run_in_executor(self._thread, self._write, frame)
            except WinnowError as failed:
                for call in group:
                    settle(call, type(failed)(failed.detail))
                continue
            except asyncio.CancelledError:
                self.broken = "the writer was stopped"  # whether the frame is on disk is for the next start to find
                for call in (*group, *self._waiting):
                    settle(call, Unavailable(self.broken))
                raise
            for call in group:
                self.position += call.rows
                settle(call, self.position)

    def _group(self) -> list[Call]:
        """The calls that share the next frame."""
        group: list[Call] = []
        size = 2
        while self._waiting and (not group or size + len(self._waiting[0].payload) < MAX_FRAME_BYTES):
            call = self._waiting.popleft()
            size += len(call.payload) + 1
            self._waiting_bytes -= len(call.payload)
            group.append(call)
        return group

    def _write(self, frame: bytes) -> None:
        """Write and fsync one frame, or leave the file as it was. Runs in the log's own thread."""
        if self.broken:
            raise Unavailable(f"nothing can be recorded: {self.broken}")
        try:
            if self._file < 0 or self._end >= self._segment_bytes:
                self._begin_segment()
            write_all(self._file, frame, self._end)
            os.fdatasync(self._file)
        except OSError as failed:
            self._undo()
            raise self._refusal(failed) from failed
        self._end += len(frame)

    def _refusal(self, failed: OSError) -> WinnowError:
        if failed.errno not in NO_ROOM:
            return Unavailable(f"nothing was recorded: {failed.strerror}")
        home = self.folder.parent.parent.name
        return DiskFull(f"nothing was recorded, the disk is full: make room for the home {home!r}, then send it again")

    def _begin_segment(self) -> None:
        first = self.position + 1
        path = segments.segment_path(self.folder, "live", first)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_all(file, HEADER.pack(MAGIC, first), 0)
            os.fsync(file)
            sync_folder(self.folder)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._end = file, HEADER.size

    def _undo(self) -> None:
        """After a failed write or fsync: back to the last durable byte. If even that fails, write no more."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._end)
            os.fdatasync(self._file)
        except OSError as failed:
            self.broken = f"the disk failed ({failed.strerror})"
            logger.error("log %s: cannot undo a failed write: %s", self.folder.name, failed)


def settle(call: Call, result: int | WinnowError) -> None:
    """Tell the caller, if they still wait."""
    if call.done.done():
        return
    if isinstance(result, int):
        call.done.set_result(result)
    else:
        call.done.set_exception(result)


def mended(segment: Segment) -> Segment | None:
    """Cut the torn end off the last segment; what is cut is kept beside it."""
    size = segment.path.stat().st_size
    if not segment.live or size == segment.end > 0:
        return segment
    with segment.path.open("r+b") as file:
        file.seek(segment.end)
        segment.path.with_suffix(".torn").write_bytes(file.read())
        file.truncate(segment.end)
        os.fsync(file.fileno())
    logger.warning("log %s: cut %d torn bytes, never acknowledged", segment.path.name, size - segment.end)
    if segment.end == 0:
        segment.path.unlink()
        return None
    return segment


def write_all(file: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(folder: Path) -> int:
    """The right to write this log, until the handle is closed or the process ends."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        os.close(handle)
        home = folder.parent.parent.name
        raise FailedPrecondition(f"the home {home} is in use: another process writes its log/{folder.name}") from held
    return handle


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep writers away from a log, for the time of an import."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = lock(folder)
    try:
        yield
    finally:
        os.close(handle)
