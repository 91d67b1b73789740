"""Simple models that any other must beat: popularity, a first-order Markov chain, ItemKNN and EASE, as benchmarks have
them: all neighbours, the whole history (training/models/item_to_item.py); where people buy again, what each one bought
most often before.

`fit` takes the acts that may be known, person by person in time order; `scores` takes histories (rows of items, oldest
first) and gives one score per item, (b, N) float64, higher is better. None knows what a person has seen: whoever ranks
leaves it out. Fitted on all of ml-1m but each person's last act they give the benchmark's values (`PUBLISHED`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, Self

import numpy as np

from training.interactions import plain
from training.models.catalogue import make
from training.models.contract import Scores
from winnow.features import Ints

ALL_ACTS = 10**9  # of a person count
PUBLISHED = {"popularity": 0.0178, "itemknn": 0.0365, "ease": 0.0544, "markov1": 0.1261}
"""NDCG@10 on ml-1m, leave-one-out, the whole catalogue ranked, seen items left out."""


class Baseline(Protocol):
    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        """`items` are the acts' item rows, one person after another; `starts` (p + 1,) where each person begins."""
        ...

    def scores(self, histories: Sequence[Ints]) -> Scores: ...


class Plain:
    """A model of the catalogue, fitted on nothing but who acted on what in which order."""

    def __init__(self, name: str, **settings: Any) -> None:
        self._model = make(name, settings)

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        self._model.fit(plain(items, starts, n_items))
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return self._model.scores(histories)


class Bought:
    """What a person acted on most often, the most popular first among equals; then popularity."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        counts = np.bincount(items, minlength=n_items)
        self._popular = counts / (counts.sum() + 1.0)  # below 1, the least difference of counts
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        own = [np.bincount(history, minlength=len(self._popular)) for history in histories]
        return np.asarray(np.stack(own) + self._popular, np.float64)


Popularity = partial(Plain, "popularity")

BASELINES: dict[str, Callable[[], Baseline]] = {
    "popularity": Popularity,
    "markov1": partial(Plain, "markov", neighbours=0),
    "itemknn": partial(Plain, "item_knn", neighbours=0, acts=0, shrink=0.0, longest=ALL_ACTS),
    "ease": partial(Plain, "ease", neighbours=0, acts=0),
}
WHERE_REPEATED: dict[str, Callable[[], Baseline]] = {"bought": Bought}
"""Beside them where people act on the same thing again."""
