"""Orders the ranked candidates and cuts the page: the last word on what is shown.

Models know people and items, not the words of a request. Where a request brings words, how well an item matches them is
weighed here against what the models expect of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from winnow.catalogue import Rows
from winnow.types import TEXT, Candidates, Predictions

Lift = Callable[[Rows], Rows]
"""From the order of all candidates to another one."""


def arrange(
    candidates: Candidates, predictions: Predictions | None, offset: int, n: int, lift: Lift = lambda order: order
) -> Rows:
    """Places in `candidates` of the page's items, best first, none twice; `lift` may give some of them a better place.

    Equal scores keep retrieval's order; without predictions that order is all there is.
    """
    if predictions is None:
        order = np.arange(len(candidates))
    else:
        order = np.argsort(-predictions.scores, kind="stable")
    order = lift(order)
    if len(set(candidates.item_ids[order[: offset + n]])) < min(offset + n, len(order)):
        order = distinct(candidates, order)
    return order[offset : offset + n]


def weigh_words(candidates: Candidates, predictions: Predictions | None, weight: float) -> Predictions | None:
    """`predictions` whose scores count the match with the request's words too: score + weight × spread × match.

    `match` is the text source's score as a part of the best candidate's, 0 to 1; `spread` is how far the best score is
    from the worst one. So the weight says how many times all that the models know of these candidates the best match
    is worth, whatever the objectives' unit: both are brought to one scale before they are added, as search engines
    blend BM25 with a learned score. An exact title counts twice as much as any other match (the text source's doing),
    so above a weight of 2 nothing stands before it. Nothing changes where no candidate matches.
    """
    if predictions is None or TEXT not in candidates.source_names:
        return predictions
    match = candidates.scores[:, candidates.source_names.index(TEXT)]
    best = match.max(initial=0.0)
    if best <= 0 or not weight:
        return predictions
    scores = predictions.scores.astype(np.float64)
    spread = float(np.ptp(scores)) or 1.0
    return replace(predictions, scores=(scores + weight * spread * (match / best)).astype(np.float32))


def distinct(candidates: Candidates, order: Rows) -> Rows:
    """`order` without the later places of an item that is named twice."""
    first: dict[str, int] = {}
    for row in order.tolist():
        first.setdefault(candidates.item_ids[row], row)
    return np.fromiter(first.values(), np.int64, count=len(first))
