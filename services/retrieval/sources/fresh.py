"""The items that entered the catalogue last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.retrieval.ask import Ask, Found, Score, first
from services.retrieval.model import Model
from winnow.catalogue import Catalogue, Rows
from winnow.features import DAY_S
from winnow.youth import youth as young

Times = npt.NDArray[np.float64]  # seconds since 1970

HALF_LIFE_S = 30 * DAY_S  # of the score


class Fresh:
    """Knows the newest `keep` rows of the catalogue that say when they were created."""

    name = "fresh"

    def __init__(self, catalogue: Catalogue, keep: int = 2_000) -> None:
        self._catalogue = catalogue
        self._keep = keep
        self._order = np.empty(0, np.int64)

    def absorb(self, rows: Rows) -> None:
        """Sort anew: rows were written."""
        created = self._catalogue.created
        newest = np.arange(len(created))
        if len(created) > self._keep:
            newest = np.argpartition(created, -self._keep)[-self._keep :]
        newest = newest[created[newest] > 0]
        self._order = newest[np.lexsort((newest, -created[newest]))]

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [self._propose(ask) for ask in asks]

    def _propose(self, ask: Ask) -> Found:
        created, order = self._catalogue.created, self._order
        if not len(order):
            return Found()
        at = created[order[0]] if ask.context.at is None else ask.context.at.timestamp()
        return Found(first(ask, order[created[order] <= at], ask.n), youth(created, at))


def youth(created: Times, at: float) -> Score:
    """1 for an item created at `at`, halved every 30 days before; 0 for one that does not say, or comes later."""

    return lambda rows: young(created[rows], at, HALF_LIFE_S)
