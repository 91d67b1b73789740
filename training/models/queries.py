"""From histories to scores, for every model that serves as `Towers`: what its user tower reads, and the inner products.

Knows the conventions of docs/bundles.md (newest act at the last place, type 0 is padding), no particular model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.models.contract import Scores, Towers
from winnow.features import Ints
from winnow.types import HISTORY, Floats

BATCH = 256  # histories at a time
ACT = 1  # the type code that stands for any act


def kept(history: Ints, acts: int = HISTORY) -> Ints:
    """The rows of the catalogue among the newest acts, oldest first."""
    newest = np.asarray(history, np.int64)[-acts:]
    return newest[newest >= 0]


def query(histories: Sequence[Ints], vectors: Floats, width: int = 1) -> dict[str, Tensor]:
    """The inputs of a user tower: `ids` (b, width) missing, `history` (b, 50, d), `history_types`, `history_values`
    (b, 50)."""
    rows = np.full((len(histories), HISTORY), -1, np.int64)
    for n, history in enumerate(histories):
        newest = kept(history)
        rows[n, HISTORY - len(newest) :] = newest
    known = rows >= 0
    return {
        "ids": torch.zeros((len(histories), width), dtype=torch.int64),
        "history": torch.from_numpy(np.where(known[..., None], vectors[np.maximum(rows, 0)], np.float32(0))),
        "history_types": torch.from_numpy(np.where(known, ACT, 0)),
        "history_values": torch.zeros(rows.shape),
    }


def scores_by(towers: Towers, histories: Sequence[Ints], popular: Scores) -> Scores:
    """(b, N) inner products of the queries with all items; `popular` (N,) is added to each row."""
    found = np.empty((len(histories), len(towers.vectors)))
    towers.user.eval()
    width = towers.user_schema.width if towers.user_schema else 1
    for start in range(0, len(histories), BATCH):
        with torch.no_grad():
            people = towers.user(**query(histories[start : start + BATCH], towers.vectors, width))
        found[start : start + BATCH] = people.numpy() @ towers.vectors.T
    found += popular
    return found
