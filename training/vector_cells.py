"""The centres of a vector index's cells: spherical k-means in two levels.

First a few groups of vectors, then the cells of each group by itself, as many as its share of the vectors (the vocabulary
tree of Nistér and Stewénius, "Scalable Recognition with a Vocabulary Tree", CVPR 2006, with two levels and a fair share).
So a vector is compared with the root of their number, twice, where one k-means compares it with every cell in every
round. What is searched, and how far, is not known here.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from winnow.types import Floats

# A million vectors of 128, 4,096 cells: 3 CPU seconds instead of 96, for vectors as close to their centres (mean cosine
# 0.725 instead of 0.726), of which a tenth more must be looked at for the same recall. Rounds over all bring nothing more.
POINTS_PER_CELL = 64  # at most that a centre is learnt from: more cost time and bring nothing
ROUNDS = 10  # of each k-means
SEED = 7

Counts = npt.NDArray[np.int64]


def centres(vectors: Floats, cells: int) -> Floats:
    """(n, d) → (cells ≤ n, d), of length 1. The same vectors give the same centres."""
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(vectors), min(cells * POINTS_PER_CELL, len(vectors)), replace=False)
    some = np.ascontiguousarray(vectors[np.sort(chosen)], np.float32)
    groups = round(np.sqrt(cells))
    group = nearest(some, means(some, groups))
    shares = shared(np.bincount(group, minlength=groups), cells)
    return np.concatenate([means(some[group == n], int(share)) for n, share in enumerate(shares) if share])


def means(vectors: Floats, k: int) -> Floats:
    """(k, d) of (n ≥ k, d), by spherical k-means."""
    learnt: Any = faiss.Clustering(vectors.shape[1], k)
    learnt.spherical, learnt.seed, learnt.niter = True, SEED, ROUNDS
    learnt.min_points_per_centroid, learnt.max_points_per_centroid = 1, len(vectors)
    learnt.train(vectors, faiss.IndexFlatIP(vectors.shape[1]))
    centroids: Floats = faiss.vector_to_array(learnt.centroids).reshape(k, -1)
    return centroids


def nearest(vectors: Floats, centres: Floats) -> Counts:
    """(n,) the centre nearest to each vector."""
    found: Counts = faiss.knn(vectors, centres, 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
    return found


def shared(sizes: Counts, total: int) -> Counts:
    """`total` ≤ sizes.sum() shared out by size, by largest remainder; nobody gets more than its size."""
    wanted = total * sizes / sizes.sum()
    shares: Counts = np.floor(wanted).astype(np.int64)
    left = np.argsort(shares - wanted, kind="stable")[: total - int(shares.sum())]
    shares[left] += 1
    return shares
