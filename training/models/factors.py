"""What models of factors have in common: vectors of items, arrays that make the model, scores by folding a history in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.models import store
from training.models.contract import Interactions, Scores, Towers
from training.models.queries import scores_by
from winnow.features import Ints
from winnow.types import Floats

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from rich.progress import Progress


class FactorModel(ABC):
    """A subclass fits, and says how a history is folded in (`serves`). `arrays` names what it keeps: `_<name>` each."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    space: ClassVar[Mapping[str, BaseDistribution]]
    arrays: ClassVar[tuple[str, ...]] = ("vectors", "popular")

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._vectors: Floats = np.empty((0, 0), np.float32)
        self._popular: Scores = np.empty(0)
        self._asked: Towers | None = None

    @abstractmethod
    def fit(self, data: Interactions, progress: Progress | None = None) -> Self: ...

    @abstractmethod
    def serves(self) -> Towers: ...

    def scores(self, histories: Sequence[Ints]) -> Scores:
        """By the fold-in of the fit that these factors are of: making one looks at every item (ALS inverts a matrix)."""
        if self._asked is None or self._asked.vectors is not self._vectors:
            self._asked = self.serves()
        return scores_by(self._asked, histories, self._popular)

    def save(self, folder: Path) -> None:
        store.write(folder, self, {name: getattr(self, f"_{name}") for name in self.arrays})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, seed, arrays = store.read(folder, cls, *cls.arrays)
        made = cls(settings, seed)
        for name in cls.arrays:
            setattr(made, f"_{name}", arrays[name])
        return made
