"""The ranker DLRM (Naumov et al., 2019, arXiv:1906.00091), split where user and item meet.

All vectors of a person and of an item meet in pairwise dots, which the top network reads beside the dense vector, the
item's numbers and what retrieval says of the candidate. Its first layer is linear, so it is a sum of three parts: what
only the person decides, what only the item decides, and what needs both. `user` and `item` compute the first two once;
`cross` does the rest per candidate. Shapes as in `training.models.ranker`, vectors of 64.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.ranker import EMBEDDING, TOP, Inputs, Ranker, Regularisation, Top

BOTTOM = (512, 256)


class Dlrm(Ranker):
    """Pairwise dots of all embeddings and of one dense vector of the person's numbers."""

    name = "dlrm"

    def __init__(self, inputs: Inputs, regularisation: Regularisation, top: Top = TOP) -> None:
        super().__init__(inputs, regularisation, top)
        self.bottom = nn.Sequential(
            nn.Linear(len(inputs.user_numbers.low), BOTTOM[0]),
            nn.ReLU(),
            nn.Linear(BOTTOM[0], BOTTOM[1]),
            nn.ReLU(),
            nn.Linear(BOTTOM[1], EMBEDDING),
        )
        self.U, self.I = len(self.user_side.columns) + 1, len(self.item_side.columns)
        self._place_inputs(len(inputs.item_numbers.low), inputs.candidates.shape[1])
        self._make_top(self.width)

    @property
    def sizes(self) -> dict[str, int]:
        return {"user_vectors": self.U, "item_vectors": self.I, "embedding": EMBEDDING, "hidden": self.hidden_width}

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
        self.width = int(EMBEDDING + len(left) + item_numbers + candidates)
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

    def user_vectors(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """(b, W), (b, D) → (b, U, 64); the dense vector is the last."""
        dense = self.bottom(self.user_side.clip(numbers))
        return torch.cat([self.embed(self.user_side, ids), dense.unsqueeze(1)], dim=1)

    def user(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(b, W), (b, D) → vectors (b, U, 64), hidden (b, H): the person's part of the first layer, and its bias."""
        vectors = self.user_vectors(ids, numbers)
        own = torch.cat([vectors[:, -1], dots(vectors, self.user_pairs)], dim=1)
        return vectors, F.linear(own, self.first.weight[:, self.user_columns], self.user_bias())

    def item(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(n, W), (n, D) → vectors (n, I, 64), hidden (n, H): the item's part of the first layer."""
        vectors = self.embed(self.item_side, ids)
        own = torch.cat([dots(vectors, self.item_pairs), self.item_side.clip(numbers)], dim=1)
        return vectors, F.linear(own, self.first.weight[:, self.item_columns])

    def user_bias(self) -> Tensor:
        """(H,): the first layer's, as it must be for candidate numbers that are not centred."""
        bias: Tensor = self.first.bias - self.first.weight[:, self.place] @ (self.candidate_mean / self.candidate_std)
        return bias

    def cross_weight(self) -> Tensor:
        """(H, I·U + C): the first layer's for dots in `cross`'s order and raw candidate numbers."""
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
        """(b, U, 64), (b, H), (b, n, I, 64), (b, n, H), (b, n, C) raw → logits (b, n, 3)."""
        b, n = candidates.shape[:2]
        met = item_vectors.reshape(b, n * self.I, EMBEDDING) @ user_vectors.transpose(1, 2)
        both = torch.cat([met.reshape(b, n, self.I * self.U), self.clip_candidates(candidates)], dim=2)
        hidden = F.linear(both, self.cross_weight()) + user_hidden.unsqueeze(1) + item_hidden
        return self.top(hidden)

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
            self.scaled_candidates(candidates),
        ]
        return self.top(self.first(torch.cat(inputs, dim=1)))


def dots(vectors: Tensor, pairs: Tensor) -> Tensor:
    """(m, V, 64) vectors → (m, P) dots of the pairs (2, P)."""
    return torch.bmm(vectors, vectors.transpose(1, 2))[:, pairs[0], pairs[1]]
