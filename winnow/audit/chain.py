"""One writer's chain of records: files that only grow, in a folder that no other process holds meanwhile.

A writer that starts again goes on where the chain ended, so a chain outlives its processes. Beside the files lies the head:
how far the chain was safely on disk, signed where there is a key; with it a tail that was cut off is missed. A line that was
cut short by a kill is moved aside and said in the next record. One thread at a time.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from winnow.audit.folder import Found, Head, Mark, heads_in, mended, opened, translated, write_head
from winnow.audit.record import CHECKPOINT, GENESIS, START, STOP, Entry, NoRecord, Sealed, sealed
from winnow.audit.signature import Signer
from winnow.claim import claims
from winnow.errors import DiskFull, ResourceExhausted
from winnow.eventlog import sync_folder, write_all

SEGMENT_BYTES = 64 * 2**20
FREE_BYTES = 256 * 2**20
MAX_WRITERS = 64  # of one kind in one folder at once

logger = logging.getLogger(__name__)


class Chain:
    """`free_bytes` of the disk are left to others: events need room too."""

    def __init__(
        self,
        folder: Path,
        writer: str,
        *,
        about: Mapping[str, Any] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        free_bytes: int = FREE_BYTES,
        signer: Signer | None = None,
    ) -> None:
        """DiskFull, Unavailable: the folder or the start cannot be written."""
        self._root = folder
        self._free_bytes = free_bytes
        self._segment_bytes = segment_bytes
        self._signer = signer
        self.synced = Mark()  # everything before it is on disk
        self._told: dict[str, tuple[int, str]] = {}  # heads of others that a record of ours has said
        with translated():
            self.folder, self._lock, found = claimed(folder, writer)
            try:
                self._path, self._file, self._size = opened(self.folder)
            except BaseException:
                os.close(self._lock)
                raise
        self.name = found.newest.chain if found.newest else f"{writer}-{secrets.token_hex(8)}"
        self.seq = found.newest.seq if found.newest else -1
        self.newest = found.newest.hash if found.newest else GENESIS
        self._synced_seq = -1
        self._half = False  # a write failed and may have left bytes behind the last record
        try:
            self._vouch(START, {**(about or {}), **left(found, signer)})
            self.sync()
        except BaseException:
            self._let_go()
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """All or none, in this order; on disk for good after the next `sync`. DiskFull, Unavailable."""
        records = self._sealed(entries)
        content = b"".join(record.line + b"\n" for record in records)
        with translated():
            if shutil.disk_usage(self.folder).free - len(content) < self._free_bytes:
                raise DiskFull("the disk has no room left for the audit log")
            self._write(content)
        self.seq, self.newest = records[-1].seq, records[-1].hash

    def sync(self) -> None:
        """What was appended is on disk from now on, and the head says so. DiskFull, Unavailable."""
        if self._synced_seq == self.seq:
            return
        with translated():
            os.fdatasync(self._file)
            signature = self._signer.sign(self.name, self.seq, self.newest) if self._signer else ""
            write_head(self.folder, Head(self.name, self.seq, self.newest, signature))
        self._synced_seq = self.seq
        self.synced = Mark(self._path.name, self._size)

    def checkpoint(self) -> None:
        """Say where the other chains of this folder stand, so that one that is cut or taken away is missed here."""
        if self._others():
            self._vouch(CHECKPOINT, {})

    def close(self) -> None:
        """An orderly end. DiskFull, Unavailable: it is not known to be on disk; the folder is free all the same."""
        try:
            self._vouch(STOP, {})
            self.sync()
        finally:
            self._let_go()

    def _vouch(self, kind: str, about: Mapping[str, Any]) -> None:
        heads = self._others()
        signed = {"signature": self._signer.sign(self.name, self.seq, self.newest)} if self._signer else {}
        self.append([Entry(kind, {**about, "heads": heads, **signed})])
        self._told |= heads

    def _others(self) -> dict[str, tuple[int, str]]:
        """Heads of the other chains that moved since this one last said where they stand."""
        found = {head.chain: (head.seq, head.hash) for head in heads_in(self._root) if head.chain != self.name}
        return {chain: place for chain, place in found.items() if self._told.get(chain) != place}

    def _sealed(self, entries: Sequence[Entry]) -> list[Sealed]:
        records: list[Sealed] = []
        newest = self.newest
        for seq, entry in enumerate(entries, self.seq + 1):
            records.append(sealed(self.name, seq, newest, entry))
            newest = records[-1].hash
        return records

    def _write(self, content: bytes) -> None:
        if self._file < 0 or self._size >= self._segment_bytes:
            self._next_file()
        if self._half:
            os.ftruncate(self._file, self._size)
        self._half = True
        try:
            write_all(self._file, content, self._size)
        except OSError:
            with suppress(OSError):  # else before the next write
                os.ftruncate(self._file, self._size)
            raise
        self._half = False
        self._size += len(content)

    def _next_file(self) -> None:
        path = self.folder / f"{self.seq + 1:012d}.jsonl"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        sync_folder(self.folder)
        if self._file >= 0:
            os.fdatasync(self._file)
            os.close(self._file)
        self._path, self._file, self._size = path, file, 0

    def _let_go(self) -> None:
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1


def claimed(folder: Path, writer: str) -> tuple[Path, int, Found]:
    """A folder of this kind of writer that nobody holds, and what lies in it. One whose end cannot be read is left to
    the auditor, as it is."""
    for own, lock in claims(folder / writer, MAX_WRITERS):
        try:
            return own, lock, mended(own)
        except NoRecord as damaged:
            logger.error("audit log %s/%s: %s; it is left as it is, run winnow audit verify", writer, own.name, damaged)
            os.close(lock)
        except BaseException:
            os.close(lock)
            raise
    raise ResourceExhausted(f"{MAX_WRITERS} {writer} processes keep an audit log in {folder.name} already")


def left(found: Found, signer: Signer | None = None) -> dict[str, Any]:
    """What the first record of a new process says about the end of the one before. `beyond_head`: how many records no
    head vouches for; where there is a key, a head that it did not sign is none."""
    said: dict[str, Any] = {}
    seq = found.newest.seq if found.newest else -1
    if found.newest and found.newest.kind != STOP:
        said["unclean"] = True
    if found.torn:
        said["torn_bytes"] = found.torn
    if found.head and (found.head.seq > seq or (found.newest and found.head.chain != found.newest.chain)):
        said["lost"] = asdict(found.head)
    elif (beyond := seq - covered(found.head, signer)) > 0:
        said["beyond_head"] = beyond
    return said


def covered(head: Head | None, signer: Signer | None) -> int:
    """The last record that a head vouches for; -1 where none does."""
    if head is None or (signer and not signer.verifier.holds(head.signature, head.chain, head.seq, head.hash)):
        return -1
    return head.seq
