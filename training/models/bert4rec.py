"""BERT4Rec: attention in both directions, taught to fill in items that were masked (https://arxiv.org/abs/1904.06690).

At serving the mask stands after the newest act, so the model reads one act less than the others. It learns from every
fifth place only, which is why it wants several times SASRec's epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from training.loop import Batch
from training.models.contract import Interactions
from training.models.losses import softmax
from training.models.sasrec import SelfAttention
from training.models.towers import ITEM_STD, Encoder, ItemVectors, Network, TowerModel, TowerSettings, rows_of
from winnow.types import HISTORY


@dataclass(frozen=True, slots=True)
class Bert4RecSettings(TowerSettings):
    epochs: int = 100
    patience: int = 10
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    masked: float = 0.2  # share of a window's items that are to be found; the best of the paper's on this kind of data
    newest: float = 0.1  # share of windows of which only the newest item is masked: the question that serving asks


class Cloze(Encoder):
    """Attention over a history and the mask behind it. Places are absolute, counted from the newest."""

    def __init__(self, settings: Bert4RecSettings) -> None:
        super().__init__()
        self.attention = SelfAttention(settings, settings.layers, settings.heads, settings.dropout, causal=False)
        self.mask = nn.Parameter(torch.randn(settings.dim) * ITEM_STD)
        self.places = nn.Parameter(torch.randn(HISTORY, settings.dim) * ITEM_STD)

    def filled(self, items: Tensor, masked: Tensor, known: Tensor) -> Tensor:
        """(b, L, d) what the places hold, `masked` (b, L) of which are hidden."""
        x = torch.where(masked.unsqueeze(-1), self.mask, items) + self.places
        return self.attention.mixed(x * math.sqrt(x.shape[-1]), known)

    def forward(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        following = torch.zeros_like(history[:, :1])
        moved = torch.cat([history[:, 1:], following], 1)
        newest = torch.cat([torch.zeros_like(known[:, 1:]), torch.ones_like(known[:, :1])], 1)
        return self.filled(moved, newest, torch.cat([known[:, 1:], newest[:, -1:]], 1))[:, -1]


class Bert4RecNetwork(ItemVectors):
    encoder: Cloze

    def __init__(self, encoder: Cloze, n_items: int, settings: Bert4RecSettings) -> None:
        super().__init__(encoder, n_items, settings.dim, softmax)
        self.settings = settings

    def forward(self, batch: Batch) -> Tensor:
        rows = torch.cat([batch["inputs"][:, 1:], batch["targets"][:, -1:]], 1)  # the acts up to the newest target
        known = rows >= 0
        masked = self.draw(known)
        people = self.encoder.filled(rows_of(self.table, rows), masked, known)
        return self.over(people, self.table, rows, masked)

    def draw(self, known: Tensor) -> Tensor:
        """(b, L) the places to hide."""
        masked = known & (torch.rand(known.shape, device=known.device) < self.settings.masked)
        newest = torch.zeros_like(known)
        newest[:, -1] = known[:, -1]
        alone = torch.rand(len(known), 1, device=known.device) < self.settings.newest
        return torch.where(alone | ~masked.any(1, keepdim=True), newest, masked)


class Bert4Rec(TowerModel[Bert4RecSettings]):
    name: ClassVar[str] = "bert4rec"
    settings_type: ClassVar[type[Any]] = Bert4RecSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": CategoricalDistribution([32, 64, 128]),
        "layers": IntDistribution(1, 3),
        "dropout": FloatDistribution(0.1, 0.5),
        "lr": FloatDistribution(3e-4, 3e-3, log=True),
        "masked": FloatDistribution(0.1, 0.6),
    }

    def encoder(self) -> Cloze:
        return Cloze(self.settings)

    def network(self, data: Interactions) -> Network:
        return Bert4RecNetwork(self.encoder(), data.n_items, self.settings)
