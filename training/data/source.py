"""What an adapter gives: a name, how its clock runs, and its tables as frames whose columns have canonical names.

Frames carry `row`, the 1-based row of the source that a reject is reported by. Their values may be of any type that
`training.data.clean` can read: it checks every row of every set by the same rules.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from winnow.errors import NotFound

Clock = Literal["real", "order"]
Protocol = Literal["leave-one-out", "time"]
Frames = Callable[[], Iterator[pl.DataFrame]]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "cache"
CHUNK = 200_000  # rows of one frame


@dataclass(frozen=True)
class Source:
    """One data set. `left_out` counts what an adapter omits on purpose, by reason; bad rows are counted elsewhere."""

    name: str
    clock: Clock
    protocol: Protocol
    positive_value: float  # a rating from here on counts as a conversion
    digest: str  # of the content and of how it is read
    events: Frames
    items: Frames
    users: Frames
    left_out: Counter[str] = field(default_factory=Counter)
    origin: str = ""  # of a folder its path: two folders may have one name


def one(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """A frame in chunks, its rows numbered from 1."""
    return frame.with_row_index("row", offset=1).iter_slices(CHUNK)


def folder(name: str) -> Path:
    """The folder of a set that is not ours to ship; NotFound says how to get it."""
    places = [Path(os.environ["WINNOW_DATA"])] if os.environ.get("WINNOW_DATA") else []
    places.append(ROOT / ".." / "shared" / "data")
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise NotFound(
        f"data set {name} is not here: put its Parquet files into a folder {name}/ and set WINNOW_DATA to the folder "
        f"around it (looked in {', '.join(os.path.relpath(p) for p in places)})",
        field="source",
    )


def digest_of(files: list[Path], *words: str) -> str:
    """SHA-256 over the files' bytes, and over words that say how they are read."""
    whole = hashlib.sha256("\0".join(words).encode())
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()
