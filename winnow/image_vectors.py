"""Vectors of images as items carry them: computed outside of Winnow (CLIP or the like), kept as little-endian float16.

Two bytes a number: 1 kB for the 512 of CLIP, where a tuple of Python's floats would take 16 kB. What they say is where
they point, and float16 turns that by less than 0.001. No bytes at all: the item has none. Knows neither items nor models.

Shapes: n items, W numbers of a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow.errors import InvalidArgument

FIELD = "image_vector"
MAX_WIDTH = 2_048  # numbers of one vector
LARGEST = 65_504.0  # that float16 holds
KEPT, SENT = np.dtype("<f2"), np.dtype("<f4")
SCALE_IT = f"needs numbers between -{LARGEST:.0f} and {LARGEST:.0f}, not all of them below 1e-7: scale it to length 1"

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]


def packed(numbers: Sequence[float] | npt.NDArray[Any]) -> bytes:
    """The numbers (W,) as an item keeps them; nothing where there are none, or zeros only. InvalidArgument names the
    field and says what to do."""
    try:
        vector = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError) as wrong:
        raise InvalidArgument("must be a list of numbers", field=FIELD) from wrong
    if vector.ndim != 1:
        raise InvalidArgument("must be one flat list of numbers", field=FIELD)
    check_width(len(vector))
    if not np.isfinite(vector).all():
        raise InvalidArgument(
            "holds a number that is not finite; leave the vector out where there is none", field=FIELD
        )
    if not vector.any():
        return b""
    with np.errstate(over="ignore", under="ignore"):
        kept = vector.astype(KEPT)
    if not (np.isfinite(kept).all() and kept.any()):
        raise InvalidArgument(SCALE_IT, field=FIELD)
    return kept.tobytes()


def unpacked(kept: bytes) -> Floats:
    """(W,) what an item keeps as numbers."""
    return np.frombuffer(kept, KEPT).astype(np.float32)


def sent(kept: bytes) -> bytes:
    """As it travels: little-endian float32, which every language reads."""
    return np.frombuffer(kept, KEPT).astype(SENT).tobytes()


def received(data: bytes) -> bytes:
    """What `sent` made, or a client, as an item keeps it; InvalidArgument names the field."""
    if len(data) % SENT.itemsize:
        raise InvalidArgument(f"{len(data)} bytes are no little-endian float32 numbers", field=FIELD)
    return packed(np.frombuffer(data, SENT)) if data else b""


def check_kept(kept: object) -> None:
    """What an item may keep is what `packed` makes."""
    if not isinstance(kept, bytes) or len(kept) % KEPT.itemsize:
        raise InvalidArgument("must be bytes of little-endian float16 (winnow.image_vectors.packed)", field=FIELD)
    check_width(len(kept) // KEPT.itemsize)
    numbers = np.frombuffer(kept, KEPT)
    if len(numbers) and not (np.isfinite(numbers).all() and numbers.any()):
        raise InvalidArgument("must be finite, and not zeros only", field=FIELD)


def check_width(numbers: int) -> None:
    if numbers > MAX_WIDTH:
        raise InvalidArgument(
            f"has {numbers} numbers, at most {MAX_WIDTH:,} are kept: use a smaller model", field=FIELD
        )


def matrix(several: Sequence[bytes], width: int) -> Halves:
    """(n, width) of what items keep; a row of zeros where one has no vector, or one of another width."""
    rows = np.zeros((len(several), width), np.float16)
    for row, kept in zip(rows, several, strict=True):
        if len(kept) == width * KEPT.itemsize:
            row[:] = np.frombuffer(kept, KEPT)
    return rows


def widths(several: Iterable[bytes]) -> Counter[int]:
    """How many vectors there are of each width."""
    return Counter(len(kept) // KEPT.itemsize for kept in several if kept)
