"""FAISS indexes of vectors in cells (inverted file, Sivic and Zisserman 2003): a search looks into the nearest cells only.

Under a filter it looks into more of them, so that as many matching vectors are compared, and into all where that is
still too few. The cells hold whole vectors (`ivf`), bytes (`ivf_sq8`) or product codes (`ivf_pq`, Jégou et al. 2011),
whose best are compared again by bytes; the nearest cells are found by comparing all centres, or by a graph (`ivf_hnsw`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from services.retrieval.indexes.flat import CODED, WHOLE, FaissIndex, lib
from services.retrieval.indexes.slots import Selection
from winnow.catalogue import Rows
from winnow.types import Floats

TUNED_FOR = 100  # nearest: what a bundle found to be enough cells (training.vector_index)


def farther(k: int) -> float:
    """How many times as many cells the k nearest need, by rule of thumb: four times as many lie in twice as many."""
    return math.sqrt(max(k / TUNED_FOR, 1.0))


class CellsIndex(FaissIndex):
    """Looks into as many cells as the bundle found to be enough, and into more where more is asked for. `cells` is the inverted file, where the index is more."""

    def __init__(self, index: Any, kind: str = "ivf", cells: Any | None = None, exact: Any | None = None) -> None:
        super().__init__(index, exact, CODED if kind in ("ivf_sq8", "ivf_pq") else WHOLE)
        self.kind = kind
        self._file = index if cells is None else cells
        self._cells, self._probes = int(self._file.nlist), int(self._file.nprobe)

    def _nearest(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        probes = min(self._cells, math.ceil(self._probes * farther(k) * self.index.ntotal / selection.count))
        scores, slots = self._in_cells(vectors, k, selection, probes)
        short = np.flatnonzero(slots[:, -1] < 0)
        if len(short) and probes < self._cells:
            scores[short], slots[short] = self._in_cells(vectors[short], k, selection, self._cells)
        return scores, slots

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
