"""Varied pages through the gateway's ports: nothing lost, nothing twice, each stage keeps what it promises, near and far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from services.gateway.build import build
from services.gateway.recommender import Gateway
from services.gateway.settings import Settings
from services.gateway.varied import PLACES, Varied, Wish
from tests.bundles import STATS_AT
from tests.gateways import Inner
from tests.homes import BUDGETS, STAGES
from tests.retrievals import Shop
from tests.wirings import over_grpc
from winnow.catalogue import Catalogue
from winnow.decisions import Decision
from winnow.directions import packed, unpacked
from winnow.errors import InvalidArgument, Unavailable
from winnow.ports import RankQuery, Recommender, RetrieveQuery
from winnow.requests import Answer, RecommendRequest
from winnow.types import Candidates, Context, Floats, Item, Person, Predictions, Strings, strings

N, DIM, PAGE, KINDS = 80, 16, 10, 12
AT = Context(at=STATS_AT)
ALIKE = 0.95
EVERYTHING = {
    "slate_duplicates": ALIKE,
    "slate_diversity": 0.3,
    "slate_category_cap": 3,
    "slate_freshness": 0.2,
    "new_items_share": 0.1,
}
ONES: dict[str, dict[str, Any]] = {
    "off": {},
    "duplicates": {"slate_duplicates": ALIKE},
    "mmr": {"slate_diversity": 0.5},
    "dpp": {"slate_diversity": 0.2, "slate_diversity_by": "dpp"},
    "cap": {"slate_category_cap": 2},
    "freshness": {"slate_freshness": 1.0},
    "everything": EVERYTHING,
    "everything, dpp": EVERYTHING | {"slate_diversity_by": "dpp"},
}


@dataclass(eq=False)
class World(Inner):
    """Items of a few kinds, near-duplicates among them, and two services that know their vectors and scores."""

    vectors: Floats
    scores: Floats
    items: list[Item]
    says_vectors: bool = True

    def __post_init__(self) -> None:
        Inner.__init__(self)
        self.asked: list[RetrieveQuery] = []
        self.row = {item.item_id: n for n, item in enumerate(self.items)}
        self.catalogue = Catalogue()
        self.catalogue.upsert(self.items)
        self.catalogue.advance(len(self.items), complete=True)

    @classmethod
    def of(cls, seed: int, n: int = N) -> World:
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, KINDS, n)
        vectors = (
            rng.normal(size=(KINDS, DIM))[kind]
            + rng.choice([0.02, 1.0], (n, 1), p=[0.7, 0.3]) * rng.normal(size=(n, DIM))
        ).astype("f4")
        vectors[rng.random(n) < 0.1] = 0  # of these nobody knows
        ages = rng.choice([0, 5, 100, 900], n)
        items = [
            Item(
                f"i{row}",
                categories=() if row % 9 == 0 else (f"kind {kind[row] % 4}",),
                created_at=STATS_AT - timedelta(days=int(ages[row])),
            )
            for row in range(n)
        ]
        return cls(vectors, rng.random(n).astype(np.float32), items)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        await self._meet("retrieval")
        self.asked += queries
        return [self._found(query) for query in queries]

    def _found(self, query: RetrieveQuery) -> Candidates:
        n, said = len(self.items), query.vectors and self.says_vectors
        ids, columns = strings(list(self.row)), (np.ones(n, np.uint32), np.zeros((n, 1), np.float32), ("tower",))
        return Candidates(ids, *columns, bundle="r", vectors=packed(self.vectors) if said else None)

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        await self._meet("ranking")
        self.ranked += queries
        return [self._ranked(query.candidates.item_ids) for query in queries]

    def _ranked(self, item_ids: Strings) -> Predictions:
        rows = [self.row[item_id] for item_id in item_ids]
        return Predictions(np.zeros((len(rows), 3), np.float32), self.scores[rows], "k")

    def gateway(self, **chosen: Any) -> Gateway:
        return build(Settings(**BUDGETS, **chosen), self.catalogue, self, self, self, self)

    def answer(self, ask: dict[str, Any] | None = None, **chosen: Any) -> Answer:
        return asyncio.run(one(self.gateway(**chosen), **ask or {}))

    def page(self, ask: dict[str, Any] | None = None, **chosen: Any) -> list[str]:
        return ids(self.answer(ask, **chosen))

    def likeness(self, page: Sequence[str]) -> Floats:
        own = unpacked(packed(self.vectors))[[self.row[item_id] for item_id in page]]
        return own @ own.T - np.eye(len(page), dtype=np.float32)

    def categories(self, page: Sequence[str]) -> list[tuple[str, ...]]:
        return [self.items[self.row[item_id]].categories for item_id in page]


async def one(port: Recommender, **ask: Any) -> Answer:
    asked: dict[str, Any] = {"n": PAGE, "explain": False, "context": AT, **ask}
    return (await port.recommend([RecommendRequest(Person("u"), **asked)]))[0]


def ids(answer: Answer) -> list[str]:
    return [line.item_id for line in answer.items]


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", ONES)
@given(seed=seeds, n=st.integers(1, N), cut=st.lists(st.integers(1, 30), min_size=1, max_size=3))
@settings(max_examples=8, deadline=None)
def test_pages_of_any_length_are_one_list_without_gap_or_repetition(
    name: str, seed: int, n: int, cut: list[int]
) -> None:
    world = World.of(seed, n)
    gateway = world.gateway(**ONES[name])

    async def pages() -> list[str]:
        found: list[str] = []
        while page := ids(await one(gateway, n=cut[len(found) % len(cut)], offset=len(found))):
            found += page
        return found

    assert sorted(asyncio.run(pages())) == sorted(world.row), "nothing is lost and nothing is there twice"


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_near_duplicates_are_not_on_one_page_while_there_are_others(seed: int) -> None:
    world = World.of(seed)
    for name in ("duplicates", "everything", "everything, dpp"):
        page = world.page(**ONES[name] | {"new_items_share": 0.0})
        assert world.likeness(page).max() <= ALIKE
    assert sorted(world.page({"n": N}, slate_duplicates=ALIKE)) == sorted(world.row), "they come last"


def test_the_pages_above_would_repeat_themselves() -> None:
    repeats = [world.likeness(world.page()).max() > ALIKE for world in map(World.of, range(20))]
    assert np.mean(repeats) > 0.5


@given(seeds, st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_no_category_has_more_places_of_a_page_than_its_cap_while_others_are_there(seed: int, cap: int) -> None:
    world = World.of(seed)
    shown: list[str] = []
    for offset in (0, PAGE):
        left = world.categories([item_id for item_id in world.row if item_id not in shown])
        room = sum(min(left.count(kind), cap) if kind else left.count(kind) for kind in set(left))
        page = world.page({"offset": offset}, slate_category_cap=cap)
        kinds = [kind for kind in world.categories(page) if kind]
        if room >= PAGE:
            assert max(kinds.count(kind) for kind in kinds) <= cap
        shown += page


@pytest.mark.parametrize("by", ["mmr", "dpp"])
def test_a_page_grows_more_varied_with_the_strength_and_the_requests_own_counts(by: str) -> None:
    worlds = [World.of(seed) for seed in range(12)]

    def likeness(ask: dict[str, Any], default: float) -> float:
        chosen = {"slate_diversity": default, "slate_diversity_by": by}
        return float(np.mean([world.likeness(world.page(ask, **chosen)).mean() for world in worlds]))

    none, some, much = (likeness({}, strength) for strength in (0.0, 0.2, 0.7))
    assert none > some > much
    assert likeness({"diversity": 0.7}, 0.0) == likeness({"diversity": 0.7}, 0.2) == much
    assert likeness({"diversity": 0.0}, 0.7) == none


def test_what_is_new_comes_sooner_and_by_its_age() -> None:
    world = World.of(3)
    age = {item.item_id: (STATS_AT - item.created_at).days for item in world.items}
    plain, fresh = world.page({"n": 20}), world.page({"n": 20}, slate_freshness=1.0)
    assert np.mean([age[one] for one in fresh]) < np.mean([age[one] for one in plain])
    world.scores[:] = 1.0
    assert np.diff([age[one] for one in world.page({"n": N}, slate_freshness=0.1)]).min() >= 0


def test_the_floor_under_new_items_outranks_the_stages() -> None:
    for seed in range(5):
        world = World.of(seed)
        new = {item.item_id for item in world.items if (STATS_AT - item.created_at).days <= 14}
        shown: list[str] = []
        for offset in (0, PAGE):
            shown += world.page({"offset": offset}, **EVERYTHING | {"new_items_share": 0.5})
            assert len(new & set(shown)) >= len(shown) // 2


@pytest.mark.parametrize("name", ONES)
async def test_near_and_over_grpc_the_answers_are_equal(name: str) -> None:
    world = World.of(7)
    here = world.gateway(**ONES[name])
    async with AsyncExitStack() as stack:
        far = [await stack.enter_async_context(over_grpc(part, world)) for part in STAGES]
        platform = build(Settings(**BUDGETS, **ONES[name]), world.catalogue, *far)
        there = await stack.enter_async_context(over_grpc("gateway", platform))
        for ask in ({}, {"offset": 10}, {"diversity": 0.9}, {"diversity": 0.0}):
            near, distant = await one(here, **ask), await one(there, **ask)
            assert ids(near) == ids(distant)
            assert near.skipped == distant.skipped == ()


def test_vectors_are_asked_for_only_where_a_stage_compares_and_go_no_further() -> None:
    world = World.of(0)
    logged: list[Decision] = []
    for ask, chosen in (
        ({}, {}),
        ({}, {"slate_category_cap": 2, "slate_freshness": 0.1, "new_items_share": 0.1}),
        ({"query": "words"}, EVERYTHING),
        ({"diversity": 0.0}, {"slate_diversity": 0.3}),
        ({}, {"slate_duplicates": 0.9}),
        ({"diversity": 0.1}, {}),
        ({"diversity": 0.1, "query": "words"}, {}),
    ):
        gateway = world.gateway(**chosen)
        gateway.decisions.log = logged.append  # type: ignore[method-assign]
        asyncio.run(one(gateway, **ask))
    assert [query.vectors for query in world.asked] == [False] * 4 + [True] * 3
    assert all(query.candidates.vectors is None for query in world.ranked)
    assert all(one.candidates.vectors is None for one in logged)


@pytest.mark.parametrize(
    ("ask", "chosen", "told"),
    [
        ({}, {}, {}),
        ({"diversity": 0.4}, {"slate_diversity": 0.3, "slate_diversity_by": "dpp"}, {"dpp": 0.4}),
        ({"diversity": 0.0}, {"slate_diversity": 0.3, "slate_duplicates": 0.9}, {"duplicates": 0.9}),
        ({}, {"slate_freshness": 0.1, "slate_fresh_days": 7.0}, {"freshness": 0.1, "fresh_days": 7.0}),
        (
            {},
            {"slate_category_cap": 2, "new_items_share": 0.1},
            {"category_cap": 2.0, "new_items_share": 0.1, "new_items_days": 14.0},
        ),
        ({"query": "words", "diversity": 0.2}, {"slate_category_cap": 2, "new_items_share": 0.1}, {"mmr": 0.2}),
    ],
)
def test_a_decision_says_how_strong_each_stage_was(
    ask: dict[str, Any], chosen: dict[str, Any], told: dict[str, float]
) -> None:
    logged: list[Decision] = []
    gateway = World.of(0).gateway(**chosen)
    gateway.decisions.log = logged.append  # type: ignore[method-assign]
    asyncio.run(one(gateway, **ask))
    assert [dict(decision.arranged) for decision in logged] == [told]


def test_a_search_is_as_its_words_say_unless_it_asks_itself() -> None:
    world = World.of(1)
    plain = world.page()
    assert world.page(**EVERYTHING) != plain
    assert world.page({"query": "words"}, **EVERYTHING) == plain
    assert world.page({"query": "words", "diversity": 0.9}, **EVERYTHING) == world.page({"diversity": 0.9})


@pytest.mark.parametrize("why", ["older release", "one number", "lost"])
def test_without_vectors_what_compares_is_left_out_and_named_and_the_rest_stays(why: str) -> None:
    world = World.of(2)
    rest = {"slate_category_cap": 3, "slate_freshness": 0.2, "new_items_share": 0.1}
    expected = world.page(**rest)
    skipped = ("arrange.duplicates", "arrange.diversity")
    if why == "older release":
        world.says_vectors = False
    elif why == "one number":
        world.vectors = world.vectors[:, :1]
    else:
        world.trouble["retrieval"] = Unavailable("gone")
        skipped, expected = ("retrieval", *skipped), world.page(**rest)
    answer = world.answer(**EVERYTHING)
    assert answer.skipped == skipped
    assert ids(answer) == expected
    assert world.answer(**rest).skipped == (("retrieval",) if why == "lost" else ())
    assert world.answer({"diversity": 0.2}).skipped[-1] == "arrange.diversity"
    assert "arrange.diversity" not in world.answer({"diversity": 0.0}, **EVERYTHING).skipped


def test_without_ranking_retrievals_order_is_made_varied() -> None:
    world = World.of(4)
    world.trouble["ranking"] = Unavailable("gone")
    plain = world.page()
    assert plain == list(world.row)[:PAGE]
    for name in ("duplicates", "mmr", "dpp", "cap", "freshness"):
        page = world.page(**ONES[name])
        assert page != plain
        assert len(set(page)) == PAGE
    assert world.page(slate_diversity=0.001)[0] == plain[0]


def test_the_vectors_of_a_real_bundle_make_a_page_varied(tmp_path: Path) -> None:
    shop, inner = Shop.make(tmp_path, n=120), Inner()
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as retrieval:

        def likeness(**chosen: Any) -> float:
            gateway = build(Settings(**BUDGETS, **chosen), catalogue, inner, retrieval, inner, inner)
            answer = asyncio.run(one(gateway))
            assert answer.skipped == ()
            vectors = retrieval.vectors[catalogue.rows(ids(answer))]
            return float((vectors @ vectors.T).mean())

        assert likeness(slate_diversity=0.9) < likeness() - 0.01


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused_by_name(diversity: float) -> None:
    with pytest.raises(InvalidArgument) as refused:
        RecommendRequest(Person("u"), diversity=diversity)
    assert refused.value.field == "diversity"


async def test_a_batch_gives_everybody_what_they_asked_for() -> None:
    world = World.of(5)
    gateway = world.gateway(slate_diversity=0.2)
    asked = [RecommendRequest(Person("u"), context=AT, explain=False, diversity=own) for own in (None, 0.0, 0.8)]
    together = [ids(answer) for answer in await gateway.recommend(asked)]
    assert together == [ids((await gateway.recommend([request]))[0]) for request in asked]
    assert len({tuple(page) for page in together}) == 3


@pytest.mark.parametrize("name", ONES)
def test_a_stage_takes_less_than_two_milliseconds_for_two_hundred_items_and_nothing_when_it_is_off(name: str) -> None:
    """Of CPU, the best of several and on one core, as a serving process has it: what else the machine does is not the stage's.
    Four of them may take four times as long."""
    rng = np.random.default_rng(0)
    world = World.of(0, 500)
    world.vectors = rng.normal(size=(500, 128)).astype(np.float32)
    varied = Varied(world.catalogue, Settings(**ONES[name]))
    request = RecommendRequest(Person("u"))
    found = world._found(RetrieveQuery(None, 500, vectors=True))  # type: ignore[arg-type]  # it does not look at people
    ranked = world._ranked(found.item_ids)
    order = np.argsort(-ranked.scores)

    def cpu_s() -> float:
        started = time.thread_time()
        made = varied.order(order, found, ranked, varied.wish(request), STATS_AT)
        assert (made is order) == (name == "off")
        return time.thread_time() - started

    limit_s = {"off": 50e-6, "everything": 8e-3, "everything, dpp": 8e-3}.get(name, 2e-3)
    with threadpool_limits(1, "blas"):
        assert min(cpu_s() for _ in range(20)) < limit_s


def test_diversity_decides_the_first_pages_and_leaves_the_others_as_they_are() -> None:
    world = World.of(6, 300)
    varied = Varied(world.catalogue, Settings())
    found = world._found(RetrieveQuery(None, 300, vectors=True))  # type: ignore[arg-type]
    order = np.arange(300)
    made = varied.order(order, found, None, Wish(diversity=0.9), STATS_AT)
    rest = made[PLACES:]
    assert rest.tolist() == sorted(rest.tolist())
    assert made[:PLACES].tolist() != sorted(made[:PLACES].tolist())
    assert replace(Wish(), cap=1).compares == ()
