"""What the models share whose score is a sum over the history's items: a matrix of what goes with what (item rows on
item columns), read as serving reads a bundle's table. How the matrix comes about is each model's own file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from training.cooccurrence import best
from training.models import store
from training.models.contract import Interactions, Scores, Table
from training.models.ties import popular_first
from winnow.features import Ints
from winnow.types import HISTORY

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from rich.progress import Progress

Weights: TypeAlias = Any
"""(N, N) what an item of the history adds to the score of each column: an array of float64, or a scipy CSR matrix where
most add nothing."""


@dataclass(frozen=True, slots=True)
class ItemToItemSettings:
    """`neighbours` are kept per item, the strongest. A benchmark's model of everything has 0 neighbours (all) and 0 acts
    (the whole history, each item once): no bundle carries that."""

    neighbours: Annotated[int, Field(ge=0, le=5_000)] = 200
    acts: Annotated[int, Field(ge=0, le=HISTORY)] = HISTORY  # newest acts that count
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # what each older act counts of the next


class ItemToItem:
    """A model but for its name, its space and `weigh`."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    space: ClassVar[Mapping[str, BaseDistribution]]

    def __init__(self, settings: Any = None, seed: int = 0) -> None:
        self.settings = self.settings_type() if settings is None else settings
        self.seed = seed
        self._weights: Weights = np.empty((0, 0))
        self._popular: Scores = np.empty(0)

    def weigh(self, data: Interactions) -> Weights:
        """All that goes with all."""
        raise NotImplementedError  # what sets these models apart: each says it in its own file

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        weights = self.weigh(data)
        self._weights = strongest(weights, self.settings.neighbours) if self.settings.neighbours else weights
        self._popular = popular_first(data)
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        found = counted(histories, len(self._popular), self.settings.acts, self.settings.decay) @ self._weights
        return np.asarray(found.toarray() if sp.issparse(found) else found, np.float64) + self._popular

    def save(self, folder: Path) -> None:
        store.write(folder, self, {"popular": self._popular, **arrays_of(self._weights)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, seed, arrays = store.read(folder, cls, "popular")
        made = cls(settings, seed)
        made._popular = arrays["popular"]
        made._weights = weights_of(arrays, len(made._popular))
        return made

    def serves(self) -> Table:
        """ValueError for a benchmark's model of everything."""
        if not (self.settings.neighbours and self.settings.acts):
            raise ValueError(
                f"a bundle carries a {self.name} with some neighbours per item and some acts, not with all"
            )
        return Table(best(self._weights, self.settings.neighbours), self.settings.acts, self.settings.decay)


def strongest(weights: Weights, k: int) -> sp.csr_matrix:
    """The k largest positive entries of each row, in single precision: what a table holds."""
    rows, scores = best(sp.csr_matrix(weights, dtype=np.float32), k)
    kept = rows >= 0
    starts = np.concatenate([[0], np.cumsum(kept.sum(1))])
    matrix = sp.csr_matrix((scores[kept], rows[kept].astype(np.int64), starts), shape=weights.shape)
    matrix.sort_indices()
    return matrix


def counted(histories: Sequence[Ints], n_items: int, acts: int, decay: float) -> sp.csr_matrix:
    """(b, N) how much each item of each history counts: the newest act 1, each older one `decay` times the next. Acts
    on items outside the catalogue take their place and count nothing. 0 acts: every item of the history once."""
    newest = [np.asarray(history, np.int64)[-acts:] for history in histories]  # [-0:] is everything
    sizes = [len(one) for one in newest]
    columns = np.concatenate(newest) if newest else np.empty(0, np.int64)
    age = np.concatenate([np.arange(size - 1, -1, -1) for size in sizes]) if newest else columns
    rows, known = np.repeat(np.arange(len(newest)), sizes), columns >= 0
    cells = (decay ** age[known].astype(np.float64), (rows[known], columns[known]))
    matrix = sp.csr_matrix(cells, shape=(len(newest), n_items))
    if not acts:
        matrix.data[:] = 1.0
    return matrix


def arrays_of(weights: Weights) -> store.Arrays:
    if isinstance(weights, np.ndarray):
        return {"weights": weights}
    return {"data": weights.data, "indices": weights.indices, "indptr": weights.indptr}


def weights_of(arrays: store.Arrays, n_items: int) -> Weights:
    """ValueError where the arrays are no (N, N) matrix."""
    if "weights" in arrays and arrays["weights"].shape == (n_items, n_items):
        return arrays["weights"]
    if not {"data", "indices", "indptr"} <= arrays.keys():
        raise ValueError(f"the arrays are no matrix of {n_items} items")
    return sp.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n_items, n_items))
