"""What the ranker makes of each item, computed before anybody asks: `item_net`'s outputs by catalogue row.

Row r of the catalogue is at place r + 1; place 0 is an item of which nothing is known (every feature missing), which
stands for ids that are not in the catalogue or not yet here. One thread absorbs, many may read.
"""

from __future__ import annotations

import numpy as np

from services.ranking.bundle import RankingBundle, nobody
from winnow.catalogue import Catalogue, Rows
from winnow.features import NO_STATS, ItemView
from winnow.types import Floats, Item

BATCH = 256  # items through item_net at once


class ItemStates:
    """Tables of one bundle over a catalogue: `vectors` (rows + 1, I, 64) and `hidden` (rows + 1, H)."""

    def __init__(self, bundle: RankingBundle, catalogue: Catalogue) -> None:
        self._bundle = bundle
        self._catalogue = catalogue
        self._items: list[Item | None] = []  # what each row was computed from
        self.size = 0  # rows computed, and none below it missing
        self.vectors = np.empty((0, bundle.item_vectors, bundle.embedding), np.float32)
        self.hidden = np.empty((0, bundle.hidden), np.float32)
        self._reserve(len(catalogue))
        outputs = bundle.item_net.run(nobody(bundle.item_schema))
        self.vectors[0], self.hidden[0] = outputs["vectors"][0], outputs["hidden"][0]

    def stale(self) -> Rows:
        """Rows whose item is not the one that was absorbed."""
        known, seen = self._catalogue, self._items
        rows = (n for n in range(len(known)) if n >= len(seen) or seen[n] is not known.item(n))
        return np.fromiter(rows, np.int64)

    def absorb(self, rows: Rows) -> None:
        """Compute these rows, and any below them that is still missing."""
        if not len(rows):
            return
        size = max(self.size, int(rows.max()) + 1)
        rows = np.union1d(rows, np.arange(self.size, size))
        self._reserve(size)
        for start in range(0, len(rows), BATCH):
            self._compute(rows[start : start + BATCH])
        self.size = size

    def places(self, rows: Rows) -> Rows:
        """Where in the tables the catalogue's rows (-1: unknown) are."""
        return np.where(rows < self.size, rows + 1, 0)

    def _compute(self, rows: Rows) -> None:
        items = [self._catalogue.item(row) for row in rows.tolist()]
        stats, at = self._bundle.stats, self._bundle.stats_at
        views = [ItemView(item, stats.get(item.item_id, NO_STATS), at) for item in items]
        ids, numbers = self._bundle.item_schema.encode(views)
        outputs = self._bundle.item_net.run({"ids": ids, "numbers": numbers})
        self.vectors[rows + 1] = outputs["vectors"]
        self.hidden[rows + 1] = outputs["hidden"]
        for row, item in zip(rows.tolist(), items, strict=True):
            self._items[row] = item

    def _reserve(self, size: int) -> None:
        self._items += [None] * (size - len(self._items))
        if size + 1 > len(self.hidden):
            room = max(size + 1, len(self.hidden) * 5 // 4, 1024)
            self.vectors, self.hidden = grown(self.vectors, room), grown(self.hidden, room)


def grown(table: Floats, size: int) -> Floats:
    """A longer table with the same first rows."""
    longer = np.zeros((size, *table.shape[1:]), np.float32)
    longer[: len(table)] = table
    return longer
