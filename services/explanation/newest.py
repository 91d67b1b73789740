"""Which items entered the catalogue last."""

from __future__ import annotations

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
        self._newest = np.empty(0)  # seconds since 1970, ascending

    def top(self, item: Item) -> int:
        """The smallest of `TOPS` that the item is among, or 0. Items of one moment share the last of their places, so
        that "among the ten newest" is never said of eleven."""
        if item.created_at <= EARLIEST:
            return 0
        self._look()
        place = len(self._newest) - int(np.searchsorted(self._newest, item.created_at.timestamp(), side="left"))
        return next((top for top in TOPS if 0 < place <= top <= MOST), 0)

    def _look(self) -> None:
        seen = (len(self._catalogue), self._catalogue.watermark)
        if seen != self._seen:
            created = self._catalogue.created
            kept = min(MOST + 1, len(created))
            self._newest = np.sort(np.partition(created, len(created) - kept)[len(created) - kept :])
            self._seen = seen
