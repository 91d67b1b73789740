"""What the gateway shows when retrieval is lost: popular items that it remembers itself."""

from __future__ import annotations

import asyncio

import numpy as np

from winnow.catalogue import Catalogue, Mask, Rows
from winnow.errors import WinnowError
from winnow.ports import Retrieval, RetrieveQuery, TrendingQuery
from winnow.seen import fingerprints
from winnow.types import Bits, Candidates

SOURCE = "popular"
STRETCH = 1_000  # ids hashed at a time


class Popular:
    """Remembers `size` trending items; `remember` keeps them fresh while retrieval answers."""

    def __init__(self, catalogue: Catalogue, size: int) -> None:
        self._catalogue = catalogue
        self._size = size
        self._ids: list[str] = []

    async def remember(self, retrieval: Retrieval, every_s: float) -> None:
        """Ask for ever; while retrieval is in trouble the last list stays, and it is asked again soon."""
        while True:
            try:
                async with asyncio.timeout(5.0):
                    self._ids = (await retrieval.trending(TrendingQuery(self._size))).item_ids.tolist()
                await asyncio.sleep(every_s)
            except (WinnowError, TimeoutError):
                await asyncio.sleep(min(1.0, every_s))

    def candidates(self, query: RetrieveQuery) -> Candidates:
        """Up to `query.n` allowed items: remembered ones first, then any others of the catalogue."""
        allowed = self._allowed(query)
        tail = query.user.seen_tail[:0] if query.include_seen else query.user.seen_tail
        remembered = self._catalogue.rows(self._ids)
        remembered = remembered[remembered >= 0]
        rows = self._unseen(remembered[allowed[remembered]], tail, query.n)
        if len(rows) < query.n:
            allowed[remembered] = False
            others = self._unseen(np.flatnonzero(allowed), tail, query.n - len(rows))
            rows = np.concatenate([rows, others])
        return Candidates(
            item_ids=self._catalogue.ids[rows],
            sources=np.ones(len(rows), np.uint32),
            scores=np.zeros((len(rows), 1), np.float32),
            source_names=(SOURCE,),
        )

    def _allowed(self, query: RetrieveQuery) -> Mask:
        allowed = self._catalogue.available.copy()
        if query.filter is not None:
            allowed &= self._catalogue.mask(query.filter)
        self._forbid(allowed, self._catalogue.rows(query.exclude))
        if not query.include_seen:
            self._forbid(allowed, self._catalogue.rows(query.user.seen))
        return allowed

    def _unseen(self, rows: Rows, tail: Bits, n: int) -> Rows:
        """The first `n` of `rows` whose fingerprint is not in `tail`. Hashes no more ids than it must: hashing a
        catalogue of a million takes 0.2 s, on the event loop that all requests share."""
        if not len(tail):
            return rows[:n]
        found = rows[:0]
        for start in range(0, len(rows), STRETCH):
            stretch = rows[start : start + STRETCH]
            found = np.concatenate([found, stretch[~np.isin(fingerprints(self._catalogue.ids[stretch]), tail)]])
            if len(found) >= n:
                break
        return found[:n]

    @staticmethod
    def _forbid(allowed: Mask, rows: Rows) -> None:
        allowed[rows[rows >= 0]] = False
