"""What this person acted on before, most often first: where people buy again, the likeliest next thing of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.retrieval.ask import Ask, Found, scored
from services.retrieval.model import Model
from winnow.types import EventType


@dataclass(frozen=True)
class Again:
    """An item counts once per act of the history that models read, and `remembered` for one farther back. It has nothing
    to say where seen items must not come back, nor of what the person dismissed."""

    remembered: float = 0.5
    name: str = "again"

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [self._propose(ask) for ask in asks]

    def _propose(self, ask: Ask) -> Found:
        if not len(ask.seen):
            return Found()
        dismissed = ask.user.history.types == EventType.DISMISS
        acted = ask.history[~dismissed]
        rows = np.setdiff1d(np.union1d(ask.seen, acted[acted >= 0]), ask.history[dismissed])
        recent = np.isin(acted, rows)
        counts = np.bincount(np.searchsorted(rows, acted[recent]), minlength=len(rows))
        return scored(ask, rows, np.maximum(counts, self.remembered).astype(np.float32))
