"""What a ranker reads of a candidate besides its item: retrieval's answer, and what this person did with it before.

One definition for training and for serving. Knows neither models nor where candidates come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from winnow.features import DAY_S, UserView
from winnow.types import Candidates, Floats, Strings

ACTED = ("acted:count", "acted:order", "acted:days")
"""What this person did with the candidate before: how often among the acts of the history, how many other items ago, and how
long ago; the last needs a real clock."""


def candidate_names(source_names: Sequence[str], acted: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of `candidate_numbers` for these sources; a ranking bundle records the ones it was trained on.
    `acted` are those of `ACTED` that say something, which needs people who act on the same things again."""
    return ("log_rank", *(f"score:{s}" for s in source_names), *(f"from:{s}" for s in source_names), *acted)


@lru_cache(maxsize=64)
def names_of(source_names: tuple[str, ...]) -> tuple[str, ...]:
    """`candidate_names`, remembered."""
    return candidate_names(source_names)


@lru_cache(maxsize=64)
def log_ranks(n: int) -> Floats:
    """(n,) log(1 + place), read-only."""
    ranks = np.log1p(np.arange(n, dtype=np.float32))
    ranks.flags.writeable = False
    return ranks


def candidate_numbers(candidates: Candidates, names: Sequence[str], view: UserView) -> Floats:
    """(n, len(names)) float32, raw (the model scales them): place in retrieval's order, scores and origin per source,
    and what the person of `view` did with the candidate before.

    A source that the candidates do not know is 0 throughout, so a ranker outlives a change of sources.
    """
    column_of = {name: n for n, name in enumerate(candidates.source_names)}
    numbers = np.zeros((len(candidates), len(names)), np.float32)
    block, sources = names_of(candidates.source_names), len(column_of)
    filled = len(block) if names[: len(block)] == block else 0
    if filled:  # trained on these sources: their columns lie as the candidates' own
        numbers[:, 0] = log_ranks(len(candidates))
        numbers[:, 1 : 1 + sources] = candidates.scores
        numbers[:, 1 + sources : filled] = candidates.sources[:, None] >> np.arange(sources, dtype=np.uint32) & 1
    acted = acted_numbers(candidates.item_ids, view) if any(name in ACTED for name in names) else {}
    for n, name in enumerate(names[filled:], filled):
        kind, _, source = name.partition(":")
        if name in ACTED:
            numbers[:, n] = acted[name]
        elif kind == "log_rank":
            numbers[:, n] = log_ranks(len(candidates))
        elif source in column_of:
            column = column_of[source]
            numbers[:, n] = candidates.scores[:, column] if kind == "score" else candidates.sources >> column & 1
    return numbers


def acted_numbers(item_ids: Strings, view: UserView) -> dict[str, Floats]:
    """The columns `ACTED` (n,) float32 of some items; 0 of one that the person did not act on, or longer ago than the state
    knows: `HISTORY` acts for the count and the days, `winnow.seen.EXACT` items for the order."""
    found = {name: np.zeros(len(item_ids), np.float32) for name in ACTED}
    row_of = {item_id: row for row, item_id in enumerate(item_ids.tolist())}
    seen = [row_of.get(item_id, -1) for item_id in reversed(view.state.seen.tolist())]
    for ago, row in enumerate(seen):
        if row >= 0:
            found["acted:order"][row] = recency(ago)
    history = view.state.history
    for item_id, at in zip(history.item_ids.tolist(), history.at.tolist(), strict=True):  # oldest first
        row = row_of.get(item_id, -1)
        if row >= 0:
            found["acted:count"][row] += 1.0
            found["acted:days"][row] = recency(max(view.at - at, 0.0) / DAY_S)
    found["acted:count"] = np.log1p(found["acted:count"])
    return found


def recency(ago: float) -> float:
    """1 for now, falling slowly, never 0: how long ago something was that may also never have been."""
    return 1.0 / (1.0 + math.log1p(ago))
