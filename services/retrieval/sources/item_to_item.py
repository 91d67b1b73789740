"""What occurs in histories together with the items of this person's history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.retrieval.ask import Ask, Found, scored
from services.retrieval.model import Model, weights_of


@dataclass(frozen=True)
class ItemToItem:
    """Reads the newest `acts` acts; each older one counts `decay` times the next. A bundle whose table is a model's own
    says how that one is read."""

    acts: int = 20
    decay: float = 0.9
    name: str = "item_to_item"

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [self._propose(model, ask) for ask in asks]

    def _propose(self, model: Model, ask: Ask) -> Found:
        reading = model.bundle.reading or self
        newest = ask.history[-reading.acts :]
        rows, scores = model.neighbours(model.bundle.together, newest, weights_of(len(newest), reading.decay))
        return scored(ask, rows, scores)
