"""Which items people chose most lately, as the statistics of the serving retrieval bundle have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import pyarrow.parquet as pq

from winnow.artifacts import Bundle

TOPS = (10, 20, 50, 100)  # "among the ten", never "number 37"
PART = 10  # a top is worth telling when it is at most 1/PART of all, or the first of `TOPS`


class Popularity:
    """The place (1 = most chosen) of each item that is near the top."""

    def __init__(self, places: Mapping[str, int] | None = None) -> None:
        self._places = places or {}

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """From the recent counts of a retrieval bundle; equals keep the bundle's order."""
        stats = pq.read_table(bundle.file("stats.parquet"), columns=["item_id", "recent"])
        recent = stats["recent"].to_numpy()
        told = max(TOPS[0], min(TOPS[-1], len(recent) // PART))
        best = np.argsort(-recent, kind="stable")[:told]
        ids = stats["item_id"].take(best[recent[best] > 0]).to_pylist()
        return cls({item_id: place for place, item_id in enumerate(ids, start=1)})

    def top(self, item_id: str) -> int:
        """The smallest of `TOPS` that the item is among, or 0."""
        place = self._places.get(item_id, 0)
        return next((top for top in TOPS if place <= top), 0) if place else 0
