"""The Explanation port, by checked templates: per item the most telling fact that holds, varied over the slate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from services.explanation.newest import Newest
from services.explanation.popularity import Popularity
from services.explanation.propose import Proposal, Tables, Taste
from services.explanation.templates import text
from winnow.catalogue import Catalogue
from winnow.ports import ExplainQuery
from winnow.requests import Readiness
from winnow.types import Reason

KIND_REPEATED = 6.0  # weight that a kind of fact loses each time the slate uses it
ITEM_REPEATED = 25.0  # weight that a fact loses each time the slate names the same item of the history


class Templates:
    """Says why from the person's history and the catalogue. `catalogue` is kept current by whoever built this; a
    rating from `positive_value` on means that the person liked the item."""

    def __init__(self, catalogue: Catalogue, positive_value: float) -> None:
        self._catalogue = catalogue
        self._positive_value = positive_value
        self._tables = Tables(Newest(catalogue))

    async def explain(self, queries: Sequence[ExplainQuery]) -> list[tuple[Reason, ...]]:
        return [self._explain(query) for query in queries]

    async def ready(self) -> Readiness:
        return Readiness(True)

    def use(self, popularity: Popularity) -> None:
        """What people choose most, from now on."""
        self._tables.popularity = popularity

    def _explain(self, query: ExplainQuery) -> tuple[Reason, ...]:
        own = self._positive_value
        taste = Taste(query.user, self._catalogue, query.context, own, self._tables, query.item_ids)
        used: dict[object, int] = {}
        reasons = []
        for item_id, sources in zip(query.item_ids, query.sources, strict=True):
            best = most_telling(taste.proposals(item_id, sources), used)
            for said in (best.made or best.kind, best.place):
                used[said] = used.get(said, 0) + 1
            fact = taste.fact(item_id, best)
            reasons.append(Reason(text(fact, self._catalogue.get), fact.name, fact.evidence()))
        return tuple(reasons)


def most_telling(proposals: Sequence[Proposal], used: Mapping[object, int]) -> Proposal:
    """The one, of several the first, of most weight after what it loses by repetition, which never adds any."""
    best, most = proposals[-1], -math.inf
    for proposal in proposals:
        if proposal.weight > most and (left := proposal.weight - repetition(proposal, used)) > most:
            best, most = proposal, left
    return best


def repetition(proposal: Proposal, used: Mapping[object, int]) -> float:
    """The weight that a proposal loses by what the slate says already."""
    named_again = used.get(proposal.place, 0) if proposal.place >= 0 else 0
    return KIND_REPEATED * used.get(proposal.made or proposal.kind, 0) + ITEM_REPEATED * named_again
