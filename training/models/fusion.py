"""One vector of an item from several modalities (text, image, metadata …), of which any may be missing.

Each modality is projected to one width and then mixed: `concat`, `weighted` (one learnt weight each), `attention` (weights
that depend on the item) or `gated` (a gate per modality and dimension; GMU, Arevalo et al., 2017, arXiv:1702.01992). A
mixture reads only what is there; training hides modalities at random (modality dropout, Neverova et al., 2016,
arXiv:1501.00102), so that a model does not lean on one that some items lack. It knows names and widths, not what a modality is.

Shapes: n items, M modalities in the order of their names as given, d the width of the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKED = -1e9  # finite: a row of -inf makes softmax NaN


class Concat(nn.Module):
    """All side by side through one layer; a missing one is zeros, and its absence an input."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(modalities * dim + modalities, dim)

    def forward(self, projected: Tensor, present: Tensor) -> Tensor:
        here = present.to(projected.dtype)
        mixed: Tensor = self.mix(torch.cat([(projected * here.unsqueeze(2)).flatten(1), here], dim=1))
        return mixed


class Weighted(nn.Module):
    """A weighted mean of those present; the weights are learnt, one per modality."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(modalities))

    def forward(self, projected: Tensor, present: Tensor) -> Tensor:
        return mean(projected, self.weight.expand(present.shape), present)


class Attention(nn.Module):
    """A weighted mean of those present, where the item itself says how much each one counts."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(dim, dim), nn.Parameter(torch.randn(dim) / math.sqrt(dim))
        self.prior = nn.Parameter(torch.zeros(modalities))

    def forward(self, projected: Tensor, present: Tensor) -> Tensor:
        return mean(projected, torch.tanh(self.key(projected)) @ self.query + self.prior, present)


class Gated(nn.Module):
    """Each dimension of each modality passes a gate that sees all that is present."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(modalities * dim + modalities, modalities * dim)

    def forward(self, projected: Tensor, present: Tensor) -> Tensor:
        here = present.to(projected.dtype)
        known = projected * here.unsqueeze(2)
        seen = torch.cat([known.flatten(1), here], dim=1)
        gates = torch.sigmoid(self.gates(seen)).unflatten(1, projected.shape[1:]) * here.unsqueeze(2)
        return (gates * known).sum(1) / gates.sum(1).clamp(min=1e-6)


def mean(projected: Tensor, scores: Tensor, present: Tensor) -> Tensor:
    """(n, M, d) weighted by the softmax of scores (n, M) over those present; zeros where none is."""
    weights = scores.masked_fill(~present, BLOCKED).softmax(1) * present
    return (weights.unsqueeze(2) * projected).sum(1)


MIXES: dict[str, type[Concat] | type[Weighted] | type[Attention] | type[Gated]] = {
    "concat": Concat,
    "weighted": Weighted,
    "attention": Attention,
    "gated": Gated,
}


class Fusion(nn.Module):
    """`widths` names the modalities; `how` is one of `MIXES`; `hide` is the share of modalities hidden in training."""

    def __init__(self, widths: Mapping[str, int], dim: int, how: str, hide: float = 0.3) -> None:
        super().__init__()
        self.names, self.hide = tuple(widths), hide
        self.project = nn.ModuleList(nn.Linear(width, dim) for width in widths.values())
        self.level = nn.ModuleList(nn.LayerNorm(dim) for _ in widths)
        self.mix = MIXES[how](len(self.names), dim)
        self.nothing = nn.Parameter(
            torch.randn(dim) / math.sqrt(dim)
        )  # the vector of an item of which no modality is known

    def forward(self, vectors: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Vectors (n, width) by name and `present` (n, M) bool → (n, d). What a missing one's row holds does not count, so
        long as it is finite."""
        present = self.hidden(present)
        ways = zip(self.names, self.project, self.level, strict=True)
        projected = torch.stack([level(F.gelu(project(vectors[name]))) for name, project, level in ways], dim=1)
        mixed: Tensor = self.mix(projected, present)
        return torch.where(present.any(1, keepdim=True), mixed, self.nothing)

    def hidden(self, present: Tensor) -> Tensor:
        """In training `present` without some, drawn item by item; whoever would lose all keeps all."""
        if not self.training or not self.hide:
            return present
        left = present & (torch.rand(present.shape, device=present.device) >= self.hide)
        return torch.where(left.any(1, keepdim=True), left, present)
