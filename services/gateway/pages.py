"""How one list becomes a page: what is wished of it and which rules count before anybody is asked, and the order after.

Models' order, then variety, the floor under new items, the shop's rules, and chance within what all of these say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from services.gateway.arrange import arrange, weigh_words
from services.gateway.explore import Explore
from services.gateway.new_items import NewItems
from services.gateway.ruled import Ruled
from services.gateway.rules import Active, RuleBook
from services.gateway.settings import Settings
from services.gateway.varied import Varied, Wish
from winnow.catalogue import Catalogue, Rows
from winnow.decisions import RECOMMEND
from winnow.requests import RecommendRequest, SimilarRequest, TrendingRequest
from winnow.types import Candidates, Context, Floats, Predictions, UserState


@dataclass(frozen=True, eq=False)
class Slate:
    """One page on its way: `rows` are the places of its items in the candidates, `propensities` how likely each was to
    stand there. `left_out` are the stages of arranging that could not be."""

    candidates: Candidates
    predictions: Predictions | None
    rows: Rows
    offset: int
    propensities: Floats
    left_out: tuple[str, ...] = ()
    rules: str = ""  # version of the rules that counted
    strengths: Mapping[str, float] = field(default_factory=dict)  # of the stages of arranging that were wished for


@dataclass(frozen=True, slots=True)
class Plan:
    """How one list is to be arranged."""

    wish: Wish
    rules: Active


@dataclass(frozen=True, slots=True, eq=False)
class List:
    """Candidates with what is pinned among them; `fixed` says which row stands at which place from 0."""

    candidates: Candidates
    context: Context
    plan: Plan
    fixed: Mapping[int, int]


class Pages:
    """Arranges lists by the platform's settings, the shop's rules and what requests wish."""

    def __init__(self, catalogue: Catalogue, settings: Settings, rules: RuleBook) -> None:
        self._words = settings.query_weight
        self._varied = Varied(catalogue, settings)
        self._new = NewItems(catalogue, settings.new_items_share, settings.new_items_days)
        self._ruled = Ruled(catalogue, rules)
        self._explore = Explore(settings.explore, settings.explore_pool, settings.explore_s)

    def plan(self, request: RecommendRequest, context: Context) -> Plan:
        rules = self._ruled.active(RECOMMEND, context, moment_of(context), searched=bool(request.query))
        return Plan(self._varied.wish(request), rules)

    def rules_of(self, kind: str) -> Active:
        """Those of a list without a context."""
        return self._ruled.active(kind, Context(), datetime.now(UTC))

    def listed(
        self, request: RecommendRequest, found: Candidates, user: UserState, context: Context, plan: Plan
    ) -> List:
        """The candidates with what is pinned among them."""
        candidates, fixed = self._ruled.pinned(
            found, plan.rules, user, request.filter, request.exclude, request.include_seen
        )
        return List(candidates, context, plan, fixed)

    def slate(self, request: RecommendRequest, one: List, heads: Predictions | None) -> Slate:
        """One page, as varied as it is wished, the floor under new items and the rules kept; a request's own words outrank
        all but what is blocked."""
        candidates, wish, rules, at = one.candidates, one.plan.wish, one.plan.rules, moment_of(one.context)
        floor = {} if request.query else self._new.strengths
        chance = {} if request.query else self._explore.strengths
        if request.query:
            heads = weigh_words(candidates, heads, self._words)
        heads = self._ruled.boosted(candidates, heads, rules)
        propensities = np.ones(len(candidates), np.float32)

        def lift(order: Rows) -> Rows:
            order = self._varied.order(order, candidates, heads, wish, at)
            order = self._new.lifted(order, candidates.item_ids, at) if floor else order
            order = self._ruled.raised(order, candidates, rules) if heads is None else order
            order = self._ruled.order(order, candidates, rules, one.fixed)
            if chance:
                order, propensities[order] = self._drawn(request, one, order)
            return order

        rows = arrange(candidates, heads, request.offset, request.n, lift)
        left_out = self._varied.left_out(wish, candidates)
        strengths = {**self._varied.strengths(wish), **floor, **chance}
        plain, likely = candidates.without_vectors(), propensities[rows]
        return Slate(plain, heads, rows, request.offset, likely, left_out, rules.version, strengths)

    def unranked(
        self,
        request: SimilarRequest | TrendingRequest,
        found: Candidates,
        user: UserState,
        rules: Active,
        exclude: tuple[str, ...],
    ) -> Slate:
        """One page in retrieval's own order, but for the rules."""
        candidates, fixed = self._ruled.pinned(found, rules, user, request.filter, exclude)

        def lift(order: Rows) -> Rows:
            return self._ruled.order(self._ruled.raised(order, candidates, rules), candidates, rules, fixed)

        rows = arrange(candidates, None, request.offset, request.n, lift)
        return Slate(candidates, None, rows, request.offset, np.ones(len(rows), np.float32), rules=rules.version)

    def _drawn(self, request: RecommendRequest, one: List, order: Rows) -> tuple[Rows, Floats]:
        """The order with some places left to chance, among candidates of which every promise says the same."""
        candidates, plan, at = one.candidates, one.plan, moment_of(one.context)
        by_rules, new = self._ruled.alike(candidates, plan.rules), self._new.marks(candidates.item_ids, at)
        alike = np.vstack([by_rules, new, self._varied.marks(candidates, plan.wish)])
        seed = self._explore.seed(request.person, request.context.surface, at.timestamp())
        return self._explore.draw(order, alike, one.fixed.values(), seed)


def moment_of(context: Context) -> datetime:
    """When the request happens; now where nothing says so."""
    return context.at or datetime.now(UTC)
