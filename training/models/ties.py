"""The order of items to which a model gives the same score, and all that it tells somebody without a history."""

from __future__ import annotations

import numpy as np

from training.models.contract import Interactions, Scores

TIE = 1e-9  # what popularity adds to a score


def popular_first(data: Interactions) -> Scores:
    """(N,) the share of all acts that each item has, times `TIE`."""
    counts = np.bincount(data.items, minlength=data.n_items)
    share: Scores = TIE * counts / (counts.sum() + 1.0)
    return share
