"""How varied the items of a page are, one number per question. `rows` are item rows of one page, best first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset
from training.intervals import Columns
from training.measures import PAGE, Novelty, Places, column, plain_ndcg
from training.questions import Question
from training.split import Mask
from winnow.features import Ints
from winnow.types import Floats

Times = npt.NDArray[np.float64]
DAY_S = 86_400.0
NEW_DAYS = 14  # the gateway's own setting, where nobody changed it


class Variety:
    """What is measured of pages: NDCG, and what the stages of a slate are for.

    `vectors` (N, d) of norm 1 and items' categories say how alike two items are; `known` are the acts that count for
    novelty.
    """

    def __init__(self, dataset: Dataset, vectors: Floats, novelty: Novelty) -> None:
        self.vectors, self.novelty = vectors, novelty
        self.categories = [frozenset(item.categories) for item in dataset.items]
        self.created: Times = np.array([item.created_at.timestamp() for item in dataset.items])

    def columns(self, asked: Sequence[Question], places: Places) -> Columns:
        pages = [one[:PAGE] for one in places]
        found = {
            "ndcg@10": column(plain_ndcg(q, p, PAGE) for q, p in zip(asked, pages, strict=True)),
            "distance@10": column(self.distance(page) for page in pages),
            "duplicates@10": column(self.duplicates(page) for page in pages),
            "categories@10": column(float(len(self.named(page))) for page in pages),
            "novelty@10": column(map(self.novelty, pages)),
        }
        if (self.created > 0).any():
            moments = [float(q.dataset.acts.at[q.before]) for q in asked]
            found["age_days@10"] = column(map(self.age, pages, moments))
            found["new@10"] = column(float(self.new(page, at).mean()) for page, at in zip(pages, moments, strict=True))
        return found

    def distance(self, page: Ints) -> float:
        """Intra-list distance: one minus the mean cosine of two different items of the page (Ziegler et al., WWW 2005)."""
        n = len(page)
        if n < 2:
            return float("nan")
        likeness = self.vectors[page] @ self.vectors[page].T
        return 1.0 - float(likeness.sum() - likeness.trace()) / (n * (n - 1))

    def duplicates(self, page: Ints, most: float = 0.95) -> float:
        """How many items are nearly another one above them."""
        likeness = np.triu(self.vectors[page] @ self.vectors[page].T, 1)
        return float((likeness > most).any(0).sum())

    def named(self, page: Ints) -> frozenset[str]:
        return frozenset().union(*(self.categories[row] for row in page.tolist()))

    def new(self, rows: Ints, moment: float) -> Mask:
        """Which items came in the days before the moment that an item counts as new."""
        born = self.created[rows]
        return np.asarray((born > 0) & (born <= moment) & (moment - born <= NEW_DAYS * DAY_S))

    def age(self, page: Ints, moment: float) -> float:
        """Mean days since items came, of those that say when."""
        born = self.created[page]
        return float((moment - born[born > 0]).mean() / DAY_S) if (born > 0).any() else float("nan")
