"""What the ranker's training minimises: per moment the negative log likelihood of all its rows, thinned ones weighted,
and a listwise loss that looks at their order.

Pointwise likelihood keeps predictions calibrated, the listwise softmax over the same logit sharpens the order (their
sum: Sheng et al., 2023, arXiv:2208.06164). A row's weight w enters the softmax as log w, as if it were there w times.

The value of an act is learnt from acted-on rows by the Tweedie deviance of power 1.5 (Jørgensen, 1987): zeros are
allowed, large sums do not rule, and as a quasi-likelihood its minimum is the mean whatever the true distribution
(Wedderburn, 1974), which a log-normal's is not.

Shapes: b moments, n rows each, padded with rows of weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = -1e9  # finite: -inf times 0 is NaN


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part counts beside the likelihood of clicks."""

    convert: float = 1.0
    value: float = 0.2
    listwise: float = 1.0


def loss_of(logits: Tensor, batch: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The mean over moments. `logits` (b, n, 3); `click`, `convert` (0/1), `value` (in units of the model's scale) and
    `weight`, all (b, n) float32.
    """
    logits = logits.float()
    click = F.binary_cross_entropy_with_logits(logits[..., 0], batch["click"], batch["weight"], reduction="none")
    total = click + weights.convert * batch["weight"] * convert_loss(logits[..., 0], logits[..., 1], batch["convert"])
    total = total + weights.value * batch["click"] * value_loss(logits[..., 2], batch["value"])
    return (total.sum(1) + weights.listwise * list_loss(logits[..., 0], batch["click"], batch["weight"])).mean()


def convert_loss(click: Tensor, given: Tensor, convert: Tensor) -> Tensor:
    """Of P(click) · P(convert | click) over all rows, so that no selection biases it (ESMM, arXiv:1804.07931)."""
    log_p = F.logsigmoid(click) + F.logsigmoid(given)
    log_not = torch.log1p(-torch.exp(log_p.clamp(max=-1e-6)))
    return -(convert * log_p + (1.0 - convert) * log_not)


def value_loss(logit: Tensor, value: Tensor) -> Tensor:
    """Tweedie deviance of power 1.5, up to a constant."""
    mean = F.softplus(logit).clamp(min=1e-4)
    return 2.0 * (value * mean.rsqrt() + mean.sqrt())


def list_loss(logit: Tensor, click: Tensor, weight: Tensor) -> Tensor:
    """(b,) cross entropy of what was acted on within its list; 0 for a list without."""
    among = logit + torch.where(weight > 0, weight.clamp(min=1e-9).log(), torch.full_like(weight, FAR))
    return -(click * (logit - torch.logsumexp(among, dim=1, keepdim=True))).sum(1) / click.sum(1).clamp(min=1.0)
