"""What every ranker shares: the columns that it reads, one table of embeddings, the top of the network, three heads.

A ranker is split where user and item meet: `user` runs once per request, `item` once per item, `cross` per candidate;
`plain` is the same function with nothing shared, for checking and comparing. What the parts hand to each other is the
ranker's own affair: vectors and a hidden layer of the `sizes` that it names (docs/bundles.md).

Three logits: z0 of P(click), z1 of P(convert | click) (ESMM, Ma et al., 2018, arXiv:1804.07931), z2 of the value of an
act, a softplus in units of `value_scale`. Shapes: b people, n candidates, m rows of either, W id columns and D numbers
of a side, C candidate numbers, U and I vectors of E a side, H the width of the first hidden layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from winnow.encoding import Schema, Vocabulary

# On ml-1m a top of 128 and 64 orders as well as one of 256 and 128 or better, which beat one of 512 and 256; every
# candidate of every request pays for it (training/LOG.md).
EMBEDDING = 64
Top = tuple[int, int]
TOP: Top = (128, 64)


@dataclass(frozen=True, slots=True)
class Regularisation:
    """Ids overfit on small data. `forget` is the share of ids that a training step takes for values never seen."""

    forget: float = 0.15
    dropout: float = 0.2
    init_std: float = 0.05  # of embeddings


@dataclass(frozen=True, slots=True)
class Range:
    """Columns (d,) of training data: numbers are clipped to [low, high], so that serving never extrapolates."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    @classmethod
    def of(cls, numbers: npt.NDArray[np.float32]) -> Range:
        """Of the rows (n, d) of training data, n ≥ 1."""
        return cls(numbers.min(axis=0), numbers.max(axis=0))


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a ranker is made to read. `candidates` (m, C) are raw candidate numbers of training rows: their scales and
    ranges enter the model."""

    user: Schema
    item: Schema
    user_numbers: Range
    item_numbers: Range
    candidates: npt.NDArray[np.float32]


class Side(nn.Module):
    """What one side of the model reads: id columns as rows of the shared table, and clipped numbers."""

    def __init__(self, schema: Schema, start: Mapping[str, int], numbers: Range) -> None:
        super().__init__()
        self.columns = [f.vocabulary for f in schema.categorical for _ in range(f.slots)]
        self.register_buffer("offsets", torch.tensor([start[name] for name in self.columns], dtype=torch.int64))
        self.register_buffer("low", torch.from_numpy(numbers.low))
        self.register_buffer("high", torch.from_numpy(numbers.high))

    def clip(self, numbers: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(numbers, self.low), self.high)


class Ranker(nn.Module, ABC):
    """Schemas say which columns it reads; vocabularies that they share share their embeddings."""

    name: ClassVar[str]

    def __init__(self, inputs: Inputs, regularisation: Regularisation, top: Top = TOP) -> None:
        """`top` is the width of the two hidden layers."""
        super().__init__()
        self.regularisation, self.hidden_width, self.second_width = regularisation, *top
        self.vocabularies = tables(inputs.user, inputs.item)
        start = starts(self.vocabularies)
        self.user_side = Side(inputs.user, start, inputs.user_numbers)
        self.item_side = Side(inputs.item, start, inputs.item_numbers)
        self.table = nn.Embedding(sum(map(len, self.vocabularies.values())), EMBEDDING)
        nn.init.normal_(self.table.weight, std=regularisation.init_std)
        self.register_buffer("forgotten", torch.from_numpy(forgotten(self.vocabularies)), persistent=False)
        self._scale_candidates(inputs.candidates)

    def _scale_candidates(self, raw: npt.NDArray[np.float32]) -> None:
        low, high = raw.min(axis=0), raw.max(axis=0)
        std = raw.astype(np.float64).std(axis=0)
        self.register_buffer("candidate_low", torch.from_numpy(low))
        self.register_buffer("candidate_high", torch.from_numpy(high))
        self.register_buffer("candidate_mean", torch.from_numpy(raw.astype(np.float64).mean(axis=0)).float())
        self.register_buffer("candidate_std", torch.from_numpy(np.where(std > 1e-6, std, 1.0)).float())

    def _make_top(self, inputs: int) -> None:
        """The layers above `inputs` columns, and a calibration that changes nothing."""
        self.first = nn.Linear(inputs, self.hidden_width)
        self.second = nn.Linear(self.hidden_width, self.second_width)
        self.heads = nn.Linear(self.second_width, 3)
        self.register_buffer("value_scale", torch.ones(()))
        self.register_buffer("slopes", torch.ones(3))  # calibration (training/calibration.py)
        self.register_buffer("shifts", torch.zeros(3))
        self.register_buffer("knots", torch.zeros(3, 0))
        self.register_buffer("bends", torch.zeros(3, 0))

    # ------------------------------------------------------------------------------------------ the parts

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """`user_vectors` U, `item_vectors` I, `embedding` E and `hidden`, as a bundle's facts say them."""

    @abstractmethod
    def user(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(b, W), (b, D) → vectors (b, U, E), hidden (b, H): what only the person decides."""

    @abstractmethod
    def item(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(n, W), (n, D) → vectors (n, I, E), hidden (n, H): what only the item decides."""

    @abstractmethod
    def cross(
        self,
        user_vectors: Tensor,
        user_hidden: Tensor,
        item_vectors: Tensor,
        item_hidden: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        """(b, U, E), (b, H), (b, n, I, E), (b, n, H), (b, n, C) raw → logits (b, n, 3)."""

    @abstractmethod
    def plain(
        self, user_ids: Tensor, user_numbers: Tensor, item_ids: Tensor, item_numbers: Tensor, candidates: Tensor
    ) -> Tensor:
        """The same logits (n, 3), each row its own person and its own item, nothing shared."""

    def embed(self, side: Side, ids: Tensor) -> Tensor:
        """(m, W) vocabulary rows → (m, W, 64); in training some are taken for values never seen."""
        rows = ids + side.offsets
        if self.training and self.regularisation.forget:
            drop = torch.rand(rows.shape, device=rows.device) < self.regularisation.forget
            rows = torch.where(drop, self.forgotten[rows], rows)
        vectors: Tensor = self.table(rows)
        return vectors

    def clip_candidates(self, candidates: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(candidates, self.candidate_low), self.candidate_high)

    def scaled_candidates(self, candidates: Tensor) -> Tensor:
        """Raw (…, C) → clipped, with the mean and standard deviation of training rows taken out."""
        scaled: Tensor = (self.clip_candidates(candidates) - self.candidate_mean) / self.candidate_std
        return scaled

    def top(self, hidden: Tensor) -> Tensor:
        """First hidden layer before its ReLU (…, H) → logits (…, 3)."""
        hidden = self.thin(F.relu(hidden))
        logits: Tensor = self.heads(self.thin(F.relu(self.second(hidden))))
        return logits

    def thin(self, hidden: Tensor) -> Tensor:
        """Dropout of (b, n, k) with one mask per list: its rows stay comparable, and a mask costs n times less."""
        if not self.training or not self.regularisation.dropout:
            return hidden
        mask = torch.rand((hidden.shape[0], 1, hidden.shape[-1]), device=hidden.device) >= self.regularisation.dropout
        return hidden * mask / (1.0 - self.regularisation.dropout)

    # ------------------------------------------------------------------------------------------ the whole

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (b, n, 3) of `user_ids` (b, W), `user_numbers` (b, D), `item_ids` (b, n, W), `item_numbers`
        (b, n, D) and `candidates` (b, n, C)."""
        b, n = batch["candidates"].shape[:2]
        vectors, hidden = self.user(batch["user_ids"], batch["user_numbers"])
        items, item_hidden = self.item(batch["item_ids"].flatten(0, 1), batch["item_numbers"].flatten(0, 1))
        items, item_hidden = items.unflatten(0, (b, n)), item_hidden.unflatten(0, (b, n))
        return self.cross(vectors, hidden, items, item_hidden, batch["candidates"])

    def calibrated(self, logits: Tensor) -> Tensor:
        """Logits (…, 3) → P(click), P(convert), E[value]."""
        fair = logits * self.slopes + self.shifts
        fair = fair + (F.relu(fair.unsqueeze(-1) - self.knots) * self.bends).sum(-1)
        click = torch.sigmoid(fair[..., 0])
        convert = click * torch.sigmoid(fair[..., 1])
        value = click * self.value_scale * F.softplus(fair[..., 2])
        return torch.stack([click, convert, value], dim=-1)


def tables(*schemas: Schema) -> dict[str, Vocabulary]:
    """The vocabularies that the schemas read, by name in order."""
    found = {f.vocabulary: schema.vocabularies[f.vocabulary] for schema in schemas for f in schema.categorical}
    return dict(sorted(found.items()))


def starts(vocabularies: Mapping[str, Vocabulary]) -> dict[str, int]:
    """First row of each vocabulary in a table that holds one after the other."""
    ends = np.cumsum([0, *(len(vocabulary) for vocabulary in vocabularies.values())])
    return {name: int(start) for name, start in zip(vocabularies, ends[:-1], strict=True)}


def forgotten(vocabularies: Mapping[str, Vocabulary]) -> npt.NDArray[np.int64]:
    """Per row of the table the row it would have, were its value never seen in training."""
    rows = []
    for name, start in starts(vocabularies).items():
        vocabulary = vocabularies[name]
        rows += [start + row for row in range(1 + vocabulary.buckets)]
        rows += [start + vocabulary.bucket(value) for value in vocabulary.values]
    return np.asarray(rows, np.int64)
