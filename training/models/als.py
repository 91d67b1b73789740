"""ALS: a matrix factorised by alternating least squares with confidences (Hu, Koren, Volinsky 2008,
https://doi.org/10.1109/ICDM.2008.22), by the library `implicit`.

A person's factors are no part of it: a history is folded in when it is asked about, by the same normal equations that
training solves for people, so people who came after the training, and every new act, count at once. A new item has no
factors until the next fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from training.cooccurrence import people_by_items
from training.models.contract import Interactions, Towers
from training.models.factors import FactorModel
from training.models.graph import Graph
from training.models.served import known_in, save_user_tower, sum_over
from training.models.ticks import ticks
from training.models.ties import popular_first
from winnow.types import Floats

if TYPE_CHECKING:
    from rich.progress import Progress

EXACT = 1e-6  # relative error of a fold-in that is held for none
ALL_ACTS = 10**9
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class AlsSettings:
    """An item that was acted on weighs `confidence` times one that was not."""

    factors: Annotated[int, Field(ge=1, le=1_024)] = 64
    regularization: Annotated[float, Field(gt=0)] = 10.0
    confidence: Annotated[float, Field(ge=1, le=100)] = 2.0
    iterations: Annotated[int, Field(ge=1, le=1_000)] = 10


class Als(FactorModel):
    name: ClassVar[str] = "als"
    settings_type: ClassVar[type[Any]] = AlsSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "factors": IntDistribution(16, 256, log=True),
        "regularization": FloatDistribution(0.01, 300.0, log=True),
        "confidence": FloatDistribution(1.0, 40.0, log=True),
        "iterations": IntDistribution(5, 30),
    }

    def __init__(self, settings: AlsSettings = AlsSettings(), seed: int = 0) -> None:
        super().__init__(settings, seed)

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        from implicit.cpu.als import AlternatingLeastSquares  # takes a while to import

        chosen = self.settings
        matrix = people_by_items(data.items, data.starts, data.n_items, longest=ALL_ACTS)
        with threadpool_limits(1, "blas"):
            library = AlternatingLeastSquares(
                factors=chosen.factors,
                regularization=chosen.regularization,
                alpha=chosen.confidence,
                iterations=chosen.iterations,
                use_cg=False,  # the exact solution, as the fold-in's
                num_threads=1,
                random_state=self.seed,
            )
            library.fit(matrix, show_progress=False, callback=ticks(progress, self.name, chosen.iterations))
        self._vectors = np.asarray(library.item_factors, np.float32)
        self._popular = popular_first(data)
        return self

    def serves(self) -> Towers:
        return Towers(self._vectors, FoldIn(self._vectors, self.settings.confidence, self.settings.regularization))


class FoldIn(nn.Module):
    """A history's factors x, which minimise Σ over all items of confidence · (wanted - x·y)² + λ|x|²:

        (YᵀY + λI + (c - 1) HᵀH) x = c Hᵀ1        Y (N, d) all items, H (b, 50, d) those of the history

    By conjugate gradients, preconditioned with (YᵀY + λI)⁻¹, in a fixed number of steps, so that it is a plain graph. As
    HᵀH is a part of YᵀY, the condition number is c at most (an item that was acted on m times: m · c), and the steps
    that bring the error below `EXACT` follow from it. An empty history is the zero vector.
    """

    def __init__(self, vectors: Floats, confidence: float, regularization: float) -> None:
        super().__init__()
        wide = vectors.astype(np.float64)
        gram = wide.T @ wide + regularization * np.eye(vectors.shape[1])
        self.confidence = confidence
        self.steps = steps_for(confidence)
        self.register_buffer("gram", torch.from_numpy(gram.astype(np.float32)))
        self.register_buffer("inverse", torch.from_numpy(np.linalg.inv(gram).astype(np.float32)))

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        acts = history * (history_types > 0).unsqueeze(-1).to(history.dtype)
        wanted = self.confidence * acts.sum(1)
        x = wanted @ self.inverse
        left = wanted - self.apply_to(x, acts)
        z = left @ self.inverse
        way, size = z, (left * z).sum(-1, keepdim=True)
        for _ in range(self.steps):
            moved = self.apply_to(way, acts)
            far = size / (way * moved).sum(-1, keepdim=True).clamp(min=TINY)
            x, left = x + far * way, left - far * moved
            z = left @ self.inverse
            now = (left * z).sum(-1, keepdim=True)
            way, size = z + now / size.clamp(min=TINY) * way, now
        return x

    def apply_to(self, x: Tensor, acts: Tensor) -> Tensor:
        """The left side of the equations, (b, d)."""
        met = acts @ x.unsqueeze(-1)
        return x @ self.gram + (self.confidence - 1.0) * (acts * met).sum(1)

    def draw(self, file: Path) -> None:
        """The same, node by node."""
        g = Graph("user_tower")
        inverse, gram = g.constant(self.inverse.numpy()), g.constant(self.gram.numpy())
        tiny, more = g.constant(TINY), g.constant(self.confidence - 1.0)
        acts = g.op("Mul", "history", known_in(g))

        def applied(x: str) -> str:
            met = g.op("MatMul", acts, g.op("Unsqueeze", x, g.shape(-1)))
            own = g.op("Mul", more, sum_over(g, g.op("Mul", acts, met), 1))
            return g.op("Add", g.op("MatMul", x, gram), own)

        def dot(one: str, two: str) -> str:
            return sum_over(g, g.op("Mul", one, two), -1, keep=True)

        wanted = g.op("Mul", g.constant(self.confidence), sum_over(g, acts, 1))
        x = g.op("MatMul", wanted, inverse)
        left = g.op("Sub", wanted, applied(x))
        way = g.op("MatMul", left, inverse)
        size = dot(left, way)
        for _ in range(self.steps):
            moved = applied(way)
            far = g.op("Div", size, g.op("Max", dot(way, moved), tiny))
            x = g.op("Add", x, g.op("Mul", far, way))
            left = g.op("Sub", left, g.op("Mul", far, moved))
            z = g.op("MatMul", left, inverse)
            now = dot(left, z)
            way = g.op("Add", z, g.op("Mul", g.op("Div", now, g.op("Max", size, tiny)), way))
            size = now
        g.op("Identity", x, name="vector")
        save_user_tower(g, file, self.gram.shape[0])


def steps_for(condition: float) -> int:
    """Of conjugate gradients, whose error falls by (√κ - 1) / (√κ + 1) a step at least."""
    root = math.sqrt(condition)
    return math.ceil(math.log(2 / EXACT) / math.log((root + 1) / (root - 1))) if root > 1 else 0
