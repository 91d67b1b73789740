"""Deep matrix factorisation: two towers over the rows and columns of the matrix of who acted on what
(https://www.ijcai.org/Proceedings/2017/0447.pdf); the score is the cosine of their outputs.

An item's tower reads its column, whoever acted on it. A person's reads their row, the history: its first layer's weights
are the items' vectors, so that it can be served by history alone. Acts count 1; the ratings that the paper weighs
them by are left out. While training, half of the people are left out of the columns: else an item that somebody acted on
carries their mark, and the towers learn the marks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from training.models.contract import Interactions
from training.models.lightgcn import edges_of, inverse_root
from training.models.losses import loss_of, scored
from training.models.sparse import Spread
from training.models.towers import Encoder, Network, TowerModel, TowerSettings

SMALLEST = 1e-6  # cosine that the paper's loss takes the logarithm of


@dataclass(frozen=True, slots=True)
class DeepMfSettings(TowerSettings):
    """`nce` is the paper's normalised cross entropy with `negatives` a step; softmax draws none."""

    batch: int = 128
    hidden: int = 128
    dropout: float = 0.5  # share of the people whom a step leaves out of the columns
    temperature: float = 0.1  # of softmax over cosines
    loss: Literal["softmax", "nce"] = "softmax"
    negatives: int = 256


class Row(Encoder):
    """Two layers over the sum of a history's vectors, L2 norm 1."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        count = known.to(history.dtype).cumsum(1).clamp(min=1).unsqueeze(-1)
        return F.normalize(self.layers(history.cumsum(1) / count.sqrt()), dim=-1)


class DeepMfNetwork(Network):
    def __init__(self, encoder: Encoder, matrix: sp.csr_matrix, settings: DeepMfSettings) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, settings.dropout
        self.columns = Spread((sp.diags_array(inverse_root(matrix.sum(0))) @ matrix.T).tocsr())
        self.first = nn.Parameter(torch.randn(matrix.shape[0], settings.hidden) * settings.hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(settings.hidden))
        self.second = nn.Linear(settings.hidden, settings.dim)
        self.scale = 1.0 if settings.loss == "nce" else 1 / settings.temperature
        self.loss = partial(nce, negatives=settings.negatives) if settings.loss == "nce" else loss_of("softmax", 0)

    def items(self) -> Tensor:
        whose = self.first
        if self.training:
            whose = whose * F.dropout(whose.new_ones(len(whose), 1), self.dropout)
        return F.normalize(self.second(F.relu(self.columns(whose) + self.bias)), dim=-1)

    def over(self, people: Tensor, items: Tensor, targets: Tensor, examples: Tensor) -> Tensor:
        return super().over(people * self.scale, items, targets, examples)


def nce(people: Tensor, items: Tensor, wanted: Tensor, negatives: int) -> Tensor:
    """Binary cross entropy of cosines, taken for probabilities; those below 0 count as hardly any."""
    positive, negative, clash = scored(people, items, wanted, negatives)
    against = torch.log1p(-negative.clamp(SMALLEST, 1 - SMALLEST)).masked_fill(clash, 0.0)
    return -(torch.log(positive.clamp(min=SMALLEST)) + against.sum(1)).mean()


class DeepMf(TowerModel[DeepMfSettings]):
    name: ClassVar[str] = "deepmf"
    settings_type: ClassVar[type[Any]] = DeepMfSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "hidden": CategoricalDistribution([64, 128, 256]),
        "dropout": FloatDistribution(0.0, 0.8),
        "temperature": FloatDistribution(0.05, 0.3, log=True),
        "lr": FloatDistribution(3e-4, 1e-2, log=True),
        "loss": CategoricalDistribution(["softmax", "nce"]),
    }

    def encoder(self) -> Encoder:
        return Row(self.settings.dim, self.settings.hidden)

    def network(self, data: Interactions) -> Network:
        return DeepMfNetwork(self.encoder(), edges_of(data), self.settings)
