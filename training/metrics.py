"""How good predictions are: order (AUC, NDCG), probability (log loss), calibration. Columns in, a number out.

`predicted` and `labels` are (n,), `weights` (n,) or nothing for 1 each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

BINS = 20
TINY = 1e-12


def auc(predicted: Numbers, labels: Numbers, weights: Numbers | None = None) -> float:
    """The chance that a positive is predicted above a negative, ties counting half; NaN without both."""
    w = weights_of(predicted, weights)
    order = np.argsort(predicted, kind="stable")
    value, positive = predicted[order], (labels[order] > 0) * w[order]
    negative = w[order] - positive
    first = np.flatnonzero(np.concatenate([[True], value[1:] != value[:-1]]))
    positive, negative = np.add.reduceat(positive, first), np.add.reduceat(negative, first)
    below = np.cumsum(negative) - negative
    total = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / total) if total else float("nan")


def log_loss(predicted: Numbers, labels: Numbers, weights: Numbers | None = None) -> float:
    """Mean negative log likelihood of 0/1 labels, in nats per row."""
    return float(np.average(log_losses(predicted, labels), weights=weights))


def log_losses(predicted: Numbers, labels: Numbers) -> Numbers:
    """(n,) negative log likelihood of each 0/1 label, in nats."""
    p = np.clip(predicted.astype(np.float64), TINY, 1 - TINY)
    return -np.where(labels > 0, np.log(p), np.log1p(-p))


def calibration_error(predicted: Numbers, labels: Numbers, weights: Numbers | None = None, bins: int = BINS) -> float:
    """Expected calibration error: how far predictions are from what happened, on average over rows, in the unit of the
    labels (Naeini et al., 2015, with bins of equal expectation).

    Rows ordered by prediction are cut into bins that each expect as much. Equal widths would put all rows of a rare
    event into one bin, equal counts all of its likely ones.
    """
    w = weights_of(predicted, weights)
    order = np.argsort(predicted, kind="stable")
    p, y, w = predicted[order].astype(np.float64), labels[order].astype(np.float64), w[order]
    expected = np.cumsum(p * w)
    if expected[-1] <= 0:
        return float(abs(np.average(y - p, weights=w)))
    bin_of = np.minimum((expected - p * w / 2) / expected[-1] * bins, bins - 1).astype(np.int64)
    gaps = np.bincount(bin_of, weights=(p - y) * w, minlength=bins)
    return float(np.abs(gaps).sum() / w.sum())


def list_ndcg(scores: Numbers, labels: Numbers, starts: npt.NDArray[np.int64], k: int) -> Numbers:
    """(m,) NDCG@k of m lists, list j being rows starts[j] … starts[j + 1]; 0/1 labels; equal scores keep their order.

    A list without a positive has 0.
    """
    list_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((-scores, list_of))
    place = np.arange(len(scores)) - starts[:-1][list_of]
    discounts = 1.0 / np.log2(place + 2.0)
    gains = np.bincount(list_of, weights=(labels[order] > 0) * (place < k) * discounts, minlength=len(starts) - 1)
    positives = np.bincount(list_of, weights=labels > 0, minlength=len(starts) - 1).astype(np.int64)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])[np.minimum(positives, k)]
    return np.asarray(np.divide(gains, ideal, out=np.zeros_like(gains), where=ideal > 0))


def weights_of(rows: Numbers, weights: Numbers | None) -> Numbers:
    return np.ones(len(rows)) if weights is None else weights.astype(np.float64)
