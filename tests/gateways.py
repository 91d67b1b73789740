"""Four inner services of ten lines each, told to answer, fail or dawdle; and a gateway over them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.gateway.build import build
from services.gateway.recommender import Gateway
from services.gateway.settings import Settings
from winnow.catalogue import Catalogue
from winnow.errors import NotFound
from winnow.ports import ExplainQuery, RankQuery, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.types import Candidates, Event, Item, Person, Predictions, Reason, Receipt, UserState, strings

ITEMS = [Item(f"i{n}", title=f"Item {n}", categories=("even" if n % 2 == 0 else "odd",), price=n) for n in range(20)]


class Inner:
    """All four at once. `trouble` maps a service to the error it raises, or to the seconds it dawdles."""

    def __init__(self) -> None:
        self.trouble: dict[str, Exception | float] = {}
        self.calls: list[str] = []
        self.ranked: list[RankQuery] = []
        self.asked: list[SimilarQuery | TrendingQuery] = []
        self.is_ready = True
        self.rows: Sequence[int] = range(1, 11)  # what retrieval finds
        self.watermark = 7  # that states include
        self.written = 8  # that receipts ask for

    async def _meet(self, service: str) -> None:
        self.calls.append(service)
        trouble = self.trouble.get(service)
        if isinstance(trouble, Exception):
            raise trouble
        await asyncio.sleep(trouble or 0)

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        await self._meet("feature")
        return [UserState(person, known=True, seen=strings(["i0"]), watermark=self.watermark) for person in people]

    async def record(self, events: Sequence[Event]) -> Receipt:
        await self._meet("feature")
        return Receipt(len(events), 0, self.written)

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        await self._meet("feature")
        return Receipt(len(items), 0, 3)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        await self._meet("retrieval")
        return [candidates(self.rows) for _ in queries]

    async def similar(self, query: SimilarQuery) -> Candidates:
        await self._meet("retrieval")
        self.asked.append(query)
        if "nothing" in query.item_ids:
            raise NotFound("no item 'nothing'", field="item_ids[0]")
        return candidates(range(query.n))

    async def trending(self, query: TrendingQuery) -> Candidates:
        await self._meet("retrieval")
        self.asked.append(query)
        return candidates(range(min(query.n, len(ITEMS)) - 1, -1, -1))

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        """The last candidate is the best."""
        await self._meet("ranking")
        self.ranked += queries
        return [
            Predictions(np.full((len(q.candidates), 3), 0.5, np.float32), np.arange(len(q.candidates), dtype="f4"), "k")
            for q in queries
        ]

    async def explain(self, queries: Sequence[ExplainQuery]) -> list[tuple[Reason, ...]]:
        await self._meet("explanation")
        return [tuple(Reason(f"because {i}", "fact") for i in query.item_ids) for query in queries]

    async def ready(self) -> Readiness:
        return Readiness(self.is_ready, () if self.is_ready else ("bundle",))


def candidates(rows: Any) -> Candidates:
    ids = [f"i{row}" for row in rows]
    return Candidates(
        strings(ids), np.ones(len(ids), np.uint32), np.zeros((len(ids), 1), np.float32), ("tower",), bundle="r"
    )


def gateway_over(inner: Inner, **settings: Any) -> Gateway:
    catalogue = Catalogue()
    catalogue.upsert(ITEMS)
    catalogue.advance(len(ITEMS), complete=True)
    return build(Settings(**settings), catalogue, inner, inner, inner, inner)
