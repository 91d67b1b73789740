"""One retrieval bundle put beside the catalogue: every table by catalogue row.

A row below `size` is complete here: its vector is in the table and in the index. Items whose content is the bundle's
take their vector from it; new and changed ones go through the item tower. One thread absorbs, many may read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

import numpy as np
import numpy.typing as npt

from services.retrieval.ask import Ask
from services.retrieval.bundle import Neighbours, RetrievalBundle, no_history
from services.retrieval.part import Part
from winnow.catalogue import Catalogue, Mask, Rows
from winnow.encoding import tower_inputs
from winnow.features import UserView, item_digest
from winnow.types import HISTORY, Floats, Item

BATCH = 512  # items through the item tower at once


class Model:
    """Tables of one bundle over a catalogue; give it every change by `absorb`. `as_of`: the changes of the catalogue
    that the service had been told of when this was begun. Of a `part`, only its items are in the index."""

    def __init__(self, bundle: RetrievalBundle, catalogue: Catalogue, as_of: int = 0, part: Part | None = None) -> None:
        self.bundle = bundle
        self.as_of = as_of
        self.size = 0
        self.vectors = np.zeros((0, bundle.dim), np.float32)
        self.popular = np.empty(0, np.int64)  # rows, most acted on first; rows without statistics at the end
        self.place = np.empty(0, np.int64)  # row -> place in the bundle, -1
        self._row_or_none = np.full(
            len(bundle.item_ids) + 1, -1, np.int64
        )  # place -> row, -1; the last is for place -1
        self.row = self._row_or_none[:-1]
        self._recent = np.append(np.log1p(bundle.recent), 0.0).astype(np.float32)  # by place; the last stands for -1
        self._by_popularity = np.lexsort((np.arange(len(bundle.recent)), -bundle.count, -bundle.recent))
        self._catalogue = catalogue
        self._part = part
        self._place_of = {item_id: n for n, item_id in enumerate(bundle.item_ids)}
        self._items: list[Item | None] = []  # what each row was computed from

    @property
    def id(self) -> str:
        return self.bundle.id

    def stale(self) -> Rows:
        """Rows whose item is not the one that was absorbed."""
        known, seen = self._catalogue, self._items
        rows = (n for n in range(len(known)) if n >= len(seen) or seen[n] is not known.item(n))
        return np.fromiter(rows, np.int64)

    def outdated(self, rows: Rows) -> bool:
        """Whether the item of one of these absorbed rows has changed since."""
        return any(self._items[row] is not self._catalogue.item(row) for row in rows.tolist())

    def absorb(self, rows: Rows) -> None:
        """Compute what changed in these rows, and in any row below them that is still missing."""
        if not len(rows):
            return
        size = max(self.size, int(rows.max()) + 1)
        rows = np.union1d(rows, np.arange(self.size, size))
        items = [self._catalogue.item(row) for row in rows.tolist()]
        self._reserve(size)
        places = np.fromiter((self._place_of.get(item.item_id, -1) for item in items), np.int64, count=len(items))
        digests = np.fromiter((item_digest(item) for item in items), np.uint64, count=len(items))
        same = (places >= 0) & (self.bundle.digests[places] == digests)
        new = np.flatnonzero(~same)
        self.vectors[rows[same]] = self.bundle.vectors[places[same]]
        self.vectors[rows[new]] = self.encode([items[n] for n in new])
        self.place[rows] = places
        self.row[places[places >= 0]] = rows[places >= 0]
        self._index(rows, places, same, items)
        for row, item in zip(rows.tolist(), items, strict=True):
            self._items[row] = item
        if size > self.size:
            self._order(size)
        self.size = size

    def _index(self, rows: Rows, places: Rows, same: Mask, items: Sequence[Item]) -> None:
        """Make these rows searchable, those of other parts not."""
        index = self.bundle.index
        mine = np.ones(len(rows), np.bool_) if self._part is None else self._part.mask(items)
        index.bind(places[same & mine], rows[same & mine])
        new = rows[mine & ~same]
        if len(new):
            index.put(new, self.vectors[new])
        if not mine.all():
            index.drop(rows[~mine])

    def encode(self, items: Sequence[Item]) -> Floats:
        """Items → (n, d) by the item tower."""
        vectors = np.zeros((len(items), self.bundle.dim), np.float32)
        for start in range(0, len(items), BATCH):
            some = items[start : start + BATCH]
            inputs = tower_inputs(self.bundle.item_schema, some, self.bundle.image_width)
            vectors[start : start + len(some)] = self.bundle.item_tower.run(inputs)["vector"]
        return vectors

    def users(self, asks: Sequence[Ask]) -> Floats:
        """People → (b, d) by the user tower, in one run. Acts on unknown items are left out of the history."""
        bundle = self.bundle
        views = [UserView(ask.user, ask.context, self._catalogue.get) for ask in asks]
        inputs = no_history(len(asks), bundle.dim)
        for n, ask in enumerate(asks):
            codes = list(map(bundle.type_codes.get, ask.user.history.types.tolist(), repeat(0)))
            types = np.asarray(codes, np.int64)
            known = ((ask.history >= 0) & (ask.history < self.size) & (types > 0)).nonzero()[0][-HISTORY:]
            if not len(known):
                continue
            values = ask.user.history.values[known]
            inputs["history"][n, -len(known) :] = self.vectors[ask.history[known]]
            inputs["history_types"][n, -len(known) :] = types[known]
            scaled = (values - bundle.value_mean) / bundle.value_std
            inputs["history_values"][n, -len(known) :] = np.where(np.isnan(values), 0.0, scaled)
        outputs = bundle.user_tower.run({"ids": bundle.user_schema.encode(views)[0], **inputs})
        return np.asarray(outputs["vector"], np.float32)

    def recent(self, rows: Rows) -> Floats:
        """log(1 + decayed acts) per row, 0 where the bundle has no statistics."""
        return self._recent[self.place[rows]]

    def neighbours(self, table: Neighbours, rows: Rows, weights: Floats) -> tuple[Rows, Floats]:
        """Sum over `rows` (-1: unknown) of weight times the table's scores: distinct rising rows and scores above 0."""
        known = ((rows >= 0) & (rows < self.size)).nonzero()[0]
        places = self.place[rows[known]]
        if len(places) and places.min() < 0:
            known = known[places >= 0]
            places = self.place[rows[known]]
        weights = weights[known]
        flat = self._row_or_none[table.places[places]].ravel()
        worth = (table.scores[places] * weights[:, None]).ravel()
        distinct, which = np.unique(flat, return_inverse=True)
        scores = np.bincount(which, weights=worth, minlength=len(distinct)).astype(np.float32)
        above = (scores > 0) & (distinct >= 0)
        return distinct[above], scores[above]

    def _order(self, size: int) -> None:
        ranked = self.row[self._by_popularity]
        others = np.flatnonzero(self.place[:size] < 0)
        self.popular = np.concatenate([ranked[ranked >= 0], others[::-1]])

    def _reserve(self, size: int) -> None:
        room = size - len(self.vectors)
        if room > 0:
            room = max(room, len(self.vectors) // 4, 1024)
            self.vectors = np.concatenate([self.vectors, np.zeros((room, self.bundle.dim), np.float32)])
            self.place = np.concatenate([self.place, np.full(room, -1, np.int64)])
        self._items += [None] * (size - len(self._items))


@lru_cache(maxsize=256)
def weights_of(acts: int, decay: float) -> npt.NDArray[np.float32]:
    """(acts,) oldest first, read-only: the newest counts 1, each older one `decay` times the next."""
    weights = (decay ** np.arange(acts - 1, -1, -1)).astype(np.float32)
    weights.flags.writeable = False
    return weights
