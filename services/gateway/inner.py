"""The four inner services as a page needs them: each within its budget, behind its breaker, and with what stands in for it.

What comes back is always something to go on with; the run names what was left out. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.gateway.popular import Popular
from services.gateway.settings import Settings
from services.gateway.stand_in import StandIn
from winnow.errors import WinnowError
from winnow.guarded import Guarded
from winnow.pipeline import Run
from winnow.ports import (
    ExplainQuery,
    Explanation,
    Features,
    Ranking,
    RankQuery,
    Retrieval,
    RetrieveQuery,
    SimilarQuery,
    TrendingQuery,
)
from winnow.types import Candidates, Person, Predictions, Reason, UserState

FEATURE, RETRIEVAL, RANKING, EXPLANATION = "feature", "retrieval", "ranking", "explanation"
STAND_IN = "stand_in"
GUARDED = (FEATURE, RETRIEVAL, RANKING, EXPLANATION, STAND_IN)
NOBODY = UserState(Person(session_id="nobody"))

Part = Features | Retrieval | Ranking | Explanation
Reasons = tuple[Reason, ...]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Inner:
    """One gateway's way to its peers, near or far."""

    features: Features
    retrieval: Retrieval
    ranking: Ranking
    explanation: Explanation
    popular: Popular
    settings: Settings
    stand_in: StandIn | None = None
    guards: dict[str, Guarded] = field(default_factory=lambda: {part: Guarded(part) for part in GUARDED})

    async def users(self, run: Run, people: Sequence[Person]) -> list[UserState]:
        """While the feature service is away, what Redis holds of people is enough to know them by."""
        nothing: list[UserState] | None = None
        users: list[UserState] | None = await self._asked(
            run, FEATURE, lambda: self.features.users(people), len(people), lambda: nothing
        )
        if users is not None:
            return users
        strangers = [UserState(person) for person in people]
        if (other := self.stand_in) is None:
            return strangers
        budget_s = self.settings.budget_s(FEATURE, len(people))
        return await run.optional(
            STAND_IN, self.guards[STAND_IN](lambda: other.users(people)), budget_s, lambda: strangers
        )

    async def retrieve(self, run: Run, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        return await self._asked(
            run,
            RETRIEVAL,
            lambda: self.retrieval.retrieve(queries),
            len(queries),
            lambda: [self.popular.candidates(query) for query in queries],
        )

    async def similar(self, run: Run, query: SimilarQuery, instead: Callable[[], Candidates]) -> Candidates:
        return await self._asked(run, RETRIEVAL, lambda: self.retrieval.similar(query), 1, instead)

    async def trending(self, run: Run, query: TrendingQuery) -> Candidates:
        instead = RetrieveQuery(query.user or NOBODY, query.n, filter=query.filter, exclude=query.exclude)
        return await self._asked(
            run, RETRIEVAL, lambda: self.retrieval.trending(query), 1, lambda: self.popular.candidates(instead)
        )

    async def rank(self, run: Run, queries: Sequence[RankQuery]) -> Sequence[Predictions | None]:
        nothing: Sequence[Predictions | None] = [None] * len(queries)
        ranked: Sequence[Predictions | None] = await self._asked(
            run, RANKING, lambda: self.ranking.rank(queries), len(queries), lambda: nothing
        )
        return ranked

    async def explain(self, run: Run, queries: Sequence[ExplainQuery]) -> list[Reasons]:
        nothing: list[Reasons] = [()] * len(queries)
        return await self._asked(
            run, EXPLANATION, lambda: self.explanation.explain(queries), len(queries), lambda: nothing
        )

    async def missing(self) -> list[str]:
        """What the parts lack, in words; a part that does not answer lacks everything."""
        parts: dict[str, Part] = {
            FEATURE: self.features,
            RETRIEVAL: self.retrieval,
            RANKING: self.ranking,
            EXPLANATION: self.explanation,
        }
        return [text for name, part in parts.items() for text in await missing_of(name, part)]

    async def _asked(
        self, run: Run, part: str, call: Callable[[], Awaitable[T]], requests: int, instead: Callable[[], T]
    ) -> T:
        return await run.optional(part, self.guards[part](call), self.settings.budget_s(part, requests), instead)


async def missing_of(name: str, part: Part) -> list[str]:
    try:
        readiness = await part.ready()
    except WinnowError as away:
        return [f"{name}: {away.detail}"]
    return [] if readiness.ready else [f"{name}: {text}" for text in readiness.missing or ("not ready",)]
