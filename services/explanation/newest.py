"""Which items entered the catalogue last."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from services.explanation.popularity import TOPS
from winnow.catalogue import Catalogue
from winnow.types import EARLIEST, Item

MOST = TOPS[2]  # places that are looked at


class Newest:
    """The newest moments of a catalogue, taken again when the catalogue has changed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._seen = (-1, -1)
        self._newest: list[float] = []  # seconds since 1970, ascending

    def top(self, item: Item) -> int:
        """The smallest of `TOPS` that the item is among, or 0. Items of one moment share the last of their places, so
        that "among the ten newest" is never said of eleven."""
        return self.among(item.created_at.timestamp()) if item.created_at > EARLIEST else 0

    def among(self, created_s: float) -> int:
        """The same for an item created then, seconds since 1970 and above 0."""
        self._look()
        place = len(self._newest) - bisect_left(self._newest, created_s)
        return next((top for top in TOPS if 0 < place <= top <= MOST), 0) if place else 0

    def _look(self) -> None:
        seen = (len(self._catalogue), self._catalogue.watermark)
        if seen != self._seen:
            created = self._catalogue.created
            kept = min(MOST + 1, len(created))
            self._newest = np.sort(np.partition(created, len(created) - kept)[len(created) - kept :]).tolist()
            self._seen = seen
