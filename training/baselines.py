"""Simple models that any other must beat: popularity, a first-order Markov chain, ItemKNN and EASE.

`fit` takes the acts that may be known, person by person in time order; `scores` takes histories (rows of items, oldest
first) and gives one score per item, (b, N) float32, higher is better. None knows what a person has seen: whoever ranks
leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp

from training.cooccurrence import cosine, people_by_items
from winnow.features import Ints
from winnow.types import Floats

EASE_RIDGE = 500.0
KNN_NEIGHBOURS = 100
KNN_SHRINK = 10.0
ALL_ACTS = 10**9  # of a person count


class Baseline(Protocol):
    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        """`items` are the acts' item rows, one person after another; `starts` (p + 1,) where each person begins."""
        ...

    def scores(self, histories: Sequence[Ints]) -> Floats: ...


class Popularity:
    """How often an item was acted on."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        self._counts = np.bincount(items, minlength=n_items).astype(np.float32)
        return self

    def scores(self, histories: Sequence[Ints]) -> Floats:
        return np.repeat(self._counts[None], len(histories), axis=0)


class Markov:
    """The share of the acts on the newest item that another item followed directly."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        person = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        same = person[1:] == person[:-1]
        source, target = items[:-1][same], items[1:][same]
        counts = sp.csr_matrix((np.ones(len(source), np.float32), (source, target)), shape=(n_items, n_items))
        total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
        self._chances = (sp.diags_array(1.0 / total).tocsr() @ counts).tocsr()
        return self

    def scores(self, histories: Sequence[Ints]) -> Floats:
        scores = np.zeros((len(histories), self._chances.shape[0]), np.float32)
        known = [n for n, history in enumerate(histories) if len(history)]
        if known:
            scores[known] = self._chances[[int(histories[n][-1]) for n in known]].toarray()
        return scores


class ItemKnn:
    """The summed cosine of an item's people with those of each item in the history, nearest neighbours only."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        near = cosine(people_by_items(items, starts, n_items, longest=ALL_ACTS), KNN_SHRINK)
        self._near = nearest_only(near, KNN_NEIGHBOURS)
        return self

    def scores(self, histories: Sequence[Ints]) -> Floats:
        return np.asarray((indicator(histories, self._near.shape[0]) @ self._near).toarray(), np.float32)


class Ease:
    """A linear model of items on items in closed form (Steck 2019, https://arxiv.org/abs/1905.03375)."""

    def fit(self, items: Ints, starts: Ints, n_items: int) -> Self:
        matrix = people_by_items(items, starts, n_items, longest=ALL_ACTS)
        gram = (matrix.T @ matrix).toarray().astype(np.float64)
        gram[np.diag_indices(n_items)] += EASE_RIDGE
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(n_items)] = 0.0
        self._weights = weights.astype(np.float32)
        return self

    def scores(self, histories: Sequence[Ints]) -> Floats:
        return np.asarray(indicator(histories, len(self._weights)) @ self._weights, np.float32)


BASELINES: dict[str, type[Baseline]] = {"popularity": Popularity, "markov1": Markov, "itemknn": ItemKnn, "ease": Ease}


def indicator(histories: Sequence[Ints], n_items: int) -> sp.csr_matrix:
    """(b, N) 0/1: which items each history holds."""
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    columns = np.concatenate([np.asarray(history, np.int64) for history in histories]) if len(histories) else rows
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(histories), n_items))
    matrix.data[:] = 1.0
    return matrix


def nearest_only(matrix: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """The k largest entries of each column: an item is proposed through its own nearest neighbours."""
    by_item = matrix.tocsc()
    keep = np.zeros(by_item.nnz, np.bool_)
    for column in range(by_item.shape[1]):
        part = slice(by_item.indptr[column], by_item.indptr[column + 1])
        values = by_item.data[part]
        best = np.argsort(-values, kind="stable")[:k] + part.start
        keep[best] = True
    by_item.data[~keep] = 0.0
    by_item.eliminate_zeros()
    return by_item.tocsr()
