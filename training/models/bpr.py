"""BPR: factors such that what a person acted on comes before what they did not (Rendle et al. 2009,
https://arxiv.org/abs/1205.2618), by the library `implicit`.

Training gives every person factors of their own; serving knows histories only. The fold-in is the linear map that comes
closest, over the training's people, from the mean of their items' factors to their own (ridge regression), so a newcomer
gets the factors that people with such a history have. The item's bias is one more dimension, which every query reads
with 1; only an empty history says nothing. A new item has no factors until the next fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from training.cooccurrence import people_by_items
from training.models.contract import Interactions, Towers
from training.models.factors import FactorModel
from training.models.graph import Graph
from training.models.queries import kept
from training.models.served import known_in, save_user_tower, sum_over
from training.models.ticks import ticks
from training.models.ties import popular_first
from winnow.features import Ints
from winnow.types import Floats

if TYPE_CHECKING:
    from rich.progress import Progress

ALL_ACTS = 10**9


@dataclass(frozen=True, slots=True)
class BprSettings:
    """`ridge` holds the fold-in back, in people: a direction that fewer people than that have is not believed."""

    factors: Annotated[int, Field(ge=1, le=1_024)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    regularization: Annotated[float, Field(ge=0)] = 0.01
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    ridge: Annotated[float, Field(gt=0)] = 1.0


class Bpr(FactorModel):
    name: ClassVar[str] = "bpr"
    settings_type: ClassVar[type[Any]] = BprSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "factors": IntDistribution(16, 256, log=True),
        "learning_rate": FloatDistribution(0.005, 0.2, log=True),
        "regularization": FloatDistribution(0.001, 0.1, log=True),
        "iterations": IntDistribution(20, 300, log=True),
        "ridge": FloatDistribution(0.01, 100.0, log=True),
    }
    arrays: ClassVar[tuple[str, ...]] = ("vectors", "map", "popular")

    def __init__(self, settings: BprSettings = BprSettings(), seed: int = 0) -> None:
        super().__init__(settings, seed)
        self._map: Floats = np.empty((0, 0), np.float32)

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        from implicit.cpu.bpr import BayesianPersonalizedRanking  # takes a while to import

        chosen = self.settings
        matrix = people_by_items(data.items, data.starts, data.n_items, longest=ALL_ACTS)
        with threadpool_limits(1, "blas"):
            library = BayesianPersonalizedRanking(
                factors=chosen.factors,
                learning_rate=chosen.learning_rate,
                regularization=chosen.regularization,
                iterations=chosen.iterations,
                num_threads=1,  # more would race for the factors: no two runs were the same
                random_state=self.seed,
            )
            library.fit(matrix, show_progress=False, callback=ticks(progress, self.name, chosen.iterations))
        self._vectors = np.asarray(library.item_factors, np.float32)
        means = np.stack([mean_of(self._vectors, data.of(user)) for user in range(data.n_users)])
        self._map = nearest_map(means[:, :-1], np.asarray(library.user_factors)[:, :-1], chosen.ridge)
        self._popular = popular_first(data)
        return self

    def serves(self) -> Towers:
        return Towers(self._vectors, FoldIn(self._map))


def mean_of(vectors: Floats, history: Ints) -> Floats:
    """(d,) of the newest acts; zeros of none."""
    newest = kept(history)
    return vectors[newest].mean(0) if len(newest) else np.zeros(vectors.shape[1], np.float32)


def nearest_map(means: npt.NDArray[Any], factors: npt.NDArray[Any], ridge: float) -> Floats:
    """(d, d) M with the least Σ |means M - factors|² + ridge · |M|² in units of the means' own size."""
    known = means.any(axis=1)
    x, y = means[known].astype(np.float64), factors[known].astype(np.float64)
    gram = x.T @ x
    held = ridge * max(np.trace(gram), 1e-12) / (len(gram) * max(len(x), 1))
    found: Floats = np.linalg.solve(gram + held * np.eye(len(gram)), x.T @ y).astype(np.float32)
    return found


class FoldIn(nn.Module):
    """The mapped mean of the history's factors, and 1 for the bias; an empty history is the zero vector."""

    def __init__(self, to_person: Floats) -> None:
        super().__init__()
        self.register_buffer("to_person", torch.from_numpy(to_person))

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        known = (history_types > 0).unsqueeze(-1).to(history.dtype)
        acts = known.sum(1)
        mean = (history * known).sum(1)[:, :-1] / acts.clamp(min=1.0)
        return torch.cat([mean @ self.to_person, acts.clamp(max=1.0)], dim=-1)

    def draw(self, file: Path) -> None:
        """The same, node by node."""
        g = Graph("user_tower")
        known, dim = known_in(g), len(self.to_person)
        acts = sum_over(g, known, 1)
        total = g.columns(sum_over(g, g.op("Mul", "history", known), 1), 0, dim, axis=1)
        mean = g.op("Div", total, g.op("Max", acts, g.constant(1.0)))
        mapped = g.op("MatMul", mean, g.constant(self.to_person.numpy()))
        g.op("Concat", mapped, g.op("Min", acts, g.constant(1.0)), name="vector", axis=1)
        save_user_tower(g, file, dim + 1)
