"""Orders the ranked candidates and cuts the page: the last word on what is shown."""

from __future__ import annotations

import numpy as np

from winnow.catalogue import Rows
from winnow.types import Candidates, Predictions


def arrange(candidates: Candidates, predictions: Predictions | None, offset: int, n: int) -> Rows:
    """Places in `candidates` of the page's items, best first.

    Equal scores keep retrieval's order; without predictions that order is all there is.
    """
    if predictions is None:
        order = np.arange(len(candidates))
    else:
        order = np.argsort(-predictions.scores, kind="stable")
    return order[offset : offset + n]
