"""One of several like processes takes a folder for itself: the operating system's lock, so a killed one leaves none."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"


def claims(folder: Path, at_most: int) -> Iterator[tuple[Path, int]]:
    """Folders `0`, `1`, … below this one that no other process holds, and the lock on each. Whoever takes one keeps its
    lock open; whoever passes on closes it. OSError as the system has it."""
    for number in range(at_most):
        own = folder / str(number)
        own.mkdir(parents=True, exist_ok=True)
        handle = os.open(own / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        yield own, handle


def taken(folder: Path) -> bool:
    """Whether some process holds this folder now."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
