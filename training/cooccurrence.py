"""What goes with what, counted: `follows` (acted on right after) and `together` (in the same histories).

Sparse counts, no model: they propose candidates beside the towers, and hold up where the towers know too little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from winnow.features import Ints
from winnow.types import Floats

Neighbours = tuple[npt.NDArray[np.int32], Floats]
"""(N, K) rows, best first, -1 where there are fewer; (N, K) scores, 0 there."""

FOLLOWS_SHRINK = 5.0  # acts that an item must have before a transition's share is believed
TOGETHER_SHRINK = 10.0  # people that a pair must have before its cosine is believed
LONGEST = 500  # newest distinct items of one person that count: pairs grow with the square
CHUNK_CELLS = 5_000_000  # at a time while the best are picked


def follows(items: Ints, starts: Ints, n_items: int, k: int, reach: int = 1, decay: float = 0.5) -> Neighbours:
    """Share of the acts on an item that another item followed within `reach` acts, farther ones weighing less.

    `items` are the acts' item rows, one person after another; `starts` (p + 1,) where each person begins.
    """
    total = transitions(items, starts, n_items, reach, decay)
    total.setdiag(0)
    acts = np.bincount(items, minlength=n_items).astype(np.float32)
    return best(sp.diags_array(1.0 / (acts + FOLLOWS_SHRINK)).tocsr() @ total, k)


def transitions(items: Ints, starts: Ints, n_items: int, reach: int = 1, decay: float = 0.5) -> sp.csr_matrix:
    """(N, N) how often the column's item came within `reach` acts after the row's, weighing decay ** (distance - 1)."""
    person = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    total = sp.csr_matrix((n_items, n_items), dtype=np.float32)
    for distance in range(1, reach + 1):
        one = person[distance:] == person[:-distance]
        source, target = items[:-distance][one], items[distance:][one]
        weight = np.full(len(source), decay ** (distance - 1), np.float32)
        total += sp.csr_matrix((weight, (source, target)), shape=(n_items, n_items))
    return total


def together(items: Ints, starts: Ints, n_items: int, k: int) -> Neighbours:
    """Cosine between the sets of people who acted on two items, shrunk for rare pairs (ItemKNN)."""
    return best(cosine(people_by_items(items, starts, n_items), TOGETHER_SHRINK), k)


def people_by_items(items: Ints, starts: Ints, n_items: int, longest: int = LONGEST) -> sp.csr_matrix:
    """(p, N) 0/1: who acted on what among the newest `longest` acts of each person."""
    sizes = np.diff(starts)
    person = np.repeat(np.arange(len(sizes)), sizes)
    recent = np.arange(len(items)) >= np.repeat(starts[1:], sizes) - longest
    cells = np.ones(int(recent.sum()), np.float32)
    matrix = sp.csr_matrix((cells, (person[recent], items[recent])), shape=(len(sizes), n_items))
    matrix.data[:] = 1.0  # several acts on one item count once
    return matrix


def cosine(matrix: sp.csr_matrix, shrink: float) -> sp.csr_matrix:
    """(N, N) cosine of the columns × pairs / (pairs + shrink), zero diagonal."""
    pairs = (matrix.T @ matrix).tocsr()
    norm = 1.0 / np.sqrt(np.maximum(pairs.diagonal(), 1.0))
    pairs.setdiag(0)
    pairs.eliminate_zeros()
    scaled = pairs.copy()
    scaled.data *= pairs.data / (pairs.data + np.float32(shrink))
    diagonal = sp.diags_array(norm.astype(np.float32)).tocsr()
    return (diagonal @ scaled @ diagonal).tocsr()


def best(matrix: sp.csr_matrix, k: int) -> Neighbours:
    """The k largest positive entries of each row; equal ones in column order."""
    matrix.sort_indices()
    n, k = matrix.shape[0], min(k, matrix.shape[1])
    rows = np.full((n, k), -1, np.int32)
    scores = np.zeros((n, k), np.float32)
    sizes = np.diff(matrix.indptr)
    longest_first = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    start = 0
    while start < len(longest_first):  # rows of about one length side by side, padded to the longest
        width = int(sizes[longest_first[start]])
        those = longest_first[start : start + max(1, CHUNK_CELLS // width)]
        inside = np.arange(width) < sizes[those, None]
        cells = np.where(inside, matrix.indptr[those, None] + np.arange(width), 0)
        values = np.where(inside, matrix.data[cells], 0)
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(values, order, 1)
        columns = matrix.indices[np.take_along_axis(cells, order, 1)]
        rows[those, : order.shape[1]] = np.where(found > 0, columns, -1)
        scores[those, : order.shape[1]] = np.maximum(found, 0)
        start += len(those)
    return rows, scores
