"""What people act on right after the items this person acted on last."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

from services.retrieval.ask import Ask, Found, scored
from services.retrieval.model import Model, weights_of


@dataclass(frozen=True)
class Sequence:
    """Reads the newest `acts` acts; each older one counts `decay` times the next."""

    acts: int = 3
    decay: float = 0.5
    name: str = "sequence"

    def propose(self, model: Model, asks: Many[Ask]) -> list[Found]:
        return [self._propose(model, ask) for ask in asks]

    def _propose(self, model: Model, ask: Ask) -> Found:
        newest = ask.history[-self.acts :]
        rows, scores = model.neighbours(model.bundle.follows, newest, weights_of(len(newest), self.decay))
        return scored(ask, rows, scores)
