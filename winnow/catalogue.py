"""Every item a process knows, as columns beside the items themselves.

Rows are given once and kept: an item keeps its row when it is written again, so tables elsewhere (vectors, item
states) line up by row number. `follow` keeps a catalogue current from the feature service's item log; that one
mechanism serves start-up, restarts and writes alike. Reads never block; writes come from one task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import repeat
from weakref import ref

import numpy as np
import numpy.typing as npt

from winnow.errors import WinnowError
from winnow.filters import ATTRIBUTE, All, Any, Filter, Not, Op, Term, texts_of
from winnow.ports import Features
from winnow.serving.telemetry import CATALOGUE_ITEMS, CATALOGUE_POSITION
from winnow.types import CataloguePage, Item, Strings, strings

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

COMPARE: dict[Op, Callable[[npt.NDArray[np.float64], float], Mask]] = {
    Op.LT: np.less,
    Op.LE: np.less_equal,
    Op.GT: np.greater,
    Op.GE: np.greater_equal,
}


class Catalogue:
    """Items by row. `watermark` is the item-log position up to which this catalogue is complete; `complete` is set
    once the whole log was read. `images`: it follows the vectors of images as well, which only who finds items reads."""

    def __init__(self, images: bool = False) -> None:
        self.images = images
        self.watermark = 0
        self.complete = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody waits for a newer watermark
        self._moved = asyncio.Event()  # set, and replaced, when the watermark has moved
        self._items: list[Item] = []
        self._row: dict[str, int] = {}
        self._postings: dict[str, dict[str, set[int]]] = {}  # text field -> value -> rows
        self._ids = strings([])
        self._named: dict[int, tuple[ref[Strings], Rows]] = {}  # id of a column that `names` gave -> itself, its rows
        self._price = np.empty(0, np.float64)  # NaN where there is none
        self._created = np.empty(0, np.float64)  # seconds since 1970
        self._available = np.empty(0, np.bool_)
        self._category = np.empty(0, np.int32)  # place of the first category among those met, -1 without one
        self._categories: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._row

    def get(self, item_id: str) -> Item | None:
        row = self._row.get(item_id)
        return None if row is None else self._items[row]

    def item(self, row: int) -> Item:
        return self._items[row]

    def row(self, item_id: str) -> int:
        """The item's row, or -1."""
        return self._row.get(item_id, -1)

    def rows(self, item_ids: Sequence[str] | npt.NDArray[np.object_]) -> Rows:
        """(n,) int64 rows, -1 where an id is unknown. Of a column that `names` gave they are known already."""
        named = self._named.get(id(item_ids))
        if named is not None and named[0]() is item_ids:
            return named[1]
        return np.fromiter(map(self._row.get, item_ids, repeat(-1)), np.int64, count=len(item_ids))

    def names(self, rows: Rows) -> Strings:
        """Ids of these rows, read-only. Whoever in this process asks for the rows of this very column gets these back
        without 500 look-ups; one that came over the wire is looked up."""
        ids = self._ids[rows]
        ids.flags.writeable = rows.flags.writeable = False
        key = id(ids)
        self._named[key] = ref(ids, lambda _: self._named.pop(key, None)), rows
        return ids

    @property
    def ids(self) -> npt.NDArray[np.object_]:
        """Item id per row."""
        return self._ids[: len(self._items)]

    @property
    def available(self) -> Mask:
        return self._available[: len(self._items)]

    @property
    def created(self) -> npt.NDArray[np.float64]:
        """Seconds since 1970 per row."""
        return self._created[: len(self._items)]

    @property
    def category(self) -> npt.NDArray[np.int32]:
        """A number for each row's first category, equal for equal ones; -1 where it has none."""
        return self._category[: len(self._items)]

    def upsert(self, items: Iterable[Item]) -> Rows:
        """Write items; returns the rows that changed, in writing order."""
        changed: list[int] = []
        for item in items:
            row = self._row.get(item.item_id)
            if row is None:
                row = len(self._items)
                self._grow(row + 1)
                self._items.append(item)
                self._ids[row] = item.item_id
                self._row[item.item_id] = row
            else:
                self._unpost(row, self._items[row])
                self._items[row] = item
            self._price[row] = np.nan if item.price is None else item.price
            self._created[row] = item.created_at.timestamp()
            self._available[row] = item.available
            self._category[row] = self._number_of(item.categories)
            self._post(row, item)
            changed.append(row)
        return np.asarray(changed, np.int64)

    def advance(self, watermark: int, *, complete: bool) -> None:
        """Everything up to `watermark` is written; `complete`: nothing newer was there."""
        self.watermark = watermark
        CATALOGUE_POSITION.set(watermark)
        CATALOGUE_ITEMS.set(len(self._items))
        if complete:
            self.complete.set()
        self._moved.set()
        self._moved = asyncio.Event()

    async def reach(self, watermark: int) -> None:
        """Returns once this catalogue is complete up to `watermark`; its follower looks at once."""
        while self.watermark < watermark:
            self._wanted.set()
            await self._moved.wait()

    def told(self, watermark: int) -> None:
        """Somebody wrote items up to `watermark` (0: perhaps); the follower looks at once unless they are here."""
        if not 0 < watermark <= self.watermark:
            self._wanted.set()

    async def wanted(self, at_most_s: float) -> None:
        """Returns when somebody waits in `reach`, or after `at_most_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._wanted.wait()
        self._wanted.clear()

    def mask(self, tree: Filter) -> Mask:
        """(len(self),) bool: which rows match. Same meaning as `winnow.filters.holds`."""
        n = len(self._items)
        match tree:
            case All(parts):
                found = np.ones(n, np.bool_)
                for part in parts:
                    found &= self.mask(part)
                return found
            case Any(parts):
                found = np.zeros(n, np.bool_)
                for part in parts:
                    found |= self.mask(part)
                return found
            case Not(part):
                return ~self.mask(part)
            case Term("available", _, _, _, flag):
                return np.equal(self._available[:n], flag)
            case Term("price", op, _, number):
                return COMPARE[op](self._price[:n], number)
            case Term("created_at", op, _, number):
                return COMPARE[op](self._created[:n], number)
            case Term(field, _, values):
                return self._text_mask(field, values, n)

    def _text_mask(self, field: str, values: tuple[str, ...], n: int) -> Mask:
        found = np.zeros(n, np.bool_)
        if field == "item_id":
            rows = self.rows(values)
            found[rows[rows >= 0]] = True
            return found
        postings = self._postings.get(field, {})
        for value in values:
            rows_of_value = postings.get(value)
            if rows_of_value:
                found[np.fromiter(rows_of_value, np.int64, count=len(rows_of_value))] = True
        return found

    def _grow(self, size: int) -> None:
        if size <= len(self._ids):
            return
        room = max(1024, size, 2 * len(self._ids)) - len(self._ids)
        self._ids = np.concatenate([self._ids, np.full(room, None, dtype=object)])
        self._price = np.concatenate([self._price, np.full(room, np.nan)])
        self._created = np.concatenate([self._created, np.zeros(room)])
        self._available = np.concatenate([self._available, np.zeros(room, np.bool_)])
        self._category = np.concatenate([self._category, np.full(room, -1, np.int32)])

    def _number_of(self, categories: Sequence[str]) -> int:
        return self._categories.setdefault(categories[0], len(self._categories)) if categories else -1

    def _fields(self, item: Item) -> list[str]:
        return ["categories", "brand", "currency", *(ATTRIBUTE + name for name in item.attributes)]

    def _post(self, row: int, item: Item) -> None:
        for field in self._fields(item):
            for value in texts_of(item, field):
                self._postings.setdefault(field, {}).setdefault(value, set()).add(row)

    def _unpost(self, row: int, item: Item) -> None:
        for field in self._fields(item):
            for value in texts_of(item, field):
                self._postings[field][value].discard(row)


Changed = Callable[[Rows], None]


async def follow(
    catalogue: Catalogue, features: Features, changed: Changed, *, page: int = 2_000, every_s: float = 0.5
) -> None:
    """Keep `catalogue` current for ever; call `changed(rows)` after each page, in this task.

    A feature service that is away is waited for: the catalogue stays as it is and catches up afterwards.
    """
    while True:
        more = await catch_up(catalogue, features, changed, page=page)
        if not more:
            await catalogue.wanted(every_s)


async def catch_up(catalogue: Catalogue, features: Features, changed: Changed, *, page: int = 2_000) -> bool:
    """Read one page of the item log; True when another waits."""
    try:
        answer: CataloguePage = await features.catalogue(catalogue.watermark, page, catalogue.images)
    except WinnowError as away:
        log.debug("the catalogue cannot be read: %s", away)
        return False
    if answer.items:
        changed(catalogue.upsert(answer.items))
    catalogue.advance(answer.watermark, complete=not answer.more)
    return answer.more
