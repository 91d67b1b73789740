"""What lies in the folder of a chain, and how an end that was cut short is mended: for its writer, and for who reads along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from winnow.audit.record import NoRecord, Read, read
from winnow.errors import NO_ROOM, DiskFull, Unavailable

HEAD = "head.json"
TAIL_BYTES = 512 * 1024  # of a file that are looked at for its last line: more than two records


@dataclass(frozen=True, slots=True)
class Head:
    """A chain's newest record that is known to be on disk. `signature` is "" where there was no key."""

    chain: str
    seq: int
    hash: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A byte of one of a chain's files."""

    file: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What an earlier process left: its newest record, the bytes of a torn line, and the head, if there are such."""

    newest: Read | None
    torn: int
    head: Head | None


def mended(folder: Path) -> Found:
    """What lies here, after a torn line was moved aside. NoRecord: the newest line is none as it was written."""
    torn, newest = 0, None
    for path in reversed(segments(folder)):
        line, rest = last_line(path)
        torn += move_aside(path, rest)
        if line is not None:
            newest = read(line)
            break
    return Found(newest, torn, read_head(folder))


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def last_line(path: Path) -> tuple[bytes | None, int]:
    """The last whole line, if there is one, and the number of bytes behind it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
    whole, ended, rest = tail.rpartition(b"\n")
    if not ended and size > len(tail):
        raise NoRecord(f"{path.name} ends in more than {TAIL_BYTES} bytes that are no line")
    return (whole.rpartition(b"\n")[2], len(rest)) if ended else (None, len(tail))


def move_aside(path: Path, size: int) -> int:
    """The last `size` bytes of a file into another beside it."""
    if size:
        with path.open("r+b") as file:
            start = file.seek(-size, os.SEEK_END)
            with path.with_suffix(".torn").open("ab") as aside:
                aside.write(file.read())
            file.truncate(start)
            os.fsync(file.fileno())
    return size


def opened(folder: Path) -> tuple[Path, int, int]:
    """The newest file, open for more, and its size; -1 where there is none."""
    files = segments(folder)
    if not files:
        return folder, -1, 0
    return files[-1], os.open(files[-1], os.O_RDWR), files[-1].stat().st_size


def heads_in(root: Path) -> Iterator[Head]:
    """The heads of all chains below a folder; what cannot be read is not there."""
    for file in sorted(root.glob(f"*/*/{HEAD}")):
        if (head := read_head(file.parent)) is not None:
            yield head


def read_head(folder: Path) -> Head | None:
    try:
        said = orjson.loads((folder / HEAD).read_bytes())
        return Head(str(said["chain"]), int(said["seq"]), str(said["hash"]), str(said["signature"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_head(folder: Path, head: Head) -> None:
    beside = folder / f".{HEAD}"
    beside.write_bytes(orjson.dumps(asdict(head)) + b"\n")
    beside.replace(folder / HEAD)


@contextmanager
def translated() -> Iterator[None]:
    """The system's errors as the platform's."""
    try:
        yield
    except OSError as failed:
        raise (DiskFull if failed.errno in NO_ROOM else Unavailable)(f"the audit log: {failed.strerror}") from failed
