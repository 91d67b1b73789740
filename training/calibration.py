"""Calibrates the ranker on whole lists of later moments, head by head in the order in which they build on each other.

`platt` (Platt, 1999): a slope and a shift of the logit, which fold into the last layer's weights. `isotonic`: the same, then
a line with corners that follows isotonic regression, for models whose error has a shape that no slope mends; it needs a
few hundred positives.

P(click) and P(convert) maximise likelihood. E[value] minimises the Poisson deviance, whose minimum matches totals:
what is expected of all rows together is what they brought.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, isotonic_regression, minimize
from scipy.special import expit, log_expit, logit

Numbers = npt.NDArray[np.float64]
Objective = Callable[[Numbers], tuple[Numbers, Numbers]]
"""Fair logits u (n,) → loss (n,) and its derivative by u (n,)."""

Kind = Literal["platt", "isotonic"]
KINDS: tuple[Kind, ...] = ("platt", "isotonic")

PRIOR = 1.0  # weight of one row or so for a slope of 1 and a shift of 0
BOUNDS = ((0.05, 20.0), (-20.0, 20.0))  # of slope and shift
TINY = 1e-9
BINS, LEAST_POSITIVES = 16, 20  # of isotonic regression, and of each bin


@dataclass(frozen=True)
class Calibration:
    """Per head, click, convert given click, value given click: fair logit = slope · logit + shift, then bent upwards or
    downwards by Σ bend · max(fair − knot, 0), which is a line of as many corners as there are knots."""

    slopes: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)
    knots: tuple[tuple[float, ...], ...] = ((), (), ())
    bends: tuple[tuple[float, ...], ...] = ((), (), ())

    def heads(self, logits: npt.NDArray[np.float32], value_scale: float) -> Numbers:
        """Logits (n, 3) → P(click), P(convert), E[value], as the exported graphs compute them."""
        fair = np.stack([self.line(head)(logits[:, head].astype(np.float64)) for head in range(3)], axis=1)
        click = expit(fair[:, 0])
        return np.stack([click, click * expit(fair[:, 1]), click * value_scale * softplus(fair[:, 2])], axis=1)

    def line(self, head: int) -> Line:
        return Line(self.slopes[head], self.shifts[head], self.knots[head], self.bends[head])


@dataclass(frozen=True, slots=True)
class Line:
    """The calibration of one head."""

    slope: float = 1.0
    shift: float = 0.0
    knots: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()

    def __call__(self, z: Numbers) -> Numbers:
        fair = self.slope * z + self.shift
        for knot, bend in zip(self.knots, self.bends, strict=True):
            fair = fair + bend * np.maximum(self.slope * z + self.shift - knot, 0.0)
        return fair

    def moved(self, by: float) -> Line:
        """The same line, higher by so much."""
        return Line(self.slope, self.shift + by, tuple(knot + by for knot in self.knots), self.bends)


@dataclass(frozen=True, slots=True)
class Link:
    """From a fair logit to what one row expects, and back."""

    mean: Callable[[Numbers], Numbers]
    logit: Callable[[Numbers], Numbers]


def fit_calibration(
    logits: npt.NDArray[np.float32],
    click: npt.NDArray[np.bool_],
    convert: npt.NDArray[np.bool_],
    value: npt.NDArray[np.float32],
    value_scale: float,
    kind: Kind = "platt",
) -> Calibration:
    """From rows (n,) of whole lists; a head without a positive stays as it is."""
    z, everything = logits.astype(np.float64), np.ones(len(logits))
    clicks = fit_line(z[:, 0], click.astype(np.float64), everything, of_click, PROBABILITY, kind)
    p = expit(clicks(z[:, 0]))
    converts = fit_line(z[:, 1], convert.astype(np.float64), p, partial(of_convert, p), PROBABILITY, kind)
    worth = value.astype(np.float64) / value_scale
    values = fit_line(z[:, 2], worth, p, partial(of_value, p), AMOUNT, kind)
    lines = (clicks, converts, values)
    slopes, shifts = tuple(line.slope for line in lines), tuple(line.shift for line in lines)
    return Calibration(slopes, shifts, tuple(line.knots for line in lines), tuple(line.bends for line in lines))  # type: ignore[arg-type]


def fit_line(
    z: Numbers, y: Numbers, share: Numbers, objective: Callable[[Numbers], Objective], link: Link, kind: Kind
) -> Line:
    """The line of one head from logits, what happened, and by how much a row counts: it expects share · mean(fair)."""
    if not (y > 0).any():
        return Line()
    line = Line(*fit(z, objective(y)))
    if kind == "platt":
        return line
    moved, knots, bends = corners(line(z), y, share, link)
    bent = Line(line.slope, line.shift + moved, knots, bends)
    return bent.moved(excess(bent(z), y, share, link))


def corners(u: Numbers, y: Numbers, share: Numbers, link: Link) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Isotonic regression of what happened on the logits u, as a line with corners: by how much to move u, then knots and
    bends of what is moved.

    Rows in the order of u are cut into bins that expect as much, with a prior of one row each; neighbours that are in the
    wrong order are pooled (Zadrozny and Elkan, 2002). Between the middles of what is left the line is straight, so the order
    of rows stays, and beyond the ends it goes on as Platt's did.
    """
    order = np.argsort(u, kind="stable")
    u, y, share = u[order], y[order], share[order]
    expects = share * link.mean(u)
    expected = np.cumsum(expects)
    bins = min(BINS, int((y > 0).sum()) // LEAST_POSITIVES)
    if bins < 2:
        return 0.0, (), ()
    starts = np.unique(np.searchsorted(expected, expected[-1] * np.arange(bins) / bins))
    weight = np.add.reduceat(share, starts)
    middle = np.add.reduceat(share * u, starts) / weight
    prior = np.add.reduceat(expects, starts) / weight
    rate = (np.add.reduceat(y, starts) + PRIOR * prior) / (weight + PRIOR)
    pooled = isotonic_regression(rate, weights=weight + PRIOR)
    firsts = pooled.blocks[:-1]
    knots = np.add.reduceat(middle * weight, firsts) / np.add.reduceat(weight, firsts)
    wanted = link.logit(pooled.x[firsts])
    if len(knots) < 2:
        return float(wanted[0] - knots[0]), (), ()
    inner = np.clip(np.diff(wanted) / np.diff(knots), *BOUNDS[0])
    reached = knots[0] + np.concatenate([[0.0], np.cumsum(inner * np.diff(knots))])
    moved = float(np.average(wanted - reached, weights=np.add.reduceat(weight, firsts)))
    bends = np.diff(np.concatenate([[1.0], inner, [1.0]]))
    return moved, tuple((knots + moved).tolist()), tuple(bends.tolist())


def excess(u: Numbers, y: Numbers, share: Numbers, link: Link) -> float:
    """By how much to move logits, so that all rows together expect what happened: straight lines between the middles of
    bins do not quite."""

    def missing(by: float) -> float:
        return float((share * link.mean(u + by)).sum() - y.sum())

    return float(brentq(missing, -1.0, 1.0, xtol=1e-4)) if missing(-1.0) < 0 < missing(1.0) else 0.0


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


def inverse_softplus(mean: Numbers) -> Numbers:
    return np.asarray(mean + np.log(-np.expm1(-mean)), np.float64)


PROBABILITY = Link(expit, lambda rate: np.asarray(logit(np.clip(rate, TINY, 1 - TINY)), np.float64))
AMOUNT = Link(softplus, lambda rate: inverse_softplus(np.maximum(rate, TINY)))
