"""The nearest items to the person in the two towers' space."""

from __future__ import annotations

from collections.abc import Sequence

from services.retrieval.ask import Ask, Found, Score
from services.retrieval.model import Model
from winnow.types import Floats


class Tower:
    name = "tower"

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return nearest(model, model.users(asks), asks)


def nearest(model: Model, vectors: Floats, asks: Sequence[Ask]) -> list[Found]:
    """Per ask the allowed rows nearest to its vector (b, d); scores are inner products, for every row there is. A zero
    vector says nothing, so it finds nothing (docs/bundles.md)."""
    found = [Found()] * len(asks)
    for places in sharing_a_mask(asks):
        places = [place for place in places if vectors[place].any()]
        if not places:
            continue
        n = max(asks[place].n for place in places)
        without = [asks[place].without for place in places]
        _, rows = model.bundle.index.search(vectors[places], n, asks[places[0]].mask, without)
        for place, near in zip(places, rows, strict=True):
            found[place] = Found(near[near >= 0][: asks[place].n], product(model, vectors[place]))
    return found


def product(model: Model, vector: Floats) -> Score:
    """The inner product of one vector with any row's: a cosine where both have norm 1, as the two towers' have."""
    table = model.vectors
    return lambda rows: table.take(rows, axis=0) @ vector


def sharing_a_mask(asks: Sequence[Ask]) -> list[list[int]]:
    """Places of asks grouped by mask: one search each."""
    groups: dict[int, list[int]] = {}
    for place, ask in enumerate(asks):
        groups.setdefault(id(ask.mask), []).append(place)
    return list(groups.values())
