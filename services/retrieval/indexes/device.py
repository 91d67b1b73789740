"""A FAISS index on a GPU beside the one in memory.

The device knows no filters: it is asked for more than is wanted, what does not match is left out, and where too little
is left, or few rows match, the vectors in memory are compared. It has whole vectors in memory twice: on the card for
speed, in the process for filters.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from services.retrieval.indexes.flat import FaissIndex, lib
from services.retrieval.indexes.slots import Selection
from winnow.catalogue import Mask, Rows
from winnow.errors import FailedPrecondition
from winnow.types import Floats

WIDEST = 2_048  # the most that FAISS's GPU kernels select at once
SPARE = 1.3  # asked for, times what should be enough, so that a filter that is a little stricter here finds enough
NO_DEVICE = "this FAISS was built without GPUs (faiss-cpu); install one that was built for them"


ON_DEVICE = ("flat", "ivf")


class DeviceIndex(FaissIndex):
    """`device` holds the same vectors as `beside`, in the same slots. Its calls wait in line: one card, one search."""

    kind = "gpu"

    def __init__(self, beside: FaissIndex, device: Any) -> None:
        super().__init__(beside.index)
        self._beside = beside
        self._device = device
        self._line = threading.Lock()

    def _add(self, vectors: Floats) -> None:
        self.index.add(vectors)
        self._device.add(vectors)

    def _nearest(self, vectors: Floats, k: int, selection: Selection) -> tuple[Floats, Rows]:
        total = self.index.ntotal
        wide = k if selection.count == total else math.ceil(SPARE * k * total / selection.count) + 32
        if wide > WIDEST:
            return self._beside._nearest(vectors, k, selection)
        with self._line:
            scores, slots = self._device.search(vectors, min(wide, total))
        return matching(scores, slots, selection.open, k)


def matching(scores: Floats, slots: Rows, open_slots: Mask, k: int) -> tuple[Floats, Rows]:
    """(b, wide ≥ k), best first → (b, k): those that are open, in the same order; -inf and -1 behind them."""
    kept = (slots >= 0) & open_slots[slots]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, axis=1)
    near = np.where(kept, np.take_along_axis(scores, order, axis=1), -np.inf).astype(np.float32)
    return near, np.where(kept, np.take_along_axis(slots, order, axis=1), -1)


def missing_device() -> str:
    """Why no GPU can be used here; empty where one can."""
    if not hasattr(lib, "StandardGpuResources"):
        return NO_DEVICE
    return "" if lib.get_num_gpus() else "no GPU is visible to this process"


def on_device(beside: FaissIndex) -> DeviceIndex:
    """An index of whole vectors with a copy of itself on the first GPU; FailedPrecondition, which says why, where there is none."""
    if reason := missing_device():
        raise FailedPrecondition(f"vectors cannot be searched on a GPU: {reason}")
    return DeviceIndex(beside, lib.index_cpu_to_gpu(lib.StandardGpuResources(), 0, beside.index))
