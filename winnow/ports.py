"""What each service promises: five Protocols on one screen.

Whoever holds a port cannot tell whether it is an object in this process or a gRPC client (`winnow.wire`). Calls take
batches and answer in the order asked. They raise only `winnow.errors`; anything else is a bug. All are safe to call
concurrently from one event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from winnow.filters import Filter
from winnow.requests import Answer, Readiness, RecommendRequest, SimilarRequest, TrendingRequest
from winnow.types import (
    Candidates,
    CataloguePage,
    Context,
    Event,
    Item,
    Person,
    Predictions,
    Reason,
    Receipt,
    Strings,
    UserState,
)


@dataclass(frozen=True, slots=True, eq=False)
class RetrieveQuery:
    """Ask for `n` candidates for one person. Seen and excluded items are left out inside the search. `vectors`: say, too,
    how items are alike."""

    user: UserState
    n: int
    context: Context = field(default_factory=Context)
    query: str = ""
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()
    include_seen: bool = False
    vectors: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SimilarQuery:
    """Ask for `n` items that go with all of `item_ids`, as they are at the position `catalogue` of the item log, if that can
    be had in a moment (0: as they are known). These and excluded items are left out inside the search."""

    item_ids: tuple[str, ...]
    n: int
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()
    catalogue: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TrendingQuery:
    """Ask for the `n` items most acted on lately; with a `user`, without those they have seen."""

    n: int
    user: UserState | None = None
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RankQuery:
    """Score these candidates for one person; `objectives` weighs the heads, empty means the default. `vector`: say, too,
    which features of the person the model was given."""

    user: UserState
    candidates: Candidates
    context: Context = field(default_factory=Context)
    objectives: Mapping[str, float] = field(default_factory=dict)
    vector: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ExplainQuery:
    """Say why each of these items (n,) is shown to this person; `sources` (n) are the names of its sources."""

    user: UserState
    item_ids: Strings
    sources: tuple[tuple[str, ...], ...]
    context: Context = field(default_factory=Context)


class Features(Protocol):
    """Knows people and items, and takes every event."""

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        """The state of each person now; an unknown person gets an empty state with `known` False."""
        ...

    async def record(self, events: Sequence[Event]) -> Receipt:
        """Take events, all or none. Returns once they are on disk; the next `users` includes them."""
        ...

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        """Write items, all or none. Returns once they are on disk."""
        ...

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        """The items written after log position `after` (0: from the start), at most `limit` of them; with the vectors of
        their images only where these are asked for."""
        ...

    async def ready(self) -> Readiness: ...


class Retrieval(Protocol):
    """Finds the few hundred items worth ranking."""

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        """Candidates per query from all sources; as many as asked while matching items exist."""
        ...

    async def similar(self, query: SimilarQuery) -> Candidates:
        """NotFound when an item is unknown."""
        ...

    async def trending(self, query: TrendingQuery) -> Candidates: ...

    async def ready(self) -> Readiness: ...


class Ranking(Protocol):
    """Predicts what a person would do with each candidate."""

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        """One column of predictions per query, in the candidates' order."""
        ...

    async def ready(self) -> Readiness: ...


class Explanation(Protocol):
    """Says why."""

    async def explain(self, queries: Sequence[ExplainQuery]) -> list[tuple[Reason, ...]]:
        """One reason per item, every claim of which the facts hold."""
        ...

    async def ready(self) -> Readiness: ...


class Recommender(Protocol):
    """What the gateway promises to REST and gRPC alike."""

    async def recommend(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        """One answer per request; many requests share one pass through every model."""
        ...

    async def similar(self, request: SimilarRequest) -> Answer:
        """NotFound when an item is unknown."""
        ...

    async def trending(self, request: TrendingRequest) -> Answer: ...

    async def record(self, events: Sequence[Event]) -> Receipt:
        """As `Features.record`; Unavailable when it cannot be made durable."""
        ...

    async def put_items(self, items: Sequence[Item]) -> Receipt: ...

    async def ready(self) -> Readiness: ...
