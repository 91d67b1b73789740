"""Orders the ranked candidates and cuts the page: the last word on what is shown."""

from __future__ import annotations

import numpy as np

from winnow.catalogue import Rows
from winnow.types import Candidates, Predictions


def arrange(candidates: Candidates, predictions: Predictions | None, offset: int, n: int) -> Rows:
    """Places in `candidates` of the page's items, best first, none twice.

    Equal scores keep retrieval's order; without predictions that order is all there is.
    """
    if predictions is None:
        order = np.arange(len(candidates))
    else:
        order = np.argsort(-predictions.scores, kind="stable")
    if len(set(candidates.item_ids[order[: offset + n]])) < min(offset + n, len(order)):
        order = distinct(candidates, order)
    return order[offset : offset + n]


def distinct(candidates: Candidates, order: Rows) -> Rows:
    """`order` without the later places of an item that is named twice."""
    first: dict[str, int] = {}
    for row in order.tolist():
        first.setdefault(candidates.item_ids[row], row)
    return np.fromiter(first.values(), np.int64, count=len(first))
