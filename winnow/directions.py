"""Where vectors point, a byte per number: enough to say how alike two items are, a quarter of what float32 takes.

Of each vector the largest number becomes ±127, so no byte is wasted on its length; that of 128 numbers costs a cosine about
0.001. Knows nothing of what the vectors are of.
"""

from __future__ import annotations

import numpy as np

from winnow.types import Directions, Floats

LARGEST = 127
NOWHERE = 1e-30  # what is shorter is the zero vector: its scale would leave float32


def packed(vectors: Floats) -> Directions:
    """(n, d) vectors of any length → their directions. The zero vector has none, and of one number there is none to say:
    these become rows of zeros."""
    if vectors.shape[1] < 2:
        return np.zeros(vectors.shape, np.int8)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scale = np.divide(LARGEST, largest, out=np.zeros_like(largest), where=largest > NOWHERE)
    made: Directions = np.rint(vectors * scale).astype(np.int8)
    return made


def unpacked(directions: Directions) -> Floats:
    """(n, d) float32 of norm 1, so that an inner product is a cosine; 0 where nobody knows."""
    vectors = directions.astype(np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    made: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return made
