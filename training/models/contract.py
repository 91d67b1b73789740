"""What every model that finds items keeps (tests/contract/test_models.py holds each of them to it).

A model fits on acts in their order, gives every item a score for any history, and leaves what serving reads, in one of
two forms: `Towers` (item vectors and a graph from a history to a vector) or `Table` (what goes with what). Whoever ranks
leaves out what a person has seen; a model does not. Knows no data set, no file of a bundle and no service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from training.cooccurrence import Neighbours
from winnow.encoding import Schema
from winnow.features import Ints
from winnow.types import HISTORY, Floats

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from rich.progress import Progress
    from torch import nn

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """What is known of N items (or p people) besides their ids: columns as `Schema.encode` makes them, (N, W) rows of
    vocabularies and (N, D) numbers."""

    schema: Schema
    ids: Ints
    numbers: Floats


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who acted on what, one person's acts after another's, oldest first (a acts of p people on N items).

    `values` are ratings or prices, NaN where an act has none; `at` are seconds since 1970, or a mere order. A model reads
    what it needs: most read `items` and `starts`.
    """

    items: Ints  # (a,) item rows
    starts: Ints  # (p + 1,) where each person begins
    n_items: int
    values: Floats  # (a,)
    at: npt.NDArray[np.float64]  # (a,)
    item_side: Side | None = None  # of all N items
    user_side: Side | None = None  # of all p people

    @property
    def n_users(self) -> int:
        return len(self.starts) - 1

    def of(self, user: int) -> Ints:
        """The item rows of one person, oldest first."""
        return self.items[self.starts[user] : self.starts[user + 1]]


@dataclass(frozen=True, eq=False)
class Towers:
    """Item vectors and the graph that makes a query of a history: score = inner product.

    `user` is a module with the inputs of a bundle's user tower (docs/bundles.md): `ids` (b, W), `history` (b, 50, d) item
    vectors with the newest act last, `history_types`, `history_values` (b, 50) → (b, d). A place with type 0 is padding.
    It may ignore all but `history` and `history_types`; `user_schema` encodes `ids` for one that reads them. An item
    without a vector (unknown, new) has the zero vector, unless `item` makes one of what is known of it: a module
    `ids` (n, W), `numbers` (n, D) → (n, d), by `item_schema`. A zero query says nothing: serving then proposes nothing.
    """

    vectors: Floats  # (N, d)
    user: nn.Module
    user_schema: Schema | None = None
    item: nn.Module | None = None
    item_schema: Schema | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """What goes with what: an item's score is the sum of its entries over the newest `acts` items of the history, each
    older one counting `decay` times the next. `acts` is at most the history that serving keeps."""

    neighbours: Neighbours  # (N, K) rows and scores
    acts: int = HISTORY
    decay: float = 1.0


@runtime_checkable
class Model(Protocol):
    """Made from its settings (a frozen dataclass, every field with a default) and a seed: `Ease(EaseSettings(), seed=0)`;
    by name: `training.models.catalogue.make`."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    space: ClassVar[Mapping[str, BaseDistribution]]  # what a search may vary: fields of the settings
    settings: Any
    seed: int

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        """Learn from nothing but `data`; a second fit forgets the first. The same data, settings and seed give the same
        model on the same machine."""
        ...

    def scores(self, histories: Sequence[Ints]) -> Scores:
        """(b, N) one score per item, higher is better, for histories of item rows, oldest first; only the newest
        `HISTORY` acts count for models that serve. An empty history gets an order too: the popular first, unless the
        model has something better to say. Rows outside the catalogue (-1) are left out."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `scores` needs: JSON, `.npy` and `.npz` without pickles."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote; scores equal to the last bit. ValueError when the folder holds something else."""
        ...

    def serves(self) -> Towers | Table:
        """What a bundle carries of it; by it, serving's scores are these scores."""
        ...
