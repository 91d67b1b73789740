"""LightGCN: vectors of people and items, smoothed over the graph of who acted on what (https://arxiv.org/abs/2002.02126).

The vector of a node is the mean of its own and of what 1, 2, … steps along the graph bring; nothing else is learnt. At
serving a person is not a node: their vector is what one step brings from the items of their history, each weighing
1 / sqrt(people who acted on it) as in the graph. What a node of their own would have learnt is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from training.cooccurrence import people_by_items
from training.loop import Batch, Batches, shuffled
from training.models.contract import Interactions
from training.models.losses import loss_of
from training.models.sparse import Spread
from training.models.towers import Encoder, Network, TowerModel, TowerSettings

NODE_STD = 0.1  # of vectors at the start, the paper's


@dataclass(frozen=True, slots=True)
class LightGcnSettings(TowerSettings):
    """`batch` are pairs of a person and an item; every step walks the whole graph, so few large ones are cheap.
    `negatives` are a step's; softmax draws none."""

    batch: int = 8192
    epochs: int = 20
    lr: float = 1e-2
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    layers: int = 3
    loss: Literal["softmax", "bpr"] = "softmax"
    negatives: int = 256


class FoldIn(Encoder):
    """The sum of a history's vectors by weight; the weight is an item vector's last number, which a person has 0 of."""

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        brought = (history[..., :-1] * history[..., -1:]).cumsum(1)
        person = brought / known.to(history.dtype).cumsum(1).clamp(min=1).sqrt().unsqueeze(-1)
        return torch.cat([person, torch.zeros_like(person[..., :1])], -1)


class Graph(Network):
    """Learns from pairs (`people`, `wanted`) instead of windows."""

    def __init__(self, matrix: sp.csr_matrix, settings: LightGcnSettings) -> None:
        super().__init__()
        self.encoder = FoldIn()
        self.layers, self.loss = settings.layers, loss_of(settings.loss, settings.negatives)
        self.edges = Spread(normalised(matrix))
        self.people_table = nn.Parameter(torch.randn(matrix.shape[0], settings.dim) * NODE_STD)
        self.item_table = nn.Parameter(torch.randn(matrix.shape[1], settings.dim) * NODE_STD)
        self.register_buffer("weight", torch.from_numpy(inverse_root(matrix.sum(0))).unsqueeze(1), persistent=False)

    def nodes(self) -> tuple[Tensor, Tensor]:
        """(p, d) people and (N, d) items: the means over all steps along the graph."""
        people, items = self.people_table, self.item_table
        people_sum, item_sum = people, items
        for _ in range(self.layers):
            people, items = self.edges(items), self.edges.back(people)
            people_sum, item_sum = people_sum + people, item_sum + items
        return people_sum / (1 + self.layers), item_sum / (1 + self.layers)

    def items(self) -> Tensor:
        return torch.cat([self.nodes()[1], self.weight], 1)

    def forward(self, batch: Batch) -> Tensor:
        people, items = self.nodes()
        return self.loss(people[batch["people"]], items, batch["wanted"])


def inverse_root(degrees: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(n,) 1 / sqrt(degree); 0 for a node without an edge."""
    flat = np.asarray(degrees, np.float32).reshape(-1)
    return np.where(flat > 0, 1 / np.sqrt(np.maximum(flat, 1)), 0).astype(np.float32)


def normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """(p, N) each edge over the root of both its nodes' degrees."""
    left, right = (sp.diags_array(inverse_root(matrix.sum(axis))) for axis in (1, 0))
    return (left @ matrix @ right).tocsr()


class LightGcn(TowerModel[LightGcnSettings]):
    name: ClassVar[str] = "lightgcn"
    settings_type: ClassVar[type[Any]] = LightGcnSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": CategoricalDistribution([32, 64, 128]),
        "layers": IntDistribution(1, 4),
        "lr": FloatDistribution(1e-3, 3e-2, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "loss": CategoricalDistribution(["softmax", "bpr"]),
    }

    def encoder(self) -> Encoder:
        return FoldIn()

    def network(self, data: Interactions) -> Network:
        return Graph(edges_of(data), self.settings)

    def batches(self, data: Interactions) -> Batches:
        """Every pair once an epoch, however often it occurs."""
        pairs = edges_of(data).tocoo()
        people, wanted = (torch.from_numpy(side.astype(np.int64)) for side in (pairs.row, pairs.col))

        def epoch(number: int, rank: int, world: int) -> list[Batch]:
            every = shuffled(len(people), self.settings.batch, self.seed, number, rank, world)
            return [{"people": people[rows], "wanted": wanted[rows]} for rows in every]

        return epoch


def edges_of(data: Interactions) -> sp.csr_matrix:
    """(p, N) 0/1: who acted on what."""
    return people_by_items(data.items, data.starts, data.n_items, longest=max(len(data.items), 1))
