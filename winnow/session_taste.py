"""What a person seems to want in this sitting: one direction in a space that needs no model.

An item points where the hashes of its categories, brand and attributes point (signed feature hashing, Weinberger et al.
2009); a session's taste is the sum over its acts, stronger for stronger acts and newer ones, of length 1. A session ends
where nothing happened for half an hour. Pure: the same acts and items give the same bits, whenever and wherever it is
computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import xxhash

from winnow.types import EventType, Floats, Item

DIMENSIONS = 64
SESSION_GAP_S = 30 * 60.0
HALF_LIFE_S = 10 * 60.0
WEIGHTS = {
    EventType.IMPRESSION: 0.0,
    EventType.CLICK: 1.0,
    EventType.CART: 2.0,
    EventType.PURCHASE: 3.0,
    EventType.RATING: 1.0,
    EventType.DISMISS: -1.0,
}
WEIGHT_OF = np.array([WEIGHTS[kind] for kind in EventType])
"""Per code of `winnow.acts.CODES`."""

Times = npt.NDArray[np.float64]


def session_begins(at: Times) -> int:
    """The row of the first act of the newest session, of times that ascend."""
    gaps = np.flatnonzero(np.diff(at) > SESSION_GAP_S)
    return int(gaps[-1]) + 1 if len(gaps) else 0


def direction(item: Item) -> Floats:
    """(64,) of length 1; zeros for an item that says nothing of itself."""
    words = [f"category:{name}" for name in item.categories]
    words += [f"brand:{item.brand}"] if item.brand else []
    words += [f"{name}={value}" for name, value in item.attributes.items()]
    found = np.zeros(DIMENSIONS, np.float64)
    for word in words:
        print_ = xxhash.xxh3_64_intdigest(word.encode())
        found[print_ % DIMENSIONS] += 1.0 if print_ >> 63 else -1.0
    return unit(found)


def taste(
    item_ids: npt.NDArray[np.object_], types: npt.NDArray[np.int8], at: Times, of: Callable[[str], Floats]
) -> Floats:
    """(64,) from the acts of one session, columns of equal length, times ascending; `of` gives an item's direction."""
    if not len(at):
        return np.zeros(DIMENSIONS, np.float32)
    weights = WEIGHT_OF[types] * np.exp2((at - at[-1]) / HALF_LIFE_S)
    directions = np.stack([of(item_id) for item_id in item_ids]).astype(np.float64)
    return unit((weights[:, None] * directions).sum(axis=0))


def unit(vector: npt.NDArray[np.float64]) -> Floats:
    length = float(np.sqrt((vector * vector).sum()))
    return (vector / length if length else vector).astype(np.float32)
