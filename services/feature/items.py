"""The item log in memory: the newest version of every item at the position where it was written.

What was on disk when the process started stays an Arrow table and becomes items only when a page is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow.canonical import BARE, items_of
from winnow.types import CataloguePage, Item


class ItemLog:
    """Positions count from 1, as in the log: first the rows of `table`, then what is applied."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._bare = table.select(BARE)
        self._on_disk: int = table.num_rows
        ids = table["item_id"].to_pylist()
        self._place = {item_id: position for position, item_id in enumerate(ids, 1)}  # of its newest version
        self._current = np.zeros(len(ids), np.bool_)
        self._current[np.fromiter(self._place.values(), np.int64, count=len(self._place)) - 1] = True
        self._newer: list[Item | None] = []  # None where a later version exists

    @property
    def watermark(self) -> int:
        return self._on_disk + len(self._newer)

    def get(self, item_id: str) -> Item | None:
        place = self._place.get(item_id)
        if place is None:
            return None
        if place > self._on_disk:
            return self._newer[place - self._on_disk - 1]
        return next(items_of(self._table.slice(place - 1, 1)))

    def without_image(self, item_id: str) -> Item | None:
        item = self.get(item_id)
        return None if item is None else item.without_image()

    def apply(self, items: Sequence[Item]) -> None:
        """Take items that are on disk, in the order of the log."""
        on_disk = self._on_disk
        for item in items:
            before = self._place.get(item.item_id, 0)
            if before > on_disk:
                self._newer[before - on_disk - 1] = None
            elif before:
                self._current[before - 1] = False
            self._newer.append(item)
            self._place[item.item_id] = self.watermark

    async def page(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        """Newest versions after a position, with the vectors of their images where these are wanted. A position that this
        log never had starts again at 0: the log is another."""
        after, end = after if after <= self.watermark else 0, self.watermark
        rows = after + np.flatnonzero(self._current[after:])[: limit + 1]
        placed: list[tuple[int, Item]] = []
        if len(rows) <= limit:
            since = max(after, self._on_disk)
            newer = enumerate(self._newer[since - self._on_disk :], since + 1)
            placed = list(islice(((p, item) for p, item in newer if item is not None), limit + 1 - len(rows)))
        more = len(rows) + len(placed) > limit
        rows, placed = rows[:limit], placed[: max(limit - len(rows), 0)]
        last = placed[-1][0] if placed else int(rows[-1]) + 1 if len(rows) else end
        found = await asyncio.to_thread(self._items, rows, images) if len(rows) else []
        newest = (item if images else item.without_image() for _, item in placed)
        return CataloguePage((*found, *newest), last if more else end, more)

    def _items(self, rows: npt.NDArray[np.int64], images: bool) -> list[Item]:
        table, first = self._table if images else self._bare, int(rows[0])
        near = table.slice(first, int(rows[-1]) + 1 - first)  # `take` copies all that it takes from
        return list(items_of(near.take(pa.array(rows - first))))
