"""SASRec: self-attention over a history, taught the next item after each act (https://arxiv.org/abs/1808.09781).

Besides the paper's own there are two changes that later work found to matter more than the network: cross entropy over
the whole catalogue, or the sampled gBCE of gSASRec (https://arxiv.org/abs/2308.07192) where the catalogue is too large
for that. Places enter as distances, learnt per head (`training.models.two_tower.Attention`), so that a person is the
same wherever in a window their acts stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from training.models.contract import Interactions
from training.models.losses import loss_of
from training.models.tower_graphs import BLOCKED
from training.models.towers import Encoder, ItemVectors, Network, TowerModel, TowerSettings
from training.models.two_tower import Block, TowerSizes
from winnow.types import HISTORY


@dataclass(frozen=True, slots=True)
class SasRecSettings(TowerSettings):
    """`negatives` are a step's; softmax draws none. Fewer `targets` a window give each a longer history, up to the 50
    acts that serving reads, and make more windows."""

    targets: int = HISTORY
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    loss: Literal["softmax", "gbce"] = "softmax"
    negatives: int = 256


class SelfAttention(Encoder):
    """Blocks of attention over item vectors, causal or in both directions."""

    def __init__(self, settings: TowerSettings, layers: int, heads: int, dropout: float, causal: bool = True) -> None:
        super().__init__()
        sizes = TowerSizes(dim=settings.dim, heads=heads, hidden=4 * settings.dim, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(layers))
        self.last = nn.LayerNorm(settings.dim)
        later = torch.full((HISTORY, HISTORY), BLOCKED).triu(1) if causal else torch.zeros(HISTORY, HISTORY)
        self.register_buffer("later", later, persistent=False)
        self.register_buffer("others", 1.0 - torch.eye(HISTORY), persistent=False)

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        return self.mixed(history * math.sqrt(history.shape[-1]), known)

    def mixed(self, x: Tensor, known: Tensor) -> Tensor:
        """(b, L, d): every place after it has read the known ones; one that is not known reads itself alone."""
        x = self.dropout(x)
        blocked = self.later + (~known)[:, None, None, :] * self.others * BLOCKED
        for block in self.blocks:
            x = block(x, blocked)
        return self.last(x)


class SasRec(TowerModel[SasRecSettings]):
    name: ClassVar[str] = "sasrec"
    settings_type: ClassVar[type[Any]] = SasRecSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": CategoricalDistribution([32, 64, 128]),
        "layers": IntDistribution(1, 3),
        "dropout": FloatDistribution(0.1, 0.5),
        "lr": FloatDistribution(3e-4, 3e-3, log=True),
        "loss": CategoricalDistribution(["softmax", "gbce"]),
    }

    @property
    def targets(self) -> int:
        return self.settings.targets

    def encoder(self) -> Encoder:
        s = self.settings
        return SelfAttention(s, s.layers, s.heads, s.dropout)

    def network(self, data: Interactions) -> Network:
        s = self.settings
        return ItemVectors(self.encoder(), data.n_items, s.dim, loss_of(s.loss, s.negatives))
