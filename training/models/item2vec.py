"""item2vec: skip-gram with negative sampling over histories as sentences (Barkan and Koenigstein 2016,
https://arxiv.org/abs/1603.04259), by the library gensim.

Items that occur near each other in histories lie near each other; a person is the mean of the vectors of what they did
last. Scores are cosines with it. A new item has no vector until the next fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field
from torch import Tensor, nn

from training.models.contract import Interactions, Towers
from training.models.factors import FactorModel
from training.models.graph import Graph
from training.models.served import known_in, save_user_tower, sum_over
from training.models.ties import popular_first
from winnow.types import HISTORY

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class Item2VecSettings:
    """`window` acts to each side are an item's context; `exponent` says how much rarer than they are the popular are
    drawn as negatives (0: all alike, below: the rare more often)."""

    dim: Annotated[int, Field(ge=1, le=1_024)] = 64
    window: Annotated[int, Field(ge=1, le=100)] = 5
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 10
    negatives: Annotated[int, Field(ge=1, le=100)] = 10
    exponent: Annotated[float, Field(ge=-2, le=2)] = 0.5
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    acts: Annotated[int, Field(ge=1, le=HISTORY)] = 5  # newest acts whose mean is the query


class Item2Vec(FactorModel):
    name: ClassVar[str] = "item2vec"
    settings_type: ClassVar[type[Any]] = Item2VecSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": IntDistribution(16, 256, log=True),
        "window": IntDistribution(1, 20),
        "epochs": IntDistribution(5, 60, log=True),
        "negatives": IntDistribution(5, 20),
        "exponent": FloatDistribution(-1.0, 1.0),
        "learning_rate": FloatDistribution(0.01, 0.1, log=True),
        "acts": IntDistribution(1, HISTORY),
    }

    def __init__(self, settings: Item2VecSettings = Item2VecSettings(), seed: int = 0) -> None:
        super().__init__(settings, seed)

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        from gensim.models import Word2Vec  # takes a while to import

        chosen = self.settings
        sentences = [[str(row) for row in data.of(user)] for user in range(data.n_users)]
        self._vectors = np.zeros((data.n_items, chosen.dim), np.float32)
        if len(data.items):
            found = Word2Vec(
                sentences,
                vector_size=chosen.dim,
                window=chosen.window,
                sg=1,
                hs=0,
                negative=chosen.negatives,
                ns_exponent=chosen.exponent,
                alpha=chosen.learning_rate,
                epochs=chosen.epochs,
                min_count=1,
                sample=0,
                seed=self.seed,
                workers=1,  # more would race for the vectors: no two runs were the same
            ).wv
            rows = np.asarray([int(word) for word in found.index_to_key])
            self._vectors[rows] = found.get_normed_vectors()
        self._popular = popular_first(data)
        return self

    def serves(self) -> Towers:
        return Towers(self._vectors, NewestMean(self.settings.acts, self.settings.dim))


class NewestMean(nn.Module):
    """The mean of the newest `acts` vectors, norm 1; an empty history is the zero vector."""

    def __init__(self, acts: int, dim: int) -> None:
        super().__init__()
        self.acts, self.dim = acts, dim

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        known = (history_types[:, -self.acts :] > 0).unsqueeze(-1).to(history.dtype)
        total = (history[:, -self.acts :] * known).sum(1)
        return total / total.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)

    def draw(self, file: Path) -> None:
        """The same, node by node."""
        g = Graph("user_tower")
        known = g.columns(known_in(g), HISTORY - self.acts, HISTORY, axis=1)
        total = sum_over(g, g.op("Mul", g.columns("history", HISTORY - self.acts, HISTORY, axis=1), known), 1)
        norm = g.op("Sqrt", sum_over(g, g.op("Mul", total, total), -1, keep=True))
        g.op("Div", total, g.op("Max", norm, g.constant(1e-12)), name="vector")
        save_user_tower(g, file, self.dim)
