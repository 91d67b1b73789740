"""Which acts train what. Nothing later than an act is known to the part it belongs to.

Four parts: `train` teaches retrieval, `rank` teaches the ranker (on what retrieval shows at that moment), `calibrate`
fits and checks probabilities, `test` measures and is touched by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset

Mask = npt.NDArray[np.bool_]
Purpose = Literal["serve", "evaluate"]

SERVE_TRAIN, SERVE_RANK = 0.80, 0.92  # quantiles of time
RANK_SHARE = 0.10  # of a person's acts
RANK_LEAST, RANK_MOST = 1, 10  # acts per person
TIME_CUTS = tuple(datetime(2011, month, 1, tzinfo=UTC).timestamp() for month in (8, 10, 11))
"""Of online-retail: train to the end of July, rank August and September, calibrate October, test from November."""


@dataclass(frozen=True, eq=False)
class Split:
    """Boolean masks over the acts of a data set; each act is in exactly one."""

    train: Mask
    rank: Mask
    calibrate: Mask
    test: Mask


def split(dataset: Dataset, purpose: Purpose) -> Split:
    """For "serve" everything teaches and nothing tests; for "evaluate" the data set's own protocol holds."""
    if purpose == "evaluate" and dataset.protocol == "time":
        return by_time(dataset.acts.at, *cuts(dataset, TIME_CUTS))
    if purpose == "evaluate":
        return by_person(dataset, held_out=2)
    if dataset.clock == "order":
        return by_person(dataset, held_out=1)
    train, rank = np.quantile(dataset.acts.at, [SERVE_TRAIN, SERVE_RANK], method="lower")
    return by_time(dataset.acts.at, np.nextafter(train, np.inf), np.nextafter(rank, np.inf), np.inf)


def cuts(dataset: Dataset, wanted: tuple[float, ...]) -> tuple[float, ...]:
    """The protocol's dates; of a set that lies elsewhere in time, the quantiles 80, 90 and 95 %."""
    at = dataset.acts.at
    if len(at) and at[0] < wanted[0] and wanted[-1] <= at[-1]:
        return wanted
    return tuple(float(cut) for cut in np.quantile(at, [0.80, 0.90, 0.95]))


def by_time(at: npt.NDArray[np.float64], rank: float, calibrate: float, test: float) -> Split:
    """Each part starts at its time; acts of one time stay together."""
    part = np.searchsorted(np.array([rank, calibrate, test]), at, side="right")
    return Split(*(part == n for n in range(4)))


def by_person(dataset: Dataset, held_out: int) -> Split:
    """Of each person the last act tests (`held_out` 2) and the one before calibrates, or the last calibrates (1); the
    ~10 % before teach the ranker, the rest retrieval. People with fewer acts fill the parts from `train` on."""
    n = len(dataset.acts)
    sizes = np.diff(dataset.log.offsets)
    from_end = np.empty(n, np.int64)  # 1 = the person's last act
    total = np.empty(n, np.int64)  # the person's acts
    from_end[dataset.log.order] = np.repeat(dataset.log.offsets[1:], sizes) - np.arange(n)
    total[dataset.log.order] = np.repeat(sizes, sizes)
    ranked = np.clip(np.round(total * RANK_SHARE), RANK_LEAST, RANK_MOST)
    ranked = np.minimum(ranked, np.maximum(total - held_out - 1, 0))
    held = np.minimum(held_out, total - 1)
    test = (from_end == 1) & (held_out == 2) & (total > 2)
    calibrate = (from_end <= held) & ~test
    rank = (from_end > held) & (from_end <= held + ranked)
    return Split(~(test | calibrate | rank), rank, calibrate, test)
