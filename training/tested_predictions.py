"""How good the ranker's predictions are: AUC, log loss and calibration of each head, of all candidates and of segments.

Segments are of people (how much of them is known) and of items (whose acts make up a third of all that teach). Order
within lists is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset
from training.intervals import Estimate, auc, calibration_error, log_loss, sums
from training.metrics import log_losses
from training.questions import Question
from training.split import Mask
from winnow.features import Ints
from winnow.types import HEADS

if TYPE_CHECKING:
    from training.rankings import Outcome

Labels = Mapping[str, npt.NDArray[np.float64]]

HISTORIES = {
    "history 0-9": (0, 10),
    "history 10-49": (10, 50),
    "history 50-199": (50, 200),
    "history 200+": (200, 10**9),
}
POPULARITY = ("popular", "middle", "rare")  # items with a third of the acts each


def measured(asked: Sequence[Question], outcome: Outcome, dataset: Dataset, train: Mask) -> dict[str, Estimate]:
    """Figures named like `auc_click` and `ece_value rare`; a segment without both outcomes has NaN."""
    labels, found = labels_of(asked, outcome), dict[str, Estimate]()
    for segment, rows in segments(asked, outcome, dataset, train):
        starts = np.concatenate([[0], np.cumsum(sums(rows, outcome.starts))]).astype(np.int64)
        for column, head in enumerate(HEADS):
            predicted, happened = outcome.heads[rows, column], labels[head][rows]
            suffix = f"{head} {segment}".strip()
            found[f"ece_{suffix}"] = calibration_error(predicted, happened, starts)
            if head != "value":
                found[f"auc_{suffix}"] = auc(predicted, happened, starts)
                found[f"log_loss_{suffix}"] = log_loss(log_losses(predicted, happened), starts)
    return found


def labels_of(asked: Sequence[Question], outcome: Outcome) -> Labels:
    """(r,) what happened to each candidate, by head."""
    found = {head: np.zeros(len(outcome.rows)) for head in HEADS}
    for n, question in enumerate(asked):
        start = int(outcome.starts[n])
        own = outcome.rows[start : outcome.starts[n + 1]]
        for item, happened in question.outcomes.items():
            for row in start + np.flatnonzero(own == item):
                found["click"][row] = 1.0
                found["convert"][row] = float(happened.convert)
                found["value"][row] = happened.value
    return found


def segments(asked: Sequence[Question], outcome: Outcome, dataset: Dataset, train: Mask) -> Iterator[tuple[str, Mask]]:
    """Names of segments and their candidates; "" are all."""
    yield "", np.ones(len(outcome.rows), np.bool_)
    known = np.repeat([len(question.history) for question in asked], np.diff(outcome.starts))
    for name, (least, end) in HISTORIES.items():
        rows = (known >= least) & (known < end)
        if rows.any():
            yield name, rows
    third = thirds(np.bincount(dataset.acts.item[train], minlength=len(dataset.items)))[outcome.rows]
    for place, name in enumerate(POPULARITY):
        yield name, third == place


def thirds(counts: Ints) -> Ints:
    """(N,) 0 for the items that come first when acts are counted, until they make up a third; then 1; then 2."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    found = np.empty(len(counts), np.int64)
    found[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    found[counts == 0] = 2
    return found
