"""The request path: `recommend` is the platform's diagram as a function, one step a line.

A page can live without any of the four inner services: the stage is then skipped and named in the answer. Writes
cannot: an event that is not durable is not acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import numpy as np

from services.gateway.audited import CATALOGUE_WRITE, written_items
from services.gateway.decisions import DecisionLog
from services.gateway.inner import FEATURE, NOBODY, RANKING, RETRIEVAL, Inner, Reasons
from services.gateway.outcomes import Outcomes
from services.gateway.pages import List, Pages, Plan, Slate
from services.gateway.rules import RuleBook
from services.gateway.settings import Settings
from services.gateway.shown import Shown
from winnow.audit.acts import Act, acted
from winnow.audit.asked import asked
from winnow.catalogue import Catalogue
from winnow.decisions import RECOMMEND, SIMILAR, TRENDING, Decision
from winnow.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from winnow.pipeline import Run
from winnow.ports import ExplainQuery, RankQuery, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import (
    MAX_OFFSET,
    Answer,
    Readiness,
    Recommended,
    RecommendRequest,
    SimilarRequest,
    TrendingRequest,
    Watermarks,
)
from winnow.serving.telemetry import CANDIDATES, EVENTS, observe_stage, request_id
from winnow.tokens import token_of, watermark_of
from winnow.types import (
    EARLIEST,
    HEADS,
    MAX_EVENTS,
    MAX_ITEMS,
    MAX_N,
    MAX_USERS,
    Candidates,
    Context,
    Event,
    Item,
    Predictions,
    Receipt,
    UserState,
)

ARRANGE = "arrange"
VARIANT = "default"
LIST = MAX_OFFSET + MAX_N  # of a list without a ranker: whatever page is asked for, it is cut from the same candidates

T = TypeVar("T")


class Gateway:
    """The Recommender port over the four inner ones."""

    def __init__(
        self, inner: Inner, catalogue: Catalogue, settings: Settings, decisions: DecisionLog, rules: RuleBook
    ) -> None:
        self._inner = inner
        self._catalogue = catalogue
        self._settings = settings
        self._was_ready = False
        self.decisions = decisions
        self.rules = rules
        self._pages = Pages(catalogue, settings, rules)
        self._shown = Shown(catalogue, Outcomes(settings.outcome_pages), VARIANT)
        self.popular = inner.popular

    async def recommend(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        """People → candidates → predictions → slates → reasons → answers; one pass for the whole batch."""
        check_size(requests, MAX_USERS, "requests")
        run, started = Run(observe_stage), time.perf_counter()
        own = own_ids(len(requests))
        contexts = [at_a_moment(request.context) for request in requests]
        users = await self._inner.users(run, [request.person for request in requests])
        plans = [self._pages.plan(request, context) for request, context in zip(requests, contexts, strict=True)]
        found = await self._retrieve(run, requests, users, contexts, plans)
        lists = [self._pages.listed(*one) for one in zip(requests, found, users, contexts, plans, strict=True)]
        ranked = await self._rank(run, requests, users, lists, contexts)
        slates = self._arrange(run, requests, lists, ranked)
        reasons = await self._explain(run, requests, users, slates, contexts)
        tokens = [request.token for request in requests]
        answers = self._answers(run, started, own, users, slates, reasons, tokens)
        self._log(RECOMMEND, answers, users, contexts, slates)
        return answers

    async def similar(self, request: SimilarRequest) -> Answer:
        run, started = Run(observe_stage), time.perf_counter()
        rules = self._pages.rules_of(SIMILAR)
        request = replace(request, filter=rules.within(request.filter))
        query = SimilarQuery(request.item_ids, LIST, request.filter, request.exclude, self._catalogue.watermark)
        found = await self._inner.similar(run, query, lambda: self._instead_of_similar(query))
        slate = self._pages.unranked(request, found, NOBODY, rules, (*request.exclude, *request.item_ids))
        return self._page(SIMILAR, run, started, slate, NOBODY)

    async def trending(self, request: TrendingRequest) -> Answer:
        run, started = Run(observe_stage), time.perf_counter()
        user = (await self._inner.users(run, [request.person]))[0] if request.person else None
        rules = self._pages.rules_of(TRENDING)
        request = replace(request, filter=rules.within(request.filter))
        found = await self._inner.trending(run, TrendingQuery(LIST, user, request.filter, request.exclude))
        slate = self._pages.unranked(request, found, user or NOBODY, rules, request.exclude)
        return self._page(TRENDING, run, started, slate, user or NOBODY)

    async def record(self, events: Sequence[Event]) -> Receipt:
        check_size(events, MAX_EVENTS, "events")
        receipt = await self._write("record", self._inner.features.record(events))
        self._shown.outcomes.happened(events)
        EVENTS.labels(outcome="accepted").inc(receipt.accepted)
        EVENTS.labels(outcome="duplicate").inc(receipt.duplicates)
        return replace(receipt, token=token_of(receipt.watermark))

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        check_size(items, MAX_ITEMS, "items")
        items = self._dated(items)
        audit, about = self.decisions.audit, written_items(items)
        receipt = await acted(audit, CATALOGUE_WRITE, asked(), about, lambda act: self._put(items, act))
        await self._seen_here(receipt.watermark)
        return receipt

    def _dated(self, items: Sequence[Item]) -> list[Item]:
        """An item that does not say when it was created keeps the time that is known of it, and is of now where none is:
        else nothing new would ever count as new."""
        now = datetime.now(UTC).replace(microsecond=0)
        known = (self._catalogue.get(item.item_id) for item in items)
        return [
            replace(item, created_at=before.created_at if before else now) if item.created_at == EARLIEST else item
            for item, before in zip(items, known, strict=True)
        ]

    async def _put(self, items: Sequence[Item], act: Act) -> Receipt:
        receipt = await self._write("put_items", self._inner.features.put_items(items))
        act.told["watermark"] = receipt.watermark
        return receipt

    async def ready(self) -> Readiness:
        """Ready once every part was ready and the catalogue was read; from then on a lost part is a skipped stage."""
        if self._was_ready:
            return Readiness(True)
        missing = await self._inner.missing()
        if not self._catalogue.complete.is_set():
            missing.append("catalogue: still being read")
        self._was_ready = not missing
        return Readiness(not missing, tuple(missing))

    def item(self, item_id: str) -> Item | None:
        """The facts of one item as this gateway knows them."""
        return self._catalogue.get(item_id)

    async def _write(self, verb: str, work: Awaitable[Receipt]) -> Receipt:
        """The receipt of a write; Unavailable when it is not known to be durable in time."""
        try:
            return await Run(observe_stage).required(verb, work, self._settings.budget_s("write"))
        except DeadlineExceeded as late:
            raise Unavailable(f"not known to be durable yet, send it again: {late.detail}") from late

    async def _seen_here(self, watermark: int) -> None:
        """Wait a little until this gateway's catalogue includes what was written."""
        reached = self._catalogue.reach(watermark)
        await Run(observe_stage).optional("catalogue", reached, self._settings.budget_s(FEATURE), lambda: None)

    def _instead_of_similar(self, query: SimilarQuery) -> Candidates:
        """Popular items; NotFound for an item that is not known here either."""
        for n, item_id in enumerate(query.item_ids):
            if item_id not in self._catalogue:
                raise NotFound(f"no item {item_id!r}", field=f"item_ids[{n}]")
        without = (*query.exclude, *query.item_ids)
        return self.popular.candidates(RetrieveQuery(NOBODY, query.n, filter=query.filter, exclude=without))

    # ------------------------------------------------------------------------------------------ steps

    async def _retrieve(
        self,
        run: Run,
        requests: Sequence[RecommendRequest],
        users: Sequence[UserState],
        contexts: Sequence[Context],
        plans: Sequence[Plan],
    ) -> list[Candidates]:
        queries = [
            RetrieveQuery(
                user=user,
                n=self._settings.candidates,
                context=context,
                query=request.query,
                filter=plan.rules.within(request.filter),
                exclude=request.exclude,
                include_seen=request.include_seen,
                vectors=bool(plan.wish.compares),
            )
            for request, user, context, plan in zip(requests, users, contexts, plans, strict=True)
        ]
        found = await self._inner.retrieve(run, queries)
        for candidates in found:
            CANDIDATES.observe(len(candidates))
        return found

    async def _rank(
        self,
        run: Run,
        requests: Sequence[RecommendRequest],
        users: Sequence[UserState],
        lists: Sequence[List],
        contexts: Sequence[Context],
    ) -> Sequence[Predictions | None]:
        queries = [
            RankQuery(user, one.candidates.without_vectors(), context, request.objectives, self.decisions.running)
            for request, user, one, context in zip(requests, users, lists, contexts, strict=True)
        ]
        return await self._inner.rank(run, queries)

    def _arrange(
        self,
        run: Run,
        requests: Sequence[RecommendRequest],
        lists: Sequence[List],
        ranked: Sequence[Predictions | None],
    ) -> list[Slate]:
        with run.step(ARRANGE):
            return [self._pages.slate(*each) for each in zip(requests, lists, ranked, strict=True)]

    async def _explain(
        self,
        run: Run,
        requests: Sequence[RecommendRequest],
        users: Sequence[UserState],
        slates: Sequence[Slate],
        contexts: Sequence[Context],
    ) -> list[Reasons]:
        asked = [n for n, request in enumerate(requests) if request.explain]
        reasons: list[Reasons] = [()] * len(requests)
        if not asked:
            return reasons
        queries = [
            ExplainQuery(
                user=users[n],
                item_ids=slates[n].candidates.item_ids[slates[n].rows],
                sources=tuple(slates[n].candidates.sources_of(row) for row in slates[n].rows),
                context=contexts[n],
            )
            for n in asked
        ]
        answers = await self._inner.explain(run, queries)
        for n, answer in zip(asked, answers, strict=True):
            reasons[n] = answer
        return reasons

    # ------------------------------------------------------------------------------------------ answers

    def _answers(
        self,
        run: Run,
        started: float,
        own: Sequence[str],
        users: Sequence[UserState],
        slates: Sequence[Slate],
        reasons: Sequence[Reasons],
        tokens: Sequence[str],
    ) -> list[Answer]:
        took_ms = {**run.took_ms, "total": (time.perf_counter() - started) * 1000}
        return [
            Answer(
                request_id=one,
                items=self._lines(slate, because),
                bundles=bundles_of(slate),
                variant=VARIANT,
                skipped=(*run.skipped, *parts_skipped(slate)),
                watermark=user.watermark,
                took_ms=took_ms,
                watermarks=self._watermarks(user, slate),
                token_included=user.watermark >= watermark_of(token) if token else None,
            )
            for one, user, slate, because, token in zip(own, users, slates, reasons, tokens, strict=True)
        ]

    def _watermarks(self, user: UserState, slate: Slate) -> Watermarks:
        """Features are computed from the user's own acts: they include what the state includes."""
        return Watermarks(user.watermark, user.watermark, self._catalogue.watermark, bundles_of(slate))

    def _page(self, kind: str, run: Run, started: float, slate: Slate, user: UserState) -> Answer:
        """An answer that nobody ranked or explained."""
        answers = self._answers(run, started, own_ids(1), [user], [slate], [()], [""])
        self._log(kind, answers, [user], [at_a_moment(Context())], [slate])
        return answers[0]

    def _log(
        self,
        kind: str,
        answers: Sequence[Answer],
        users: Sequence[UserState],
        contexts: Sequence[Context],
        slates: Sequence[Slate],
    ) -> None:
        now = datetime.now(UTC)
        for answer, user, context, slate in zip(answers, users, contexts, slates, strict=True):
            decision = Decision(
                request_id=answer.request_id,
                at=now,
                kind=kind,
                user=user,
                context=context,
                candidates=slate.candidates,
                predictions=slate.predictions,
                rows=slate.rows,
                propensities=slate.propensities,
                offset=slate.offset,
                variant=answer.variant,
                skipped=answer.skipped,
                watermarks=answer.watermarks,
                arranged=slate.strengths,
                rules=slate.rules,
            )
            self.decisions.log(decision)
            self._shown.answered(decision)

    def _lines(self, slate: Slate, reasons: Reasons) -> tuple[Recommended, ...]:
        candidates, predictions = slate.candidates, slate.predictions
        heads = None if predictions is None else predictions.heads[slate.rows].astype(np.float64).tolist()
        scores = None if predictions is None else predictions.scores[slate.rows].astype(np.float64).tolist()
        lines = []
        for n, row in enumerate(slate.rows.tolist()):
            item_id = candidates.item_ids[row]
            rank = slate.offset + n + 1
            lines.append(
                Recommended(
                    item_id=item_id,
                    rank=rank,
                    score=1.0 / rank if scores is None else scores[n],
                    predictions=None if heads is None else dict(zip(HEADS, heads[n], strict=True)),
                    sources=candidates.sources_of(row),
                    reason=reasons[n] if reasons else None,
                    item=self._catalogue.get(item_id),
                )
            )
        return tuple(lines)


def own_ids(requests: int) -> list[str]:
    """An id per answer: the current call's where an edge has set one, numbered in a batch."""
    call = request_id.get() or uuid4().hex
    return [call] if requests == 1 else [f"{call}-{n}" for n in range(requests)]


def at_a_moment(context: Context) -> Context:
    """The context with its moment: now where the request names none."""
    return context if context.at is not None else replace(context, at=datetime.now(UTC))


def parts_skipped(slate: Slate) -> list[str]:
    """What a stage that was there went without, named after it."""
    sources = [f"{RETRIEVAL}.{source}" for source in slate.candidates.skipped]
    return [*sources, *(f"{ARRANGE}.{stage}" for stage in slate.left_out)]


def bundles_of(slate: Slate) -> dict[str, str]:
    """Ids of the bundles that made this slate; a stage that was skipped has none."""
    bundles = {RETRIEVAL: slate.candidates.bundle}
    if slate.predictions is not None:
        bundles[RANKING] = slate.predictions.bundle
    return {kind: bundle for kind, bundle in bundles.items() if bundle}


def check_size(batch: Sequence[T], limit: int, name: str) -> None:
    if not 1 <= len(batch) <= limit:
        raise InvalidArgument(f"between 1 and {limit} {name}", field=name)
