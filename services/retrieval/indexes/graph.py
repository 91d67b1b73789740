"""FAISS's graph of neighbours (HNSW, Malkov and Yashunin 2018): a search walks from neighbour to nearer neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.retrieval.indexes.flat import CODED, WHOLE, FaissIndex, lib
from services.retrieval.indexes.slots import Selection
from winnow.catalogue import Rows
from winnow.types import Floats

# Measured on one core at 100,000 vectors of 128: comparing 50,000 matching rows exactly takes 3.4 ms, a graph search
# under a filter that lets half the rows through 1.5 ms at a recall of 0.88; at a tenth 1.1 ms against 1.5 ms at 0.68.
EXACT_ROWS = 30_000


class HnswIndex(FaissIndex):
    """Some milliseconds at a million items. `ef` is the least breadth of a search; below `EXACT_ROWS` matching rows,
    which a walk would mostly pass by, all of them are compared."""

    def __init__(self, index: Any, kind: str = "hnsw") -> None:
        super().__init__(index, lib.downcast_index(index.storage), CODED if kind == "hnsw_sq8" else WHOLE)
        self.kind = kind
        self._ef = max(int(index.hnsw.efSearch), 64)

    def _nearest(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        if selection.count <= min(EXACT_ROWS, self.index.ntotal // 2):
            return self._stored(vectors, k, selection)
        breadth = lib.SearchParametersHNSW(efSearch=max(k, self._ef), sel=self._selector(selection))
        scores, slots = self.index.search(vectors, k, params=breadth)
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short):
            scores[short], slots[short] = self._stored(vectors[short], k, selection)
        return scores, slots

    def _stored(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        """All selected vectors compared."""
        found: tuple[Floats, Rows] = self._exact.search(
            vectors, k, params=lib.SearchParameters(sel=self._selector(selection))
        )
        return found
