"""What a person's vector is taught by the item that came next: losses over inner products, the mean of the examples.

`people` (m, d), `items` (N, d), `wanted` (m,) rows of the items. The sampled ones draw their negatives evenly from the
catalogue, the same for all examples of a step: then they cost one matrix product. A negative that is an example's own
item does not count for it. They know neither networks nor data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LossName = Literal["softmax", "gbce", "bpr", "bpr-max", "warp"]

CALIBRATION = 0.75  # t of gBCE: 0 is binary cross entropy, 1 undoes all of what sampling overstates
SCORE_RIDGE = 0.1  # of BPR-max on the scores of its negatives
BLOCKED = -1e9
TINY = 1e-24


def loss_of(name: LossName, negatives: int) -> Loss:
    """A loss by its name, with so many negatives a step (those that draw any)."""
    sampled = {"gbce": gbce, "bpr": bpr, "bpr-max": bpr_max, "warp": warp}
    return softmax if name == "softmax" else partial(sampled[name], negatives=negatives)


def softmax(people: Tensor, items: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy against the whole catalogue."""
    return F.cross_entropy((people @ items.T).float(), wanted)


def gbce(people: Tensor, items: Tensor, wanted: Tensor, negatives: int, calibration: float = CALIBRATION) -> Tensor:
    """Binary cross entropy whose positives are generalised by a power β (gSASRec, https://arxiv.org/abs/2308.07192).

    With a share α of the catalogue drawn as negatives, plain cross entropy believes too much; σ(s)^β makes up for it.
    The paper's β = α (t (1 - 1/α) + 1/α) is 1 - t (1 - α).
    """
    positive, negative, clash = scored(people, items, wanted, negatives)
    power = 1 - calibration * (1 - min(negatives / max(len(items) - 1, 1), 1.0))
    against = F.softplus(negative).masked_fill(clash, 0.0).sum(1)
    return (power * F.softplus(-positive) + against).mean() / (1 + negatives)


def bpr(people: Tensor, items: Tensor, wanted: Tensor, negatives: int) -> Tensor:
    """Bayesian personalised ranking: the item before each of its negatives (https://arxiv.org/abs/1205.2618)."""
    positive, negative, clash = scored(people, items, wanted, negatives)
    return F.softplus(negative - positive.unsqueeze(1)).masked_fill(clash, 0.0).mean()


def bpr_max(people: Tensor, items: Tensor, wanted: Tensor, negatives: int, ridge: float = SCORE_RIDGE) -> Tensor:
    """The item before the highest negative, softly chosen (GRU4Rec, https://arxiv.org/abs/1706.03847)."""
    positive, negative, clash = scored(people, items, wanted, negatives)
    weight = negative.masked_fill(clash, BLOCKED).softmax(1)
    before = (weight * torch.sigmoid(positive.unsqueeze(1) - negative)).sum(1)
    return (ridge * (weight * negative.square()).sum(1) - torch.log(before + TINY)).mean()


def warp(people: Tensor, items: Tensor, wanted: Tensor, negatives: int) -> Tensor:
    """The first of the negatives within a margin of 1, weighing the log of the rank that so few tries betray
    (LightFM's loss, after Weston et al. 2011)."""
    positive, negative, clash = scored(people, items, wanted, negatives)
    tries = torch.arange(negatives, device=items.device)
    wrong = (negative > positive.unsqueeze(1) - 1) & ~clash
    first = torch.where(wrong, tries, negatives).amin(1)
    rank = torch.div(len(items) - 1, first + 1, rounding_mode="floor").clamp(min=1)
    hinge = 1 - positive + negative.gather(1, first.clamp(max=negatives - 1).unsqueeze(1)).squeeze(1)
    return (torch.log(rank.float()) * hinge * (first < negatives)).mean()


def scored(people: Tensor, items: Tensor, wanted: Tensor, negatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each example's item (m,) and of the step's negatives (m, k); (m, k) where these are the same item."""
    drawn = torch.randint(len(items), (negatives,), device=items.device)
    positive = (people * F.embedding(wanted, items)).sum(1).float()
    return positive, (people @ F.embedding(drawn, items).T).float(), drawn.unsqueeze(0) == wanted.unsqueeze(1)
