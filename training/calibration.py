"""Calibrates the ranker on whole lists of later moments: per head two numbers, a slope and a shift of its logit (Platt,
1999), fitted in the order in which the heads build on each other. Both fold into the last layer's weights.

P(click) and P(convert) maximise likelihood. E[value] minimises the Poisson deviance, whose minimum matches totals:
what is expected of all rows together is what they brought.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Numbers = npt.NDArray[np.float64]
Objective = Callable[[Numbers], tuple[Numbers, Numbers]]
"""Fair logits u (n,) → loss (n,) and its derivative by u (n,)."""

PRIOR = 1.0  # weight of one row or so for a slope of 1 and a shift of 0
BOUNDS = ((0.05, 20.0), (-20.0, 20.0))  # of slope and shift
TINY = 1e-9


@dataclass(frozen=True)
class Calibration:
    """Per head, click, convert given click, value given click: fair logit = slope · logit + shift."""

    slopes: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def heads(self, logits: npt.NDArray[np.float32], value_scale: float) -> Numbers:
        """Logits (n, 3) → P(click), P(convert), E[value], as the exported graphs compute them."""
        fair = logits.astype(np.float64) * self.slopes + self.shifts
        click = expit(fair[:, 0])
        return np.stack([click, click * expit(fair[:, 1]), click * value_scale * softplus(fair[:, 2])], axis=1)


def fit_calibration(
    logits: npt.NDArray[np.float32],
    click: npt.NDArray[np.bool_],
    convert: npt.NDArray[np.bool_],
    value: npt.NDArray[np.float32],
    value_scale: float,
) -> Calibration:
    """From rows (n,) of whole lists; a head without a positive stays as it is."""
    z = logits.astype(np.float64)
    slopes, shifts = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    if click.any():
        slopes[0], shifts[0] = fit(z[:, 0], of_click(click.astype(np.float64)))
    p = expit(slopes[0] * z[:, 0] + shifts[0])
    if convert.any():
        slopes[1], shifts[1] = fit(z[:, 1], of_convert(p, convert.astype(np.float64)))
    if (value > 0).any():
        slopes[2], shifts[2] = fit(z[:, 2], of_value(p, value.astype(np.float64) / value_scale))
    return Calibration((slopes[0], slopes[1], slopes[2]), (shifts[0], shifts[1], shifts[2]))


def fit(z: Numbers, objective: Objective) -> tuple[float, float]:
    """Slope and shift that minimise the objective over all rows, with a weak pull towards (1, 0)."""

    def whole(parameters: Numbers) -> tuple[float, Numbers]:
        slope, shift = parameters
        loss, by_logit = objective(slope * z + shift)
        away = parameters - (1.0, 0.0)
        gradient = np.array([by_logit @ z, by_logit.sum()]) + PRIOR * away
        return float(loss.sum() + PRIOR * (away @ away) / 2), gradient

    found = minimize(whole, np.array([1.0, 0.0]), jac=True, bounds=BOUNDS, method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])


def of_click(y: Numbers) -> Objective:
    return lambda u: (-y * u - log_expit(-u), expit(u) - y)


def of_convert(p: Numbers, y: Numbers) -> Objective:
    """`p` (n,) is P(click)."""

    def objective(u: Numbers) -> tuple[Numbers, Numbers]:
        s = expit(u)
        left = np.maximum(1.0 - p * s, TINY)
        loss = -y * (np.log(np.maximum(p, TINY)) + log_expit(u)) - (1.0 - y) * np.log(left)
        return loss, -y * (1.0 - s) + (1.0 - y) * p * s * (1.0 - s) / left

    return objective


def of_value(p: Numbers, y: Numbers) -> Objective:
    """Poisson deviance of p · softplus(u), up to a constant."""

    def objective(u: Numbers) -> tuple[Numbers, Numbers]:
        mean = softplus(u)
        return p * mean - y * np.log(mean), expit(u) * (p - y / mean)

    return objective


def softplus(u: Numbers) -> Numbers:
    return np.maximum(-np.asarray(log_expit(-u), np.float64), TINY)
