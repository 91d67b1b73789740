"""How varied a list is: the stages of `slate` in the request path, in one order.

Freshness, near-duplicates, diversity, caps; the floor under new items comes after them and outranks them. A stage that is
off costs nothing, and one that compares items is left out where retrieval said nothing of them. No stage knows which page
is asked for, so pages of one list fit together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.gateway import slate
from services.gateway.settings import Settings
from winnow.catalogue import Catalogue, Rows
from winnow.directions import unpacked
from winnow.features import DAY_S
from winnow.requests import RecommendRequest
from winnow.types import Candidates, Directions, Floats, Predictions
from winnow.youth import youth

T = TypeVar("T", bound=np.generic)
DUPLICATES, DIVERSITY = "duplicates", "diversity"
PLACES = slate.PLACES  # that diversity decides
CHOOSE = {"mmr": slate.mmr, "dpp": slate.dpp}


@dataclass(frozen=True, slots=True)
class Wish:
    """How varied one list is to be; with nothing but zeros it stays as it was ranked. `diversity` and `freshness` are
    strengths, `duplicates` a cosine, `cap` a number of items."""

    diversity: float = 0.0
    duplicates: float = 0.0
    cap: int = 0
    freshness: float = 0.0

    @property
    def compares(self) -> tuple[str, ...]:
        """The stages that look at how items are alike."""
        return (*([DUPLICATES] if self.duplicates else []), *([DIVERSITY] if self.diversity else []))


AS_RANKED = Wish()


@dataclass(frozen=True)
class Varied:
    """Makes lists varied by the platform's settings; of items it knows what the catalogue says, and no vectors."""

    catalogue: Catalogue
    settings: Settings

    def wish(self, request: RecommendRequest) -> Wish:
        """The platform's, and the request's own strength where it has one. A search is answered by its words: only what
        the request itself asks for counts."""
        if request.query:
            return Wish(request.diversity or 0.0)
        own, asked = self.settings, request.diversity
        diversity = own.slate_diversity if asked is None else asked
        return Wish(diversity, own.slate_duplicates, own.slate_category_cap, own.slate_freshness)

    def strengths(self, wish: Wish) -> dict[str, float]:
        """What a decision says of a wish, by stage; nothing of those that are off."""
        own = self.settings
        told = {own.slate_diversity_by: wish.diversity, DUPLICATES: wish.duplicates, "category_cap": float(wish.cap)}
        told |= {"freshness": wish.freshness, "fresh_days": own.slate_fresh_days if wish.freshness else 0.0}
        return {stage: strength for stage, strength in told.items() if strength}

    def left_out(self, wish: Wish, candidates: Candidates) -> tuple[str, ...]:
        """The stages that these candidates cannot have: nobody said how they are alike."""
        return wish.compares if wish.compares and len(candidates) and directions_of(candidates) is None else ()

    def order(
        self, order: Rows, candidates: Candidates, predictions: Predictions | None, wish: Wish, at: datetime
    ) -> Rows:
        """The order (rows of the candidates, best first) as it is wished at this moment. What repeats an earlier item
        comes behind everything."""
        if wish == AS_RANKED or not len(order):
            return order
        scores: slate.Scores = (
            -np.arange(len(candidates), dtype=np.float64) if predictions is None else predictions.scores
        )
        if wish.freshness:
            scores = slate.with_youth(scores, self._youth(candidates, at), wish.freshness)
            order = slate.ordered(order, scores)
        repeated = order[:0]
        directions = directions_of(candidates) if wish.compares else None
        if directions is not None:
            vectors = np.zeros(directions.shape, np.float32)
            near = order[: 2 * slate.POOL]  # one stage may move a whole pool out of another's sight
            vectors[near] = unpacked(directions[near])
            if wish.duplicates:
                order, repeated = slate.apart(order, vectors, wish.duplicates)
            if wish.diversity:
                order = CHOOSE[self.settings.slate_diversity_by](order, scores, vectors, PLACES, wish.diversity)
        if wish.cap:
            order = slate.capped(order, self._category(candidates), wish.cap)
        return np.concatenate([order, repeated])

    def marks(self, candidates: Candidates, wish: Wish) -> Rows:
        """(1, n) what a cap counts of each candidate; (0, n) where there is none."""
        return self._category(candidates)[None] if wish.cap else np.zeros((0, len(candidates)), np.int64)

    def _youth(self, candidates: Candidates, at: datetime) -> Floats:
        created = self._known(self.catalogue.created, candidates, 0.0)
        return youth(created, at.timestamp(), self.settings.slate_fresh_days * DAY_S)

    def _category(self, candidates: Candidates) -> Rows:
        return self._known(self.catalogue.category, candidates, -1).astype(np.int64)

    def _known(self, column: npt.NDArray[T], candidates: Candidates, otherwise: float) -> npt.NDArray[T]:
        """The catalogue's column for the candidates; `otherwise` for those that it does not know."""
        rows = self.catalogue.rows(candidates.item_ids)
        here = rows >= 0
        found = np.full(len(rows), otherwise, column.dtype)
        found[here] = column[rows[here]]
        return found


def directions_of(candidates: Candidates) -> Directions | None:
    """None where nobody said how these items are alike, or every vector points nowhere."""
    return None if candidates.vectors is None or not candidates.vectors.any() else candidates.vectors
