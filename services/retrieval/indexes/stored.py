"""Indexes from files: a bundle's, checked against its vectors, and snapshots. FAISS says what kind a file is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from services.retrieval.indexes import VectorIndex
from services.retrieval.indexes.cells import CellsIndex, CodesIndex
from services.retrieval.indexes.device import ON_DEVICE, on_device
from services.retrieval.indexes.exact import ExactIndex
from services.retrieval.indexes.flat import ByteIndex, FaissIndex, FlatIndex, HalfIndex, lib
from services.retrieval.indexes.graph import HnswIndex
from winnow.catalogue import Mask
from winnow.errors import BundleRefused
from winnow.types import Floats

KNOWN = "flat, fp16, sq8, ivf, ivf_hnsw, ivf_sq8, ivf_pq, hnsw and hnsw_sq8"
CODED = 0.1  # of a vector's length: how far one that is coded by bytes may be from the one that it stands for
CHECKED = 64  # vectors of a file that are held against the bundle's

ByKind = Callable[[Any], FaissIndex]


def read_index(file: Path, vectors: Floats, kept: Mask | None = None, *, gpu: bool = False) -> VectorIndex:
    """A bundle's `index.faiss`; BundleRefused when it is no index over these vectors (N, d) by inner product. With
    `kept` (N,), only those vectors stay in it. With
    `gpu`, whole vectors (flat, ivf) are searched on a card, and FailedPrecondition says where there is none."""
    index = from_file(file)
    made = index_of(index, file.name)
    items, dim = vectors.shape
    if (index.d, index.ntotal, index.metric_type) != (dim, items, faiss.METRIC_INNER_PRODUCT):
        raise BundleRefused(f"{file.name} holds {index.ntotal} vectors of {index.d}, {items} of {dim} are needed")
    if not holds(index, vectors):
        raise BundleRefused(f"{file.name} holds other vectors than item_vectors.npy")
    if kept is not None:
        index.reset()  # what it learnt of the vectors stays
        index.add(vectors[kept])
        made = index_of(index, file.name)
    if gpu and made.kind in ON_DEVICE:
        made = on_device(made)
    made.keep(kept)
    return made


def restored(folder: Path) -> VectorIndex:
    """The index that `save` left in this folder, with its rows. BundleRefused where it cannot be read."""
    try:
        rows = np.load(folder / "rows.npy", allow_pickle=False)
        file = folder / "index.faiss"
        made: VectorIndex
        if file.is_file():
            made = index_of(from_file(file), file.name)
        else:
            made = ExactIndex(np.load(folder / "vectors.npy", allow_pickle=False))
    except (OSError, ValueError) as broken:
        raise BundleRefused(f"{folder.name} is no snapshot of an index: {broken}") from broken
    slots = np.flatnonzero(rows >= 0)
    made.bind(slots, rows[slots])
    return made


def from_file(file: Path) -> Any:
    """FAISS's index, ready to decode single vectors; BundleRefused when the file holds none."""
    try:
        index = lib.read_index(str(file))
    except RuntimeError as broken:
        raise BundleRefused(f"{file.name} cannot be read: {str(broken).splitlines()[0][:300]}") from broken
    cells = cells_in(index)
    if cells is not None:
        cells.make_direct_map()
    return index


def cells_in(index: Any) -> Any | None:
    """The inverted file that an index is or is refined from; None where there is none."""
    inner = lib.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index
    return inner if isinstance(inner, faiss.IndexIVF) else None


def holds(index: Any, vectors: Floats) -> bool:
    """Whether a spread of the index's vectors, and the last of them, are these, as nearly as they are coded."""
    if not len(vectors):
        return True
    places = np.unique(np.linspace(0, len(vectors) - 1, CHECKED).astype(np.int64))
    inside, wanted = index.reconstruct_batch(places), vectors[places]
    off = np.linalg.norm(inside - wanted, axis=1)
    return bool((off <= CODED * np.linalg.norm(wanted, axis=1) + 1e-6).all())


def index_of(index: Any, name: str) -> FaissIndex:
    """The implementation that searches this FAISS index; BundleRefused for one that this release does not know."""
    if isinstance(index, faiss.IndexRefine) and isinstance(
        cells_in(index), faiss.IndexIVFPQFastScan | faiss.IndexIVFPQ
    ):
        return CodesIndex(index, cells_in(index))
    if isinstance(index, faiss.IndexIVFScalarQuantizer) and index.sq.qtype == faiss.ScalarQuantizer.QT_8bit:
        return CellsIndex(index, "ivf_sq8")
    if isinstance(index, faiss.IndexIVFFlat):
        centres = lib.downcast_index(index.quantizer)
        return CellsIndex(index, "ivf_hnsw" if isinstance(centres, faiss.IndexHNSW) else "ivf")
    if isinstance(index, faiss.IndexHNSWSQ):
        return HnswIndex(index, "hnsw_sq8")
    if isinstance(index, faiss.IndexHNSWFlat):
        return HnswIndex(index)
    if isinstance(index, faiss.IndexFlat):
        return FlatIndex(index)
    if isinstance(index, faiss.IndexScalarQuantizer) and index.sq.qtype in OF_CODES:
        return OF_CODES[index.sq.qtype](index)
    raise BundleRefused(f"{name} is a {type(index).__name__}; known are {KNOWN} (docs/bundles.md)")


OF_CODES: dict[int, ByKind] = {
    faiss.ScalarQuantizer.QT_fp16: HalfIndex,
    faiss.ScalarQuantizer.QT_8bit: ByteIndex,
}
