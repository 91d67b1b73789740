"""FAISS indexes of vectors in cells (inverted file, Sivic and Zisserman 2003): a search looks into the nearest cells only.

Under a filter it looks into more of them, as many as hold a larger share of what matches, wherever that lies, and into
all where that is still too few. The cells hold whole vectors (`ivf`), bytes (`ivf_sq8`) or product codes (`ivf_pq`, Jégou et al. 2011),
whose best are compared again by bytes; the nearest cells are found by comparing all centres, or by a graph (`ivf_hnsw`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from services.retrieval.indexes.flat import CODED, FaissIndex, lib
from services.retrieval.indexes.slots import Selection
from winnow.catalogue import Rows
from winnow.types import Floats

TUNED_FOR = 100  # nearest: what a bundle found to be enough cells (training.vector_index)
# At a million vectors in 4,096 cells, the 500 nearest need 1.15 times as many cells as the 100. Where a filter lets a tenth, a
# hundredth through, the same recall needs a larger share of that compared: 1.3, 5 times, where it lies anywhere; 3, 13 times,
# where it is whole clusters; 7 times, where it is a tenth that lies together. The roots of 10 and 100 are 3.2 and 10.
FEW = {"ivf": 200, "ivf_hnsw": 200}  # one slot in so many is few in cells of whole vectors
COUNTED = 1 << 17  # slots, at most twice, from which the share of what matches in each cell is told


def farther(k: int) -> float:
    """How many times as many cells the k nearest need, by rule of thumb: sixteen times as many lie in twice as many."""
    return float(max(k / TUNED_FOR, 1.0) ** 0.25)


class CellsIndex(FaissIndex):
    """Looks into as many cells as the bundle found to be enough, and into more where more is asked for
    or less matches. `cells` is the inverted file, where the index is more."""

    def __init__(self, index: Any, kind: str = "ivf", cells: Any | None = None, exact: Any | None = None) -> None:
        super().__init__(index, exact, FEW.get(kind, CODED))
        self.kind = kind
        self._file = index if cells is None else cells
        self._cells, self._probes = int(self._file.nlist), int(self._file.nprobe)
        self._centres: Floats = self._file.quantizer.reconstruct_n(0, self._cells)

    def _nearest(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        scores = np.empty((len(vectors), k), np.float32)
        slots = np.empty((len(vectors), k), np.int64)
        probes = self._probes_for(vectors, k, selection)
        for n in np.unique(probes):
            scores[probes == n], slots[probes == n] = self._in_cells(vectors[probes == n], k, selection, int(n))
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short):
            scores[short], slots[short] = self._in_cells(vectors[short], k, selection, self._cells)
        return scores, slots

    def _probes_for(self, vectors: Floats, k: int, selection: Selection) -> Rows:
        """(b,) how many cells to look into. Where less than half matches, as many of the nearest as hold the share of it
        that is wanted: of a tenth of the vectors three times as much as of all, or ten times where it lies elsewhere."""
        share, cells = selection.count / self.index.ntotal, self._cells
        probes = min(math.ceil(self._probes * farther(k)), cells)
        if 2 * share > 1:
            return np.full(len(vectors), min(math.ceil(probes / share), cells))
        held = np.bincount(self._cells_of(selection.some(self.index.ntotal // COUNTED)), minlength=cells)
        nearest_first = np.argsort(-(vectors @ self._centres.T), axis=1)
        reached = np.cumsum(held[nearest_first], axis=1) / max(held.sum(), 1)
        little = min(probes / math.sqrt(share), cells)
        anywhere = reached[:, math.ceil(little) - 1] > little / cells / 2
        wanted = np.where(anywhere, little, min(probes / share, cells)) / cells
        enough: Rows = (reached < wanted[:, None] - 1e-9).sum(axis=1) + 1
        return np.maximum(enough, probes)

    def _cells_of(self, slots: Rows) -> Rows:
        places = self._file.direct_map.array  # per slot its cell, and its place there in the lower half
        cells: Rows = lib.rev_swig_ptr(places.data(), places.size())[slots] >> 32
        return cells

    def _in_cells(self, vectors: Floats, k: int, selection: Selection, probes: int) -> tuple[Floats, Rows]:
        found: tuple[Floats, Rows] = self.index.search(vectors, k, params=self._parameters(selection, probes))
        return found

    def _parameters(self, selection: Selection, probes: int) -> Any:
        graph = self.kind == "ivf_hnsw"
        breadth = lib.SearchParametersHNSW(efSearch=2 * probes) if graph else None  # centres are found by it
        return lib.SearchParametersIVF(nprobe=probes, sel=self._selector(selection), quantizer_params=breadth)


class CodesIndex(CellsIndex):
    """Product codes: `more` times as many as asked for are taken by their codes and compared again by the finer vectors
    that lie beside them."""

    def __init__(self, index: Any, cells: Any) -> None:
        super().__init__(index, "ivf_pq", cells, lib.downcast_index(index.refine_index))
        self._more = float(index.k_factor)

    def _parameters(self, selection: Selection, probes: int) -> Any:
        inside = super()._parameters(selection, probes)
        return lib.IndexRefineSearchParameters(k_factor=self._more, base_index_params=inside)
