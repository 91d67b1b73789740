"""The ranker: a DLRM (Naumov et al., 2019, arXiv:1906.00091) that splits where user and item meet.

All vectors of a person and of an item meet in pairwise dots, which the top network reads beside the dense vector, the
item's numbers and what retrieval says of the candidate. Its first layer is linear, so it is a sum of three parts: what
only the person decides, what only the item decides, and what needs both. `user` and `item` compute the first two once;
`cross` does the rest per candidate. `plain` is the same function in its textbook form, for checking and comparing.

Three logits: z0 of P(click), z1 of P(convert | click) (ESMM, Ma et al., 2018, arXiv:1804.07931), z2 of the value of an
act, a softplus in units of `value_scale`. Shapes: b people, n candidates, U and I vectors of 64 a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from winnow.features import Schema, Vocabulary

# On ml-1m a top of 256 and 128 beats one of 512 and 256 in AUC and log loss, at 40 % of its cost (training/LOG.md).
EMBEDDING, HIDDEN, SECOND = 64, 256, 128
BOTTOM = (512, 256)


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


class Dlrm(nn.Module):
    """Schemas say which columns it reads; vocabularies that they share share their embeddings."""

    def __init__(
        self,
        user: Schema,
        item: Schema,
        user_numbers: Range,
        item_numbers: Range,
        candidates: npt.NDArray[np.float32],
        regularisation: Regularisation = Regularisation(),
    ) -> None:
        """`candidates` (m, C) are raw candidate numbers of training rows: their scales and ranges enter the model."""
        super().__init__()
        self.regularisation = regularisation
        self.vocabularies = tables(user, item)
        start = starts(self.vocabularies)
        self.user_side = Side(user, start, user_numbers)
        self.item_side = Side(item, start, item_numbers)
        self.table = nn.Embedding(sum(map(len, self.vocabularies.values())), EMBEDDING)
        nn.init.normal_(self.table.weight, std=regularisation.init_std)
        self.register_buffer("forgotten", torch.from_numpy(forgotten(self.vocabularies)), persistent=False)
        self._scale_candidates(candidates)

        self.bottom = nn.Sequential(
            nn.Linear(len(user_numbers.low), BOTTOM[0]),
            nn.ReLU(),
            nn.Linear(BOTTOM[0], BOTTOM[1]),
            nn.ReLU(),
            nn.Linear(BOTTOM[1], EMBEDDING),
        )
        self.U, self.I = len(self.user_side.columns) + 1, len(self.item_side.columns)
        self._place_inputs(len(item_numbers.low), candidates.shape[1])
        self.first = nn.Linear(self.inputs, HIDDEN)
        self.second = nn.Linear(HIDDEN, SECOND)
        self.heads = nn.Linear(SECOND, 3)
        self.register_buffer("value_scale", torch.ones(()))
        self.register_buffer("slopes", torch.ones(3))  # calibration: slope · logit + shift
        self.register_buffer("shifts", torch.zeros(3))

    def _scale_candidates(self, raw: npt.NDArray[np.float32]) -> None:
        low, high = raw.min(axis=0), raw.max(axis=0)
        std = raw.astype(np.float64).std(axis=0)
        self.register_buffer("candidate_low", torch.from_numpy(low))
        self.register_buffer("candidate_high", torch.from_numpy(high))
        self.register_buffer("candidate_mean", torch.from_numpy(raw.astype(np.float64).mean(axis=0)).float())
        self.register_buffer("candidate_std", torch.from_numpy(np.where(std > 1e-6, std, 1.0)).float())

    def _place_inputs(self, item_numbers: int, candidates: int) -> None:
        """Which columns of the first layer's input belong to which part.

        The input is the dense vector, the dots of all pairs of vectors (the upper triangle, row by row), the item's
        numbers, the candidate's numbers.
        """
        left, right = np.triu_indices(self.U + self.I, k=1)
        pair = EMBEDDING + np.arange(len(left))
        of_user, of_item = right < self.U, left >= self.U
        numbers = EMBEDDING + len(left) + np.arange(item_numbers)
        place = EMBEDDING + len(left) + item_numbers + np.arange(candidates)
        meet = np.empty((self.I, self.U), np.int64)  # the order in which `cross` computes its dots
        both = ~of_user & ~of_item
        meet[right[both] - self.U, left[both]] = pair[both]
        self.inputs = int(EMBEDDING + len(left) + item_numbers + candidates)
        index = {
            "pairs": np.stack([left, right]),
            "user_pairs": np.stack([left[of_user], right[of_user]]),
            "item_pairs": np.stack([left[of_item], right[of_item]]) - self.U,
            "user_columns": np.concatenate([np.arange(EMBEDDING), pair[of_user]]),
            "item_columns": np.concatenate([pair[of_item], numbers]),
            "meet": meet.reshape(-1),
            "place": place,
        }
        for name, values in index.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    # ------------------------------------------------------------------------------------------ the parts

    def embed(self, side: Side, ids: Tensor) -> Tensor:
        """(m, W) vocabulary rows → (m, W, 64); in training some are taken for values never seen."""
        rows = ids + side.offsets
        if self.training and self.regularisation.forget:
            drop = torch.rand(rows.shape, device=rows.device) < self.regularisation.forget
            rows = torch.where(drop, self.forgotten[rows], rows)
        vectors: Tensor = self.table(rows)
        return vectors

    def user_vectors(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """(b, W), (b, D) → (b, U, 64); the dense vector is the last."""
        dense = self.bottom(self.user_side.clip(numbers))
        return torch.cat([self.embed(self.user_side, ids), dense.unsqueeze(1)], dim=1)

    def user(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(b, W), (b, D) → vectors (b, U, 64), hidden (b, 256): the person's part of the first layer, and its bias."""
        vectors = self.user_vectors(ids, numbers)
        own = torch.cat([vectors[:, -1], dots(vectors, self.user_pairs)], dim=1)
        return vectors, F.linear(own, self.first.weight[:, self.user_columns], self.user_bias())

    def item(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(n, W), (n, D) → vectors (n, I, 64), hidden (n, 256): the item's part of the first layer."""
        vectors = self.embed(self.item_side, ids)
        own = torch.cat([dots(vectors, self.item_pairs), self.item_side.clip(numbers)], dim=1)
        return vectors, F.linear(own, self.first.weight[:, self.item_columns])

    def clip_candidates(self, candidates: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(candidates, self.candidate_low), self.candidate_high)

    def user_bias(self) -> Tensor:
        """(256,): the first layer's, as it must be for candidate numbers that are not centred."""
        bias: Tensor = self.first.bias - self.first.weight[:, self.place] @ (self.candidate_mean / self.candidate_std)
        return bias

    def cross_weight(self) -> Tensor:
        """(256, I·U + C): the first layer's for dots in `cross`'s order and raw candidate numbers."""
        dots_, place = self.first.weight[:, self.meet], self.first.weight[:, self.place]
        return torch.cat([dots_, place / self.candidate_std], dim=1)

    def cross(
        self,
        user_vectors: Tensor,
        user_hidden: Tensor,
        item_vectors: Tensor,
        item_hidden: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        """(b, U, 64), (b, 256), (b, n, I, 64), (b, n, 256), (b, n, C) raw → logits (b, n, 3)."""
        b, n = candidates.shape[:2]
        met = item_vectors.reshape(b, n * self.I, EMBEDDING) @ user_vectors.transpose(1, 2)
        both = torch.cat([met.reshape(b, n, self.I * self.U), self.clip_candidates(candidates)], dim=2)
        hidden = F.linear(both, self.cross_weight()) + user_hidden.unsqueeze(1) + item_hidden
        return self.top(hidden)

    def top(self, hidden: Tensor) -> Tensor:
        """First hidden layer before its ReLU (…, 256) → logits (…, 3)."""
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
        items, item_hidden = items.reshape(b, n, self.I, EMBEDDING), item_hidden.reshape(b, n, HIDDEN)
        return self.cross(vectors, hidden, items, item_hidden, batch["candidates"])

    def plain(
        self, user_ids: Tensor, user_numbers: Tensor, item_ids: Tensor, item_numbers: Tensor, candidates: Tensor
    ) -> Tensor:
        """The same logits (n, 3), each row its own person and its own item, nothing shared."""
        people = self.user_vectors(user_ids, user_numbers)
        vectors = torch.cat([people, self.embed(self.item_side, item_ids)], dim=1)
        inputs = [
            people[:, -1],
            dots(vectors, self.pairs),
            self.item_side.clip(item_numbers),
            (self.clip_candidates(candidates) - self.candidate_mean) / self.candidate_std,
        ]
        return self.top(self.first(torch.cat(inputs, dim=1)))

    def calibrated(self, logits: Tensor) -> Tensor:
        """Logits (…, 3) → P(click), P(convert), E[value]."""
        fair = logits * self.slopes + self.shifts
        click = torch.sigmoid(fair[..., 0])
        convert = click * torch.sigmoid(fair[..., 1])
        value = click * self.value_scale * F.softplus(fair[..., 2])
        return torch.stack([click, convert, value], dim=-1)


def dots(vectors: Tensor, pairs: Tensor) -> Tensor:
    """(m, V, 64) vectors → (m, P) dots of the pairs (2, P)."""
    return torch.bmm(vectors, vectors.transpose(1, 2))[:, pairs[0], pairs[1]]


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
