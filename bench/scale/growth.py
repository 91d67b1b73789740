"""How a cost grows: the exponent of a power law by least squares on logarithms, and whether it stays within n log n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SLACK = 0.15  # of an exponent: noise of a shared machine
LEAST_S = 1.0  # below, a step's time is that of its start, and of whatever else the machine does


@dataclass(frozen=True, slots=True)
class Growth:
    """cost ~ n ** exponent over all sizes; `last` is the exponent between the two largest, where a start-up cost weighs
    least; `bound` is what n log n would show there, with some slack."""

    exponent: float
    last: float
    bound: float

    @property
    def fine(self) -> bool:
        return max(self.exponent, self.last) <= self.bound


def growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """ValueError unless there are two different positive sizes and every cost is positive."""
    if len(set(sizes)) < 2 or min(sizes) <= 1 or min(costs) <= 0:
        raise ValueError("growth needs two sizes above 1 and positive costs")
    order = np.argsort(sizes)
    n, cost = np.log(np.asarray(sizes, np.float64)[order]), np.log(np.asarray(costs, np.float64)[order])
    last = (cost[-1] - cost[-2]) / (n[-1] - n[-2])
    linearithmic = 1.0 + math.log(n[-1] / n[-2]) / (n[-1] - n[-2])  # of n log n between the same two
    return Growth(float(np.polyfit(n, cost, 1)[0]), float(last), linearithmic + SLACK)


def per_million(
    items: Sequence[float], users: Sequence[float], events: Sequence[float], memory_mb: Sequence[float]
) -> dict[str, float]:
    """MB of a process per million items, users and events, and what it needs empty: non-negative least squares."""
    from scipy.optimize import nnls

    columns: npt.NDArray[np.float64] = np.column_stack(
        [np.ones(len(items)), *(np.asarray(c) / 1e6 for c in (items, users, events))]
    )
    found, _ = nnls(columns, np.asarray(memory_mb, np.float64))
    return dict(zip(("empty", "items", "users", "events"), map(float, found), strict=True))
