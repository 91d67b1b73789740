"""Simple models that any other must beat: popularity, a first-order Markov chain, ItemKNN and EASE; where people buy
again, what each one bought most often before.

`fit` takes the acts that may be known, person by person in time order; `scores` takes histories (rows of items, oldest
first) and gives one score per item, (b, N) float64, higher is better. None knows what a person has seen: whoever ranks
leaves it out. Fitted on all of ml-1m but each person's last act they give the benchmark's values (`PUBLISHED`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from training.cooccurrence import cosine, people_by_items, transitions
from winnow.features import Ints

Scores = npt.NDArray[np.float64]

EASE_RIDGE = 500.0  # the best of 100, 250, 500 and 1000 on ml-1m
ALL_ACTS = 10**9  # of a person count
PUBLISHED = {"popularity": 0.0178, "itemknn": 0.0365, "ease": 0.0544, "markov1": 0.1261}
"""NDCG@10 on ml-1m, leave-one-out, the whole catalogue ranked, seen items left out."""


class Baseline(Protocol):
    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        """`items` are the acts' item rows, one person after another; `starts` (p + 1,) where each person begins."""
        ...

    def scores(self, histories: Sequence[Ints]) -> Scores: ...


class Popularity:
    """How often an item was acted on."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        self._counts = np.bincount(items, minlength=n_items).astype(np.float64)
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return np.repeat(self._counts[None], len(histories), axis=0)


class Markov:
    """How often an item came right after the newest one; popularity decides between equals."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        self._after = transitions(items, starts, n_items)
        counts = np.bincount(items, minlength=n_items)
        self._tie_break = counts / (counts.sum() + 1.0)  # below 1, the least difference of counts
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        scores = np.repeat(self._tie_break[None], len(histories), axis=0)
        known = [n for n, history in enumerate(histories) if len(history)]
        if known:
            scores[known] += self._after[[int(histories[n][-1]) for n in known]].toarray()
        return scores


class ItemKnn:
    """The summed cosine of an item's people with those of each item in the history, all neighbours."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        self._near = cosine(people_by_items(items, starts, n_items, longest=ALL_ACTS), shrink=0.0)
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return np.asarray((indicator(histories, self._near.shape[0]) @ self._near).toarray(), np.float64)


class Ease:
    """A linear model of items on items in closed form (Steck 2019, https://arxiv.org/abs/1905.03375)."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        matrix = people_by_items(items, starts, n_items, longest=ALL_ACTS)
        gram = (matrix.T @ matrix).toarray().astype(np.float64)
        gram[np.diag_indices(n_items)] += EASE_RIDGE
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(n_items)] = 0.0
        self._weights = weights
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return np.asarray(indicator(histories, len(self._weights)) @ self._weights, np.float64)


class Bought:
    """What a person acted on most often, the most popular first among equals; then popularity."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        counts = np.bincount(items, minlength=n_items)
        self._popular = counts / (counts.sum() + 1.0)  # below 1, the least difference of counts
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        own = [np.bincount(history, minlength=len(self._popular)) for history in histories]
        return np.asarray(np.stack(own) + self._popular, np.float64)


BASELINES: dict[str, type[Baseline]] = {"popularity": Popularity, "markov1": Markov, "itemknn": ItemKnn, "ease": Ease}
WHERE_REPEATED: dict[str, type[Baseline]] = {"bought": Bought}
"""Beside them where people act on the same thing again."""


def indicator(histories: Sequence[Ints], n_items: int) -> sp.csr_matrix:
    """(b, N) 0/1: which items each history holds."""
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    columns = np.concatenate([np.asarray(history, np.int64) for history in histories]) if len(histories) else rows
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(histories), n_items))
    matrix.data[:] = 1.0
    return matrix
