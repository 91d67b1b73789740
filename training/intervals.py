"""How sure a figure is: 95 % intervals over people. Columns in, numbers out.

People are what is drawn by chance, so everything of one person stays together: a mean has the error of its column, one
number per person (normal approximation); what is no mean (coverage, AUC, calibration) has an error that follows from what
each person adds to it. Which figures these are is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.metrics import BINS, Numbers

Columns = dict[str, npt.NDArray[np.float64]]
"""By the name of a measure one number per question, NaN where it does not count for this measure."""

Z = 1.96  # standard errors: what chance exceeds once in twenty times


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its standard error over people."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return self.value - Z * self.error

    @property
    def high(self) -> float:
        return self.value + Z * self.error

    def touches(self, other: Estimate) -> bool:
        """Whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high

    def to_json(self) -> dict[str, float | None]:
        """A number that is none (no question, one person) is None."""
        named = {"mean": self.value, "low": self.low, "high": self.high, "error": self.error}
        return {name: round(float(number), 6) if np.isfinite(number) else None for name, number in named.items()}


def of_mean(column: Numbers) -> Estimate:
    """The mean of a column, NaN left out; NaN without a number, an infinite error with only one."""
    known = np.asarray(column, np.float64)[~np.isnan(column)]
    if not len(known):
        return Estimate(float("nan"), float("nan"))
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.inf
    return Estimate(float(known.mean()), float(error))


def of_seeds(columns: Sequence[Numbers]) -> Estimate:
    """The mean over seeds, which answered the same questions. Its error has two parts: people (of each one's mean over
    the seeds) and training (how far the seeds' means are apart, over their number)."""
    people = of_mean(np.mean(columns, axis=0))
    return with_spread(people, [of_mean(column).value for column in columns])


def with_spread(over_people: Estimate, by_seed: Sequence[float]) -> Estimate:
    """An estimate whose error has the seeds' part too."""
    apart = float(np.var(by_seed, ddof=1)) / len(by_seed) if len(by_seed) > 1 else 0.0
    return Estimate(over_people.value, float(np.hypot(over_people.error, np.sqrt(apart))))


def together(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several seeds' estimates of what is no mean over people. The people are the same in all of them, so
    their error does not fall with the number of seeds."""
    values = [one.value for one in estimates]
    return with_spread(Estimate(float(np.mean(values)), float(np.mean([one.error for one in estimates]))), values)


# ---------------------------------------------------------------------------------------------- no means


def coverage(shown: Sequence[npt.NDArray[np.int64]], available: int) -> Estimate:
    """The share of `available` items that somebody was shown (`shown`: item rows per person).

    The error is the jackknife's (Efron and Stein, 1981): without one person the items go that nobody else was shown.
    """
    if not len(shown) or not available:
        return Estimate(float("nan"), float("nan"))
    own = [np.unique(one) for one in shown]
    items, counts = np.unique(np.concatenate(own), return_counts=True)
    alone = items[counts == 1]
    lost = np.array([np.isin(one, alone).sum() for one in own], np.float64)
    return Estimate(len(items) / available, jackknife((len(items) - lost) / available))


def jackknife(without: Numbers) -> float:
    """The standard error of a figure from its values without each of n people."""
    n = len(without)
    return float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())) if n > 1 else float("inf")


def log_loss(losses: Numbers, starts: npt.NDArray[np.int64]) -> Estimate:
    """Mean loss per row; the rows of person j are starts[j] … starts[j + 1]."""
    whole, rows = sums(losses, starts), np.diff(starts).astype(np.float64)
    return Estimate(float(whole.sum() / rows.sum()), jackknife(ratio(whole.sum() - whole, rows.sum() - rows)))


def calibration_error(predicted: Numbers, labels: Numbers, starts: npt.NDArray[np.int64], bins: int = BINS) -> Estimate:
    """`training.metrics.calibration_error` with an error over people; the bins are those of all rows."""
    order = np.argsort(predicted, kind="stable")
    expected = np.cumsum(predicted[order], dtype=np.float64)
    if not len(expected) or expected[-1] <= 0:
        return Estimate(float("nan"), float("nan"))
    bin_of = np.empty(len(order), np.int64)
    bin_of[order] = np.minimum((expected - predicted[order] / 2) / expected[-1] * bins, bins - 1)
    people = len(starts) - 1
    person = np.repeat(np.arange(people), np.diff(starts))
    gap = predicted.astype(np.float64) - labels
    own = np.bincount(person * bins + bin_of, weights=gap, minlength=people * bins).reshape(people, bins)
    rows = np.diff(starts).astype(np.float64)
    without = ratio(np.abs(own.sum(0) - own).sum(1), rows.sum() - rows)
    return Estimate(float(np.abs(own.sum(0)).sum() / rows.sum()), jackknife(without))


def auc(predicted: Numbers, labels: Numbers, starts: npt.NDArray[np.int64]) -> Estimate:
    """The chance that a positive is predicted above a negative, ties counting half; NaN without both.

    The error is that of clustered pairs (Obuchowski, Biometrics 53, 1997): rows of one person depend on each other.
    """
    positive = np.asarray(labels) > 0
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return Estimate(float("nan"), float("nan"))
    share = np.empty(len(predicted), np.float64)  # of the other kind that a row is on the right side of
    above, below = np.sort(predicted[positive]), np.sort(predicted[~positive])
    share[positive] = placed(below, predicted[positive]) / n
    share[~positive] = 1.0 - placed(above, predicted[~positive]) / m
    value = float(share[positive].mean())
    ups, downs = sums(positive, starts), sums(~positive, starts)
    own = sums(np.where(positive, share, 0.0), starts) - ups * value
    other = sums(np.where(positive, 0.0, share), starts) - downs * value
    variance = (
        scaled(own * own, ups) / m**2 + scaled(other * other, downs) / n**2 + 2 * scaled(own * other, None) / (m * n)
    )
    return Estimate(value, float(np.sqrt(max(variance, 0.0))))


def placed(others: Numbers, values: Numbers) -> npt.NDArray[np.float64]:
    """How many of the sorted `others` lie below each value, equal ones counting half."""
    left, right = np.searchsorted(others, values, "left"), np.searchsorted(others, values, "right")
    return np.asarray((left + right) / 2, np.float64)


def scaled(squares: Numbers, members: Numbers | None) -> float:
    """A sum over people, made unbiased: times k / (k - 1) for the k of them that have members."""
    k = len(squares) if members is None else int((members > 0).sum())
    return float(squares.sum()) * k / max(k - 1, 1)


def sums(column: npt.NDArray[Any], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(people,) the sum of each person's rows."""
    whole = np.concatenate([[0.0], np.cumsum(column, dtype=np.float64)])
    return np.asarray(whole[starts[1:]] - whole[starts[:-1]], np.float64)


def ratio(over: Numbers, under: Numbers) -> npt.NDArray[np.float64]:
    return np.asarray(np.divide(over, under, out=np.zeros_like(over), where=under > 0), np.float64)
