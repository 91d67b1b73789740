"""How good a ranker's predictions of whole lists are: per head, per segment of people and items, and against the order that
retrieval had given. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from training.calibration import Numbers
from training.impressions import Impressions
from training.lists import Lists
from training.metrics import auc, calibration_error, list_ndcg, log_loss
from training.split import Mask
from winnow.encoding import Schema
from winnow.types import HEADS

K = 10
THIRDS = ("low", "middle", "high")


def measure(impressions: Impressions, lists: Lists, before: Numbers, after: Numbers) -> dict[str, float]:
    """Metrics of whole lists: heads (r, 3) before and after calibration; value errors in the unit of values."""
    found = {"listed": float(lists.listed.mean())}
    for column, head in enumerate(HEADS):
        labels = getattr(lists, head)
        found[f"mean_{head}"] = float(labels.mean())
        found[f"ece_{head}_before"] = calibration_error(before[:, column], labels)
        found[f"ece_{head}"] = calibration_error(after[:, column], labels)
        if head != "value":
            found[f"auc_{head}"] = auc(after[:, column], labels)
            found[f"log_loss_{head}"] = log_loss(after[:, column], labels)
    own = list_ndcg(after[:, 0], lists.click, lists.starts, K)[lists.listed]
    order = list_ndcg(np.zeros(len(after)), lists.click, lists.starts, K)[lists.listed]
    if lists.listed.any():
        found["ndcg_at_10"], found["ndcg_at_10_retrieval"] = float(own.mean()), float(order.mean())
    for name, rows in segments(impressions, lists):
        for column, head in enumerate(HEADS):
            found[f"ece_{head}.{name}"] = calibration_error(after[rows, column], getattr(lists, head)[rows])
        found[f"auc_click.{name}"] = auc(after[rows, 0], lists.click[rows])
    return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def segments(impressions: Impressions, lists: Lists) -> Iterator[tuple[str, Mask]]:
    """Thirds of the rows (r,) by how much their person did before, `acts_low` …, and by how often their item was acted on,
    `popularity_low` …; a third without rows is left out."""
    schemas, sizes = impressions.schemas, np.diff(lists.starts)
    acts = np.repeat(column(schemas.user, lists.user_numbers, "user_log_events"), sizes)
    popularity = column(schemas.item, impressions.item_numbers, "item_log_count")[lists.item]
    for name, values in (("acts", acts), ("popularity", popularity)):
        third = np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values, "left")
        yield from ((f"{name}_{THIRDS[n]}", third == n) for n in range(3) if (third == n).any())


def column(schema: Schema, numbers: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
    """One number of every row as the schema scaled it; its order is that of the number itself."""
    found: npt.NDArray[np.float32] = numbers[:, [feature.name for feature in schema.numeric].index(name)]
    return found
