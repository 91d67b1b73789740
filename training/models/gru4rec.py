"""GRU4Rec: a recurrent network over a history (https://arxiv.org/abs/1706.03847).

Items are read and looked for by one vector each (the authors' "constrained embedding"). Of their losses there is
BPR-max, beside cross entropy over the whole catalogue. The network has no biases, so it rests at zero while it reads
padding, and a person's state does not depend on how much of it there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from training.models.contract import Interactions
from training.models.losses import loss_of
from training.models.towers import Encoder, ItemVectors, Network, TowerModel, TowerSettings


@dataclass(frozen=True, slots=True)
class Gru4RecSettings(TowerSettings):
    """`negatives` are a step's; softmax draws none."""

    hidden: int = 128  # of the state
    layers: int = 1
    dropout: float = 0.2
    loss: Literal["softmax", "bpr-max"] = "softmax"
    negatives: int = 512


class Recurrent(Encoder):
    def __init__(self, settings: Gru4RecSettings) -> None:
        super().__init__()
        self.gru = nn.GRU(settings.dim, settings.hidden, settings.layers, bias=False, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.out = nn.Linear(settings.hidden, settings.dim)

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(history * math.sqrt(history.shape[-1])))
        return self.out(self.dropout(states))


class Gru4Rec(TowerModel[Gru4RecSettings]):
    name: ClassVar[str] = "gru4rec"
    settings_type: ClassVar[type[Any]] = Gru4RecSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": CategoricalDistribution([32, 64, 128]),
        "hidden": CategoricalDistribution([64, 128, 256]),
        "layers": IntDistribution(1, 2),
        "dropout": FloatDistribution(0.0, 0.5),
        "lr": FloatDistribution(3e-4, 1e-2, log=True),
        "loss": CategoricalDistribution(["softmax", "bpr-max"]),
    }

    def encoder(self) -> Encoder:
        return Recurrent(self.settings)

    def network(self, data: Interactions) -> Network:
        s = self.settings
        return ItemVectors(self.encoder(), data.n_items, s.dim, loss_of(s.loss, s.negatives))
