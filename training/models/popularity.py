"""How often an item was acted on: what every model must beat, and the answer for whom nothing is known of.

Served as a tower of one dimension whose query is always 1. A new item has no acts, so it comes last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.models import store
from training.models.contract import Interactions, Scores, Towers
from training.models.served import Always
from winnow.features import Ints

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class PopularitySettings:
    """Nothing to choose."""


class Popularity:
    name: ClassVar[str] = "popularity"
    settings_type: ClassVar[type[Any]] = PopularitySettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {}

    def __init__(self, settings: PopularitySettings = PopularitySettings(), seed: int = 0) -> None:
        self.settings, self.seed = settings, seed
        self._share = np.empty(0)

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        counts = np.bincount(data.items, minlength=data.n_items).astype(np.float64)
        self._share = counts / max(counts.max(initial=0.0), 1.0)  # of what the most popular item has
        return self

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return np.repeat(self._share[None], len(histories), axis=0)

    def save(self, folder: Path) -> None:
        store.write(folder, self, {"share": self._share})

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, seed, arrays = store.read(folder, cls, "share")
        made = cls(settings, seed)
        made._share = arrays["share"]
        return made

    def serves(self) -> Towers:
        return Towers(self._share[:, None].astype(np.float32), Always(1.0))
