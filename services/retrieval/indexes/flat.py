"""FAISS indexes that compare all vectors, and what every FAISS index shares: slots, the lock, the exact search among few.

Full precision (`flat`), half (`fp16`) and a byte per number (`sq8`). Dead slots of replaced and dropped vectors stay
until the next bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from services.retrieval.indexes.slots import ReadersWriter, Selection, Slots, alike
from services.retrieval.indexes.snapshots import snapshot
from winnow.catalogue import Mask, Rows
from winnow.types import Floats

lib: Any = faiss  # its type stubs lack what its Python wrappers add


# Measured on one core over 100,000 vectors: the bitmap of a filter costs a search 0.4 ms before anything matches. To fetch
# and compare a matching vector one by one costs 0.12 µs, or 1.4 µs where it has to be decoded.
WHOLE, CODED = 50, 500
"""One slot in so many is few: then the matching ones are fetched and compared, which is faster than any search."""


class FaissIndex:
    """`exact` are the vectors that few matching rows are compared by: the index's own, or those beside it."""

    kind = "flat"

    def __init__(self, index: Any, exact: Any | None = None, few: int = WHOLE) -> None:
        self.index = index  # FAISS's own
        self._exact = index if exact is None else exact
        self._few = few
        self._slots = Slots(index.ntotal)
        self._lock = ReadersWriter()
        self._place: Rows | None = None

    def keep(self, kept: Mask | None) -> None:
        """Of a bundle's vectors only these are here, in their order; None: all. Said before anything is bound."""
        self._place = None if kept is None else np.where(kept, np.cumsum(kept) - 1, -1)

    def bind(self, slots: Rows, rows: Rows) -> None:
        if self._place is not None:
            here = self._place[slots] >= 0
            slots, rows = self._place[slots[here]], rows[here]
        with self._lock.writing():
            self._slots.bind(slots, rows)

    def put(self, rows: Rows, vectors: Floats) -> None:
        lib.omp_set_num_threads(1)
        with self._lock.writing():
            first = self.index.ntotal
            self._add(np.ascontiguousarray(vectors, np.float32))
            self._slots.add(first, rows)

    def drop(self, rows: Rows) -> None:
        with self._lock.writing():
            self._slots.drop(rows)

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        lib.omp_set_num_threads(1)  # counts for this thread: the cores belong to other requests
        with self._lock.reading():
            selections = [self._slots.selection(mask, rows_out) for rows_out in without]
            for places in alike(selections):
                selection = selections[places[0]]
                wanted = min(k, selection.count)
                if wanted:
                    near, slots = self._found(vectors[places], wanted, selection)
                    scores[places, :wanted] = near
                    rows[places, :wanted] = self._slots.row_of[slots]
        return scores, rows

    def save(self, folder: Path) -> None:
        with self._lock.reading(), snapshot(folder) as part:
            lib.write_index(self.index, str(part / "index.faiss"))
            np.save(part / "rows.npy", self._slots.row_of)

    def _add(self, vectors: Floats) -> None:
        self.index.add(vectors)

    def _found(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        """(b, k) scores and selected slots; k ≤ selection.count, so that every place is filled."""
        if selection.count <= max(k, self.index.ntotal // self._few):
            return self._among(vectors, k, selection.slots)
        scores, slots = self._nearest(vectors, k, selection)
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short):
            scores[short], slots[short] = self._among(vectors[short], k, selection.slots)
        return scores, slots

    def _nearest(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        """As `_found`, by the index's own search, which may leave places at the end with slot -1."""
        found: tuple[Floats, Rows] = self.index.search(
            vectors, k, params=lib.SearchParameters(sel=self._selector(selection))
        )
        return found

    def _selector(self, selection: Selection) -> Any:
        """None where every slot is selected, which FAISS searches faster without being told."""
        return None if selection.count == self.index.ntotal else lib.IDSelectorBitmap(selection.bits)

    def _among(self, vectors: Floats, k: int, slots: Rows) -> tuple[Floats, Rows]:
        """The k best of these slots, each compared; vector by vector, so that a batch answers like one by one."""
        found = (np.empty((len(vectors), k), np.float32), np.empty((len(vectors), k), np.int64))
        table = self._exact.reconstruct_batch(slots)
        for n, vector in enumerate(vectors):
            found[0][n], found[1][n] = best(table @ vector, slots, k)
        return found


class FlatIndex(FaissIndex):
    """Exact search over all vectors: right up to some ten thousand items."""

    def __init__(self, index: Any) -> None:
        super().__init__(index)


class HalfIndex(FaissIndex):
    """The same over vectors of half precision: at 100,000 items 2.2 ms instead of 3.2, whatever the vectors are."""

    kind = "fp16"

    def __init__(self, index: Any) -> None:
        super().__init__(index)


class ByteIndex(FaissIndex):
    """The same over vectors of a byte per number: a quarter of the memory, and slower to compare where a processor has
    to decode them."""

    kind = "sq8"

    def __init__(self, index: Any) -> None:
        super().__init__(index, few=CODED)


def best(scores: Floats, slots: Rows, k: int) -> tuple[Floats, Rows]:
    """The k ≤ n highest of (n,) scores, best first, and their slots."""
    places = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    places = places[np.lexsort((places, -scores[places]))]
    return scores[places], slots[places]
