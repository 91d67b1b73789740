"""What is said of a ranking, one number per question: hits, NDCG, revenue, novelty, and tracks of the answer.

Columns are NaN where a question does not count. How sure their means are is `training.intervals`' business; how a ranking
came about is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset
from training.intervals import Columns
from training.questions import Question
from training.split import Mask
from winnow.features import Ints
from winnow.types import Floats

Places = Sequence[Ints]
"""Per question the item rows of a ranking, best first."""

HR_AT = (1, 5, 10, 20)
NDCG_AT = (5, 10, 20)
PAGE = 10  # items of a ranking that coverage and novelty look at


def columns(asked: Sequence[Question], places: Places, novelty: Novelty, repeat: bool) -> Columns:
    """Everything that is said of all questions; where people buy again also by revenue, and of what they had before."""
    found = rates(asked, places)
    found["novelty@10"] = column(novelty(one[:PAGE]) for one in places)
    if repeat:
        found["revenue_ndcg@10"] = column(ndcg(q, p, 10, q.paid) for q, p in zip(asked, places, strict=True))
        found |= track(asked, places, "rebuy", seen=True)
    return found


def track(asked: Sequence[Question], places: Places, name: str, seen: bool) -> Columns:
    """Rates over the questions of which a part was acted on before (`seen`) or was not; that part is the answer."""
    parts = [question.only(seen) for question in asked]
    counts = np.fromiter((bool(len(part.relevant)) for part in parts), np.bool_, count=len(parts))
    return {f"{name}_{metric}": np.where(counts, own, np.nan) for metric, own in rates(parts, places).items()}


def rates(asked: Sequence[Question], places: Places) -> Columns:
    """HR@k: a right item among the first k. NDCG@k: with binary gains, against the best order there could be."""
    pairs = list(zip(asked, places, strict=True))
    found = {f"hr@{k}": column(float(np.isin(p[:k], q.relevant).any()) for q, p in pairs) for k in HR_AT}
    return found | {f"ndcg@{k}": column(plain_ndcg(q, p, k) for q, p in pairs) for k in NDCG_AT}


def plain_ndcg(question: Question, places: Ints, k: int) -> float:
    """NDCG where every right item counts the same."""
    return ndcg(question, places, k, np.ones(len(question.relevant), np.float32))


def ndcg(question: Question, places: Ints, k: int, gains: Floats) -> float:
    """Discounted gain of the first k places over the most there could be; `gains` per relevant item."""
    if not len(question.relevant):
        return 0.0
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    gain_of = dict(zip(question.relevant.tolist(), gains.tolist(), strict=True))
    got = np.array([gain_of.get(int(row), 0.0) for row in places[:k]])
    ideal = np.sort(gains)[::-1][:k]
    return float((got * discounts[: len(got)]).sum() / (ideal * discounts[: len(ideal)]).sum())


class Novelty:
    """How surprising items are: the mean of -log2 of an item's share of the acts `known`, in bits (Zhou et al., PNAS
    107, 2010). An item without acts counts as one with half an act."""

    def __init__(self, dataset: Dataset, known: Mask) -> None:
        counts = np.maximum(np.bincount(dataset.acts.item[known], minlength=len(dataset.items)), 0.5)
        self.bits: npt.NDArray[np.float64] = -np.log2(counts / counts.sum())

    def __call__(self, rows: Ints) -> float:
        known = rows[rows >= 0]
        return float(self.bits[known].mean()) if len(known) else float("nan")


def column(values: Any) -> npt.NDArray[np.float64]:
    return np.fromiter(values, np.float64)
