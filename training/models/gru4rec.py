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

import torch
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
        inputs = self.dropout(history * math.sqrt(history.shape[-1]))
        states = operator_of(self.gru, inputs) if torch.onnx.is_in_onnx_export() else self.gru(inputs)[0]
        return self.out(self.dropout(states))


def operator_of(gru: nn.GRU, inputs: Tensor) -> Tensor:
    """(b, L, h) what a GRU without biases makes of `inputs` (b, L, d), by ONNX's own operator: to learn no more than its
    shapes the exporter would go through every step three times, which takes 20 s. ONNX wants time first, and the gates
    in the order update, reset, new."""
    states = inputs.transpose(0, 1)
    for layer in range(gru.num_layers):
        weights = [getattr(gru, f"weight_{kind}_l{layer}").chunk(3) for kind in ("ih", "hh")]
        known = [torch.cat([update, reset, new]).unsqueeze(0) for reset, update, new in weights]
        shape = (states.shape[0], 1, states.shape[1], gru.hidden_size)
        attributes = {"hidden_size": gru.hidden_size, "linear_before_reset": 1}
        drawn = torch.onnx.ops.symbolic("GRU", (states, *known), attributes, dtype=states.dtype, shape=shape)
        states = drawn.squeeze(1)
    return states.transpose(0, 1)


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
