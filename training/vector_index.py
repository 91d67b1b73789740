"""The vector index of a retrieval bundle: which kind for how many items, and what it finds of what exact search does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from winnow.types import Floats

# At 100,000 trained vectors: 1,024 cells, 64 of them looked into, 0.3 ms at a recall of 0.999 for 500; a graph of
# 32 links 1.5 ms, all vectors 3.2 ms, in half precision 2.2 ms.
CELLS_FROM = 50_000  # items; below, comparing all is as fast
CELLS_PER_ROOT = 3  # cells per square root of the items
CELLS_SEED = 7
LEAST_PROBES, MOST_PROBES = 32, 256
RECALL = 0.99


def write_index(path: Path, vectors: Floats, people: Floats, k: int = 100) -> dict[str, Any]:
    """Build the index; returns what the manifest says of it: recall@100 is against exact search, for real people.

    Many vectors are searched by cells, of which a request looks into as few as find what is there. Where even many
    cells find too little (vectors without clusters), all vectors are compared in half precision.
    """
    n = len(vectors)
    kind = "flat" if n < CELLS_FROM or not vectors.any() else "ivf"  # a model that serves no vectors has zeros
    index = filled(kind, vectors)
    recall = (
        probed(index, vectors, people, min(k, n)) if kind == "ivf" else recall_of(index, vectors, people, min(k, n))
    )
    if kind == "ivf" and recall < RECALL:
        kind = "fp16"
        index = filled(kind, vectors)
        recall = recall_of(index, vectors, people, min(k, n))
    faiss.write_index(index, str(path / "index.faiss"))
    size = (path / "index.faiss").stat().st_size
    if not vectors.any():
        recall = 1.0  # of nothing; who comes first among equals is no question
    return {"kind": kind, "recall_at_100": round(recall, 4), "bytes_per_item": round(size / max(n, 1), 1)}


def filled(kind: str, vectors: Floats) -> Any:
    """A FAISS index of this kind over the vectors, by inner product."""
    n, dim = vectors.shape
    index: Any = faiss.IndexFlatIP(dim)
    if kind == "ivf":
        cells = 2 ** round(math.log2(CELLS_PER_ROOT * math.sqrt(n)))
        index = faiss.IndexIVFFlat(index, dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical, index.cp.seed = True, CELLS_SEED
        index.train(vectors)
    elif kind == "fp16":
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return index


def probed(index: Any, vectors: Floats, people: Floats, k: int) -> float:
    """Give the index the fewest cells to look into that reach `RECALL`, or `MOST_PROBES`; returns what they reach."""
    recall = 0.0
    index.nprobe = LEAST_PROBES
    while (recall := recall_of(index, vectors, people, k)) < RECALL and index.nprobe < MOST_PROBES:
        index.nprobe *= 2
    return recall


def recall_of(index: Any, vectors: Floats, people: Floats, k: int) -> float:
    """Share of each person's true k nearest that the index finds."""
    found = index.search(people, k)[1]
    exact = np.argpartition(-(people @ vectors.T), k - 1, axis=1)[:, :k]
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return float(np.mean(hits)) / k
