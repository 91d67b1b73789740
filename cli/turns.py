"""What the jobs that run by the clock share: one at a time per home, and an exit status that says how it went.

The lock is the operating system's, so a job that is killed leaves none behind; the file also says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer

from cli.console import facts, note, show
from winnow.errors import FailedPrecondition, InvalidArgument, WinnowError
from winnow.home import DATASET


class Exit(IntEnum):
    """0 also where nothing was to be done; 1 and 2 as for every command."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    REFUSED = 3  # a challenger is worse than the champion, which keeps serving
    BUSY = 4  # another job works in this home


class Busy(FailedPrecondition):
    """Another job works in this home."""


@contextmanager
def alone(home: Path, job: str, lock: str = "job") -> Iterator[None]:
    """Keep every other job out of this home; Busy names the one that is there."""
    folder = home / "state"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / f"{lock}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise Busy(f"{home}: {holder(handle)} works here") from held
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"job": job, "pid": os.getpid()}).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def holder(handle: int) -> str:
    """Who wrote themselves into a lock's file."""
    try:
        found = json.loads(os.pread(handle, 200, 0))
        return f"{found['job']} (process {found['pid']})"
    except (ValueError, KeyError):
        return "another job"


@contextmanager
def turn(home: Path, job: str) -> Iterator[None]:
    """One turn of a job over a home that holds a data set."""
    if not (home / DATASET).is_file():
        raise FailedPrecondition(f"{home} holds no data set; run winnow ingest first")
    with alone(home, job):
        yield


def exit_of(error: WinnowError) -> Exit:
    """The status of a command that ends with this error."""
    if isinstance(error, Busy):
        return Exit.BUSY
    return Exit.WRONG if isinstance(error, InvalidArgument) else Exit.FAILED


def told(title: str, document: Mapping[str, Any], status: Exit, as_json: bool) -> None:
    """Show how a turn went, its `words` as the last line on stderr, and end with its status."""
    rows = {name: value for name, value in document.items() if not isinstance(value, dict)}
    rows |= {
        f"{name}.{key}": v for name, value in document.items() if isinstance(value, dict) for key, v in value.items()
    }
    show(document, facts(title, rows), as_json)
    note(str(document["words"]))
    if status is not Exit.DONE:
        raise typer.Exit(status)
