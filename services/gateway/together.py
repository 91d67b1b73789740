"""What comes while a peer is busy is sent to it in one call.

A call over the wire costs both sides two thirds of a millisecond before anything is done, and each way into a worker's
thread a tenth: several queries share that where they would have waited for each other anyway. Nobody waits for company. Up
to `at_once` calls leave as they come, in their caller's own task; what comes meanwhile leaves together, `MOST` queries at
a time, as soon as one of those is back. So an idle platform behaves as if this were not here.

A batch runs as the one of its callers who is traced, and until the last of their deadlines. Where it is refused for
what somebody asks, each is asked anew by itself: nobody fails for what another one asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from winnow.errors import InvalidArgument, NotFound, PayloadTooLarge
from winnow.pipeline import deadline_in, remaining_s
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
from winnow.requests import Readiness
from winnow.tracing import carried
from winnow.types import Candidates, CataloguePage, Event, Item, Person, Predictions, Reason, Receipt, UserState

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 4  # queries of one call: all its callers wait for the last of them
UNBOUND_S = 1.0  # a call outside any stage
REFUSED = (InvalidArgument, NotFound, PayloadTooLarge)


@dataclass(frozen=True, eq=False)
class Waiting(Generic[Q, A]):
    """A call that has not left yet."""

    queries: Sequence[Q]
    answer: asyncio.Future[list[A]]
    until: float  # on the monotonic clock: its caller's deadline
    traced: bool
    context: Context = field(default_factory=copy_context)


class Together(Generic[Q, A]):
    """One verb of one peer, for one event loop. Answers come in the order of the queries."""

    def __init__(self, call: Callable[[Sequence[Q]], Coroutine[Any, Any, list[A]]], at_once: int) -> None:
        self._call = call
        self._at_once = at_once
        self._under_way = 0
        self._queue: deque[Waiting[Q, A]] = deque()
        self._tasks: set[asyncio.Task[list[A]]] = set()  # held here, or they could be collected while they run

    async def __call__(self, queries: Sequence[Q]) -> list[A]:
        if self._under_way >= self._at_once:
            return await self._later(queries)
        self._under_way += 1
        try:
            return await self._call(queries)
        finally:
            self._back()

    def _later(self, queries: Sequence[Q]) -> Awaitable[list[A]]:
        """A caller who gives up takes its queries along, unless they have left."""
        answer: asyncio.Future[list[A]] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(queries, answer, time.monotonic() + remaining_s(UNBOUND_S), carried() is not None))
        return answer

    def _back(self) -> None:
        """A call is over: the next ones leave."""
        self._under_way -= 1
        while self._under_way < self._at_once and (batch := self._batch()):
            self._send(batch)

    def _batch(self) -> list[Waiting[Q, A]]:
        batch: list[Waiting[Q, A]] = []
        queries = 0
        while self._queue and (not batch or queries + len(self._queue[0].queries) <= MOST):
            one = self._queue.popleft()
            if not one.answer.done():
                batch.append(one)
                queries += len(one.queries)
        return batch

    def _send(self, batch: list[Waiting[Q, A]]) -> None:
        self._under_way += 1
        as_whom = next((one for one in batch if one.traced), batch[0])
        as_whom.context.run(deadline_in, max(one.until for one in batch) - time.monotonic())
        work = self._call([query for one in batch for query in one.queries])
        task = asyncio.get_running_loop().create_task(work, context=as_whom.context)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._sent(batch, done))

    def _sent(self, batch: list[Waiting[Q, A]], done: asyncio.Task[list[A]]) -> None:
        self._tasks.discard(done)
        wrong = None if done.cancelled() else done.exception()
        if isinstance(wrong, REFUSED) and len(batch) > 1:
            for one in batch:
                self._send([one])
        else:
            settle(batch, done, wrong)
        self._back()


def settle(batch: Sequence[Waiting[Q, A]], done: asyncio.Task[list[A]], wrong: BaseException | None) -> None:
    """Each of its callers learns what became of a call, and its own answers; who gave up learns nothing."""
    start = 0
    for one in batch:
        end = start + len(one.queries)
        if one.answer.done():
            pass
        elif done.cancelled():
            one.answer.cancel()
        elif wrong is not None:
            one.answer.set_exception(wrong)
        else:
            one.answer.set_result(done.result()[start:end])
        start = end


# ---------------------------------------------------------------------------------------------- the four ports


class FeaturesTogether:
    """A Features port whose `users` go together."""

    def __init__(self, port: Features, at_once: int) -> None:
        self._port = port
        self._users: Together[Person, UserState] = Together(lambda people: port.users(people), at_once)

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        return await self._users(people)

    async def record(self, events: Sequence[Event]) -> Receipt:
        return await self._port.record(events)

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        return await self._port.put_items(items)

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        return await self._port.catalogue(after, limit, images)

    async def ready(self) -> Readiness:
        return await self._port.ready()


class RetrievalTogether:
    """A Retrieval port whose `retrieve` go together."""

    def __init__(self, port: Retrieval, at_once: int) -> None:
        self._port = port
        self._retrieve: Together[RetrieveQuery, Candidates] = Together(lambda queries: port.retrieve(queries), at_once)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        return await self._retrieve(queries)

    async def similar(self, query: SimilarQuery) -> Candidates:
        return await self._port.similar(query)

    async def trending(self, query: TrendingQuery) -> Candidates:
        return await self._port.trending(query)

    async def ready(self) -> Readiness:
        return await self._port.ready()


class RankingTogether:
    """A Ranking port whose `rank` go together."""

    def __init__(self, port: Ranking, at_once: int) -> None:
        self._port = port
        self._rank: Together[RankQuery, Predictions] = Together(lambda queries: port.rank(queries), at_once)

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        return await self._rank(queries)

    async def ready(self) -> Readiness:
        return await self._port.ready()


class ExplanationTogether:
    """An Explanation port whose `explain` go together."""

    def __init__(self, port: Explanation, at_once: int) -> None:
        self._port = port
        self._explain: Together[ExplainQuery, tuple[Reason, ...]] = Together(
            lambda queries: port.explain(queries), at_once
        )

    async def explain(self, queries: Sequence[ExplainQuery]) -> list[tuple[Reason, ...]]:
        return await self._explain(queries)

    async def ready(self) -> Readiness:
        return await self._port.ready()
