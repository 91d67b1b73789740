"""The ranker DCN-v2 (Wang et al., 2021, arXiv:2008.13535): cross layers of low rank beside a deep network.

A cross layer is x_{k+1} = x₀ ⊙ (U_k V_kᵀ x_k + b_k) + x_k, with U_k and V_k of 16 columns (the paper's low-rank form, in
its parallel arrangement: the heads read the last x and the deep network). Every layer multiplies by x₀ alone, so with
z_k = V_kᵀ x_k the last x is x₀ ⊙ (1 + Σ (U_k z_k + b_k)), and both z_l and what the heads w read of x are

    z_l = V_lᵀ (x₀ ⊙ (1 + b_0 + … + b_{l-1})) + Σ_{k<l} (V_lᵀ diag(x₀) U_k) z_k

whose coefficients are linear in x₀: sums of what person, item and candidate say. They are the state, and the layers
become products of 16 × 16 matrices per candidate. This is exact for any number of layers; with matrices of full rank
the state would be too large to keep per item. Shapes as in `training.models.summed`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.graph import Graph
from training.models.ranker import TOP, Inputs, Regularisation, Top
from training.models.ranker_graphs import array
from training.models.summed import Part, SummedRanker

LAYERS, RANK = 2, 16
START = 0.1  # of the matrices, over √width: crosses begin small beside what they are added to


class DcnV2(SummedRanker):
    """A state is the coefficients of the recursion above, in the order that `coefficients` says."""

    name = "dcn_v2"

    def __init__(self, inputs: Inputs, regularisation: Regularisation, top: Top = TOP) -> None:
        super().__init__(inputs, regularisation, top)
        self.up = nn.Parameter(torch.randn(LAYERS, self.width, RANK) * START)  # U
        self.down = nn.Parameter(torch.randn(LAYERS, self.width, RANK) / self.width**0.5)  # V
        self.bias = nn.Parameter(torch.zeros(LAYERS, self.width))
        self.read = nn.Parameter(torch.randn(self.width, 3) * START / self.width**0.5)  # w, of each head

    @property
    def state_size(self) -> int:
        return LAYERS * RANK + 3 + sum(left(k) * RANK for k in range(LAYERS))

    def coefficients(self) -> Tensor:
        """(width, S): x₀ times this is the state. First what every z and the logits are without any z, then, per layer
        k, by how much each of its z counts in all later ones and in the logits."""
        gain = 1.0 + torch.cat([torch.zeros_like(self.bias[:1]), self.bias.cumsum(0)])  # before each layer, and at last
        reads = [*self.down, self.read]
        alone = [one * gain[k].unsqueeze(1) for k, one in enumerate(reads)]
        later = [
            (torch.cat(reads[k + 1 :], dim=1).unsqueeze(2) * self.up[k].unsqueeze(1)).flatten(1) for k in range(LAYERS)
        ]
        return torch.cat([*alone, *later], dim=1)

    def state(self, part: Part, x: Tensor) -> Tensor:
        return x @ self.coefficients()[part.columns]

    def finish(self, state: Tensor) -> Tensor:
        place = LAYERS * RANK + 3
        known = state[:, :place]
        for k in range(LAYERS):
            z, rest = known[:, :RANK], known[:, RANK:]
            by = state[:, place : place + left(k) * RANK].unflatten(1, (left(k), RANK))
            known, place = rest + (by @ z.unsqueeze(2)).squeeze(2), place + left(k) * RANK
        return known

    def textbook(self, x: Tensor) -> Tensor:
        last = x
        for up, down, bias in zip(self.up, self.down, self.bias, strict=True):
            last = x * (F.linear(last @ down, up, bias)) + last
        return last @ self.read

    # ------------------------------------------------------------------------------------------ graphs

    def state_nodes(self, g: Graph, part: Part, x: str) -> str:
        return g.op("MatMul", x, g.constant(array(self.coefficients())[part.columns]))

    def finish_nodes(self, g: Graph, state: str) -> str:
        place = LAYERS * RANK + 3
        known = g.columns(state, 0, place, axis=1)
        for k in range(LAYERS):
            z, rest = g.columns(known, 0, RANK, axis=1), g.columns(known, RANK, RANK + left(k), axis=1)
            by = g.columns(state, place, place + left(k) * RANK, axis=1)
            by, z = g.op("Reshape", by, g.shape(-1, left(k), RANK)), g.op("Unsqueeze", z, g.shape(2))
            more = g.op("Reshape", g.op("MatMul", by, z), g.shape(-1, left(k)))
            known, place = g.op("Add", rest, more), place + left(k) * RANK
        return known

    def textbook_nodes(self, g: Graph, x: str) -> str:
        last = x
        for up, down, bias in zip(array(self.up), array(self.down), array(self.bias), strict=True):
            crossed = g.linear(g.op("MatMul", last, g.constant(down)), up, g.constant(bias))
            last = g.op("Add", g.op("Mul", x, crossed), last)
        return g.op("MatMul", last, g.constant(array(self.read)))


def left(k: int) -> int:
    """How many numbers the z of layer k count in: those of all later layers, and three logits."""
    return (LAYERS - 1 - k) * RANK + 3
