"""Exact search by numpy alone: what the others are checked against, and enough for a small catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.retrieval.indexes.flat import best
from services.retrieval.indexes.slots import ReadersWriter, Slots
from services.retrieval.indexes.snapshots import snapshot
from winnow.catalogue import Mask, Rows
from winnow.types import Floats


class ExactIndex:
    """(N, d) vectors by slot; every matching one is compared."""

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

    def drop(self, rows: Rows) -> None:
        with self._lock.writing():
            self._slots.drop(rows)

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        with self._lock.reading():
            for n, vector in enumerate(vectors):
                slots = self._slots.selection(mask, without[n]).slots
                near, slots = best(self._vectors[slots] @ vector, slots, min(k, len(slots)))
                scores[n, : len(near)] = near
                rows[n, : len(near)] = self._slots.row_of[slots]
        return scores, rows

    def save(self, folder: Path) -> None:
        with self._lock.reading(), snapshot(folder) as part:
            np.save(part / "vectors.npy", self._vectors)
            np.save(part / "rows.npy", self._slots.row_of)
