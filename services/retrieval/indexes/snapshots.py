"""A folder that appears as a whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from winnow.errors import FailedPrecondition


@contextmanager
def snapshot(folder: Path) -> Iterator[Path]:
    """Write into what this gives; afterwards it is `folder`, which must not exist. Nothing stays where writing failed."""
    if folder.exists():
        raise FailedPrecondition(f"{folder} exists; a snapshot needs a folder of its own")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
