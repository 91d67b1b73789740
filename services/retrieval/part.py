"""Which items one of several retrieval processes answers for: a part of the catalogue, by hash of the id or by category.

Everything else stays whole in each of them: the catalogue, popularity, neighbours, words, and the item vectors that a
person's history is read by (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import xxhash

from winnow.catalogue import Mask
from winnow.errors import InvalidArgument
from winnow.types import Item

MOST = 1_024


@dataclass(frozen=True, slots=True)
class Part:
    """Number `number` (from 0) of `of` parts. By category: an item goes where its first category does."""

    number: int
    of: int
    by: Literal["hash", "category"] = "hash"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`2/4`, or `2/4:category`; InvalidArgument for anything else."""
        counts, _, by = text.partition(":")
        number, _, of = counts.partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of) <= MOST and by in ("", "category")):
            raise InvalidArgument(f"{text!r} is no part: give for example 0/4 to 3/4, or 0/4:category", field="shard")
        return cls(int(number), int(of), "category" if by else "hash")

    def holds(self, item: Item) -> bool:
        """Whether an item is this part's."""
        key = item.categories[0] if self.by == "category" and item.categories else item.item_id
        return self._of(key)

    def mask(self, items: Iterable[Item]) -> Mask:
        return np.fromiter(map(self.holds, items), np.bool_)

    def places(self, item_ids: Sequence[str]) -> Mask | None:
        """Which of these ids are this part's; None where an id does not say."""
        return np.fromiter(map(self._of, item_ids), np.bool_) if self.by == "hash" else None

    def _of(self, key: str) -> bool:
        return xxhash.xxh3_64_intdigest(key.encode()) % self.of == self.number
