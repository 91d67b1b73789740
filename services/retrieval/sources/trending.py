"""The items most acted on lately; after them those never acted on, so that it always has enough."""

from __future__ import annotations

from collections.abc import Sequence

from services.retrieval.ask import Ask, Found, first
from services.retrieval.model import Model


class Trending:
    name = "trending"

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [Found(first(ask, model.popular, ask.n), model.recent) for ask in asks]
