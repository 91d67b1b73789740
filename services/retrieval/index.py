"""The vector index: the nearest rows to a vector by inner product, filters inside the search. A port, FAISS and numpy.

Every implementation answers with as many rows as were asked for while rows match, whatever the filter: where a graph
search comes back short or few rows match, the matching rows are compared exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from services.retrieval.slots import Packed, ReadersWriter, Slots
from winnow.catalogue import Mask, Rows
from winnow.errors import BundleRefused
from winnow.types import Floats

lib: Any = faiss  # its type stubs lack what its Python wrappers add

# Measured on one core at 100,000 vectors of 128: comparing 50,000 matching rows exactly takes 3.4 ms, a graph search
# under a filter that lets half the rows through 1.5 ms at a recall of 0.88; at a tenth 1.1 ms against 1.5 ms at 0.68.
EXACT_ROWS = 30_000


class VectorIndex(Protocol):
    """Vectors by catalogue row. Searches may run in many threads beside one thread that puts."""

    kind: str

    def bind(self, slots: Rows, rows: Rows) -> None:
        """Say which rows the index's first vectors (a bundle's, in its order) belong to."""
        ...

    def put(self, rows: Rows, vectors: Floats) -> None:
        """Add vectors in place, visible to the next search; a row that has one already gets the new one."""
        ...

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        """(b, d) → scores (b, k) and rows (b, k), best first: rows where `mask` (None: any) holds and that are not in
        `without[i]` (distinct rows). Score -inf and row -1 where fewer exist."""
        ...


class FaissIndex:
    """Base of the FAISS ones: slots, lock, and the exact search over selected slots (`flat` holds the vectors)."""

    kind = "flat"

    def __init__(self, index: Any, flat: Any | None = None) -> None:
        self._index = index
        self._flat = index if flat is None else flat
        self._slots = Slots(index.ntotal)
        self._lock = ReadersWriter()

    def bind(self, slots: Rows, rows: Rows) -> None:
        with self._lock.writing():
            self._slots.bind(slots, rows)

    def put(self, rows: Rows, vectors: Floats) -> None:
        lib.omp_set_num_threads(1)
        with self._lock.writing():
            first = self._index.ntotal
            self._index.add(np.ascontiguousarray(vectors, np.float32))
            self._slots.add(first, rows)

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        lib.omp_set_num_threads(1)  # counts for this thread: the cores belong to other requests
        with self._lock.reading():
            selections = [self._slots.selection(mask, rows_out) for rows_out in without]
            for places in alike(selections):
                bits, matching = selections[places[0]]
                wanted = min(k, matching)
                if wanted:
                    near, slots = self._nearest(vectors[places], wanted, bits, matching)
                    scores[places, :wanted] = near
                    rows[places, :wanted] = np.where(slots < 0, -1, self._slots.row_of[slots])
        return scores, rows

    def _nearest(self, vectors: Floats, k: int, bits: Packed, matching: int) -> tuple[Floats, Rows]:
        """(b, k) scores and slots; k ≤ matching, so an exact search fills every place."""
        selector = lib.IDSelectorBitmap(bits)
        found: tuple[Floats, Rows] = self._flat.search(vectors, k, params=lib.SearchParameters(sel=selector))
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


class CellsIndex(FaissIndex):
    """Vectors in cells (inverted file): a search looks into the nearest ones only, as many as the bundle found to be
    enough, and under a filter into more, so that as many matching vectors are compared."""

    kind = "ivf"

    def __init__(self, index: Any) -> None:
        super().__init__(index)
        self._cells, self._probes = int(index.nlist), int(index.nprobe)

    def _nearest(self, vectors: Floats, k: int, bits: Packed, matching: int) -> tuple[Floats, Rows]:
        total = self._index.ntotal
        selector = None if matching == total else lib.IDSelectorBitmap(bits)
        probes = min(self._cells, math.ceil(self._probes * total / matching))
        scores, slots = self._in_cells(vectors, k, selector, probes)
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short):
            scores[short], slots[short] = self._in_cells(vectors[short], k, selector, self._cells)
        return scores, slots

    def _in_cells(self, vectors: Floats, k: int, selector: Any, probes: int) -> tuple[Floats, Rows]:
        found: tuple[Floats, Rows] = self._index.search(
            vectors, k, params=lib.SearchParametersIVF(nprobe=probes, sel=selector)
        )
        return found


class HnswIndex(FaissIndex):
    """A graph of neighbours: some milliseconds at a million items. `ef` is the least breadth of a search."""

    kind = "hnsw"

    def __init__(self, index: Any, ef: int = 64) -> None:
        super().__init__(index, faiss.downcast_index(index.storage))
        self._ef = ef

    def _nearest(self, vectors: Floats, k: int, bits: Packed, matching: int) -> tuple[Floats, Rows]:
        if matching <= max(k, min(EXACT_ROWS, self._index.ntotal // 2)):
            return super()._nearest(vectors, k, bits, matching)
        selector = None if matching == self._index.ntotal else lib.IDSelectorBitmap(bits)
        breadth = lib.SearchParametersHNSW(efSearch=max(k, self._ef), sel=selector)
        scores, slots = self._index.search(vectors, k, params=breadth)
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short):
            scores[short], slots[short] = super()._nearest(vectors[short], k, bits, matching)
        return scores, slots


class ExactIndex:
    """Exact search by numpy alone: what the others are checked against, and enough for a small catalogue."""

    kind = "exact"

    def __init__(self, vectors: Floats) -> None:
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self._slots = Slots(len(vectors))
        self._lock = ReadersWriter()

    def bind(self, slots: Rows, rows: Rows) -> None:
        with self._lock.writing():
            self._slots.bind(slots, rows)

    def put(self, rows: Rows, vectors: Floats) -> None:
        with self._lock.writing():
            first = len(self._vectors)
            self._vectors = np.concatenate([self._vectors, vectors.astype(np.float32)])
            self._slots.add(first, rows)

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        with self._lock.reading():
            for n, vector in enumerate(vectors):
                bits, _ = self._slots.selection(mask, without[n])
                slots = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
                near = self._vectors[slots] @ vector
                best = np.argsort(-near, kind="stable")[:k]
                scores[n, : len(best)] = near[best]
                rows[n, : len(best)] = self._slots.row_of[slots[best]]
        return scores, rows


def alike(selections: Sequence[tuple[Packed, int]]) -> list[list[int]]:
    """Places of selections grouped by their bits, so that equal ones share one search."""
    groups: dict[int, list[int]] = {}
    for place, (bits, _) in enumerate(selections):
        groups.setdefault(id(bits), []).append(place)
    return list(groups.values())


def read_index(file: Path, vectors: Floats) -> VectorIndex:
    """A bundle's `index.faiss`; BundleRefused when it is no index over these vectors (N, d) by inner product."""
    try:
        index = lib.read_index(str(file))
    except RuntimeError as broken:
        raise BundleRefused(f"{file.name} cannot be read: {str(broken).splitlines()[0][:300]}") from broken
    items, dim = vectors.shape
    if (index.d, index.ntotal, index.metric_type) != (dim, items, faiss.METRIC_INNER_PRODUCT):
        raise BundleRefused(f"{file.name} holds {index.ntotal} vectors of {index.d}, {items} of {dim} are needed")
    if isinstance(index, faiss.IndexIVFFlat):
        index.make_direct_map()
    if items and not np.allclose(index.reconstruct(items - 1), vectors[-1], atol=1e-3):
        raise BundleRefused(f"{file.name} holds other vectors than item_vectors.npy")
    if isinstance(index, faiss.IndexIVFFlat):
        return CellsIndex(index)
    if isinstance(index, faiss.IndexHNSWFlat):
        return HnswIndex(index)
    if isinstance(index, faiss.IndexFlat):
        return FlatIndex(index)
    if isinstance(index, faiss.IndexScalarQuantizer) and index.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
        return HalfIndex(index)
    raise BundleRefused(
        f"{file.name} is a {type(index).__name__}; known are flat, ivf, fp16 and hnsw (docs/bundles.md)"
    )
