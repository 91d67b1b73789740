"""What a person has seen, in two parts: the recent ids exactly, the long tail as 32-bit fingerprints.

A fingerprint costs 4 bytes where an id costs tens. Two ids share one with probability 2^-32, so a tail of m items
falsely suppresses a given unseen item with probability m / 2^32: a person with 10,000 seen items in a catalogue of a
million meets 2.3 false suppressions in expectation; with 100 seen items, 0.02.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash

from winnow.types import Bits

EXACT = 500  # ids kept exactly per person; older ones become fingerprints


def fingerprint(item_id: str) -> int:
    """xxHash32 of the id's UTF-8 bytes."""
    return xxhash.xxh32_intdigest(item_id.encode())


def fingerprints(item_ids: Iterable[str]) -> Bits:
    """(n,) uint32, in the order given."""
    return np.fromiter((fingerprint(i) for i in item_ids), np.uint32)
