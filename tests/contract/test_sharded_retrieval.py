"""Retrieval over parts answers as one service does, near and over gRPC; a part that is lost costs its items and is named."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.__main__ import process
from services.retrieval.build import Settings, build_sharded
from services.retrieval.merge import Blend
from services.retrieval.part import Part
from services.retrieval.sharded import ShardedRetrieval, gathered
from tests.bundles import CATEGORIES, SOURCES, make_user
from tests.retrievals import Shop, put
from tests.wirings import over_grpc
from winnow.errors import InvalidArgument, NotFound, Unavailable
from winnow.filters import Filter, Not, Op, Term
from winnow.ports import Retrieval, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.serving.connect import connect
from winnow.serving.serve import serve_grpc
from winnow.types import Candidates, Directions
from winnow.wire import retrieval as wire

PARTS = 3
TOWER_ALONE = {"retrieval_shares": {"tower": 1.0}, "retrieval_weights": {"tower": 1.0}}
BUDGET_S = 5.0  # of a part: nothing here is late unless it is meant to be


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"), n=150)


class World:
    """One service and its parts over equal catalogues."""

    def __init__(self, shop: Shop, by: str = "", **chosen: object) -> None:
        self.settings = Settings(retrieval_shard_budget_ms=BUDGET_S * 1000, **chosen)
        self.catalogues = [shop.catalogue() for _ in range(PARTS)]
        self.whole = shop.retrieve(**chosen)
        self.parts = [
            shop.retrieve(catalogue, retrieval_shard=f"{n}/{PARTS}{by}", **chosen)
            for n, catalogue in enumerate(self.catalogues)
        ]

    def over(self, shards: Sequence[Retrieval]) -> ShardedRetrieval:
        return build_sharded(self.settings, {f"shard-{n}": shard for n, shard in enumerate(shards)})

    def close(self) -> None:
        for service in (self.whole, *self.parts):
            service.close()


@pytest.fixture(scope="module", params=["", ":category"], ids=["hash", "category"])
def world(request: pytest.FixtureRequest, shop: Shop) -> Iterator[World]:
    with closing(World(shop, request.param)) as world:
        yield world


@pytest.fixture(scope="module", params=["", ":category"], ids=["hash", "category"])
def towers(request: pytest.FixtureRequest, shop: Shop) -> Iterator[World]:
    """Where the vector index alone proposes."""
    with closing(World(shop, request.param, **TOWER_ALONE)) as world:
        yield world


@asynccontextmanager
async def far(world: World) -> AsyncIterator[ShardedRetrieval]:
    """The parts over gRPC, and what asks them over gRPC again."""
    async with AsyncExitStack() as stack:
        shards = [await stack.enter_async_context(over_grpc("retrieval", part)) for part in world.parts]
        yield await stack.enter_async_context(over_grpc("retrieval", world.over(shards)))


filters: st.SearchStrategy[Filter | None] = st.sampled_from(
    [
        None,
        Term("categories", Op.IN, CATEGORIES[:1]),
        Not(Term("brand", Op.IN, ("brand3",))),
        Term("price", Op.LT, number=9),
    ]
)
histories = st.lists(st.integers(0, 149).map(lambda n: f"i{n}"), max_size=12)


@settings(max_examples=12, deadline=None)
@given(history=histories, tree=filters, n=st.integers(1, 170), again=st.booleans())
def test_parts_find_the_nearest_items_that_one_index_finds(
    towers: World, history: list[str], tree: Filter | None, n: int, again: bool
) -> None:
    query = RetrieveQuery(make_user("u1", history), n, filter=tree, include_seen=again)

    async def run() -> list[list[Candidates]]:
        return [await one.retrieve([query]) for one in (towers.whole, towers.over(towers.parts))]

    [one], [other] = asyncio.run(run())
    tower = SOURCES.index("tower")
    assert other.item_ids.tolist()[: len(near(one))] == near(one), "the same nearest, in the same order"
    assert set(other.item_ids) == set(one.item_ids)
    np.testing.assert_allclose(other.scores[:, tower], one.scores[:, tower], atol=1e-6)


def near(found: Candidates) -> list[str]:
    return found.item_ids[(found.sources >> SOURCES.index("tower") & 1) > 0].tolist()


def ties(one: Candidates, other: Candidates) -> int:
    """How many items of one list alone stand for an item of the other alone, of equal score by the source that proposed
    both: which of them comes first is nobody's promise."""
    alone = [
        Counter(
            (source, round(float(mine.scores[row, source]), 5))
            for row in np.flatnonzero(~np.isin(mine.item_ids, yours.item_ids))
            for source in [int(np.flatnonzero(mine.sources[row] >> np.arange(len(SOURCES)) & 1)[0])]
        )
        for mine, yours in ((one, other), (other, one))
    ]
    return (alone[0] & alone[1]).total()


@settings(max_examples=8, deadline=None)
@given(history=histories, tree=filters, n=st.integers(1, 170), words=st.sampled_from(["", "comedy title 17"]))
def test_parts_find_what_one_service_finds_from_all_its_sources(
    world: World, history: list[str], tree: Filter | None, n: int, words: str
) -> None:
    """Up to items of equal scores, and the last few, of which a part may have had too many."""
    query = RetrieveQuery(make_user("u1", history), n, filter=tree, query=words)

    async def run() -> list[list[Candidates]]:
        return [await one.retrieve([query]) for one in (world.whole, world.over(world.parts))]

    [one], [other] = asyncio.run(run())
    assert len(other) == len(one) == len(set(other.item_ids))
    assert other.source_names == SOURCES
    assert not other.skipped
    assert len(set(other.item_ids) & set(one.item_ids)) + ties(one, other) >= 0.9 * len(one) - 2
    row = {item_id: n for n, item_id in enumerate(one.item_ids)}
    for n, item_id in enumerate(other.item_ids):
        if item_id in row:
            np.testing.assert_allclose(other.scores[n], one.scores[row[item_id]], atol=1e-6)


async def test_parts_answer_over_grpc_as_they_do_near(world: World) -> None:
    queries = [RetrieveQuery(make_user("u1", ["i3", "i5"]), 40), RetrieveQuery(make_user("u2"), 7)]
    here = world.over(world.parts)
    async with far(world) as there:
        for one, other in zip(await here.retrieve(queries), await there.retrieve(queries), strict=True):
            assert one.item_ids.tolist() == other.item_ids.tolist()
            assert one.sources.tolist() == other.sources.tolist()
        assert (await there.ready()).ready
        beside = await there.similar(SimilarQuery(("i3", "i6"), 150))
        most = await there.trending(TrendingQuery(150))
        with pytest.raises(NotFound):
            await there.similar(SimilarQuery(("nobody made this",), 3))
        with pytest.raises(InvalidArgument):
            await there.retrieve([RetrieveQuery(make_user("u1"), 0)])
    assert set(beside.item_ids) == {f"i{n}" for n in range(150)} - {"i3", "i6"}
    whole = await world.whole.similar(SimilarQuery(("i3", "i6"), 20))
    assert near(whole) == [item_id for item_id in beside.item_ids if item_id in set(near(whole))]
    recent = most.scores[:, SOURCES.index("trending")]
    assert len(most) == 150
    assert (np.diff(recent) <= 0).all()


async def test_vectors_of_parts_are_those_of_one_service_near_and_far(world: World) -> None:
    query = RetrieveQuery(make_user("u1", ["i3", "i5"]), 150, vectors=True)
    [whole] = await world.whole.retrieve([query])
    assert whole.vectors is not None
    exact = dict(zip(whole.item_ids, whole.vectors.tolist(), strict=True))
    async with far(world) as there:
        for port in (world.over(world.parts), there):
            [found] = await port.retrieve([query])
            assert found.vectors is not None
            assert dict(zip(found.item_ids, found.vectors.tolist(), strict=True)) == exact
            [plain] = await port.retrieve([replace(query, vectors=False)])
            assert plain.vectors is None
            assert found.skipped == plain.skipped == ()


OLD = np.full((1, 2), 5, np.int8)


def part(item_id: str, bundle: str, vectors: Directions | None) -> Candidates:
    columns = np.asarray([1], np.uint32), np.ones((1, 1), np.float32), ("x",)
    return Candidates(np.asarray([item_id], object), *columns, bundle=bundle, vectors=vectors)


@pytest.mark.parametrize("other", [part("b", "new", OLD), part("b", "old", None)], ids=["promotion", "older release"])
def test_what_another_model_says_of_an_item_is_left_out_and_named(other: Candidates) -> None:
    def over(*parts: Candidates) -> Candidates:
        return gathered(parts, lambda names: [Blend(1.0, 1.0) for _ in names], 5)

    both = over(part("a", "old", OLD), other)
    assert both.vectors is not None
    assert dict(zip(both.item_ids, both.vectors.tolist(), strict=True)) == {"a": [5, 5], "b": [0, 0]}
    assert both.skipped == ("vectors",)
    for alone in (over(part("a", "old", OLD), other.take(np.empty(0, np.int64))), over(other, other)):
        assert alone.skipped == (), "nothing of it is missing"
    assert over(part("a", "old", None), part("b", "old", None)).vectors is None


class Lost:
    """A part that is down, or slow."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        await asyncio.sleep(self.wait_s)
        raise Unavailable("gone")

    async def similar(self, query: SimilarQuery) -> Candidates:
        raise Unavailable("gone")

    async def trending(self, query: TrendingQuery) -> Candidates:
        raise Unavailable("gone")

    async def ready(self) -> Readiness:
        raise Unavailable("gone")


@pytest.mark.parametrize("lost", [Lost(), Lost(60)], ids=["down", "late"])
async def test_a_lost_part_costs_its_items_and_is_named(world: World, shop: Shop, lost: Lost) -> None:
    patience = world.settings.model_copy(update={"retrieval_shard_budget_ms": 1_500.0})
    there = build_sharded(patience, {"shard-0": world.parts[0], "shard-1": lost, "shard-2": world.parts[2]})
    [found] = await there.retrieve([RetrieveQuery(make_user("u1"), 150)])
    gone = world.parts[1].part
    assert gone is not None
    assert set(found.item_ids) == {item.item_id for item in shop.items if not gone.holds(item)}
    assert found.skipped == ("shard-1",)


async def test_a_process_over_parts_goes_on_without_one_that_ended(world: World, shop: Shop) -> None:
    servers = [await serve_grpc([wire.register(part)], "127.0.0.1:0", grace_s=0.1) for part in world.parts]
    addresses = ",".join(server.address for server in servers)
    asking = await process(Settings(retrieval_shards=addresses, retrieval_shard_budget_ms=BUDGET_S * 1000))
    server = await serve_grpc(asking.grpc, "127.0.0.1:0", grace_s=0.1)
    async with connect(server.address) as channel:
        client = wire.RetrievalClient(channel, timeout_s=10)
        [whole] = await client.retrieve([RetrieveQuery(make_user("u1"), 150)])
        await servers[1].stop()
        [found] = await client.retrieve([RetrieveQuery(make_user("u1"), 150)])
    await asyncio.gather(server.stop(), servers[0].stop(), servers[2].stop())
    gone = world.parts[1].part
    assert gone is not None
    assert (len(whole), whole.skipped) == (150, ())
    assert set(found.item_ids) == {item.item_id for item in shop.items if not gone.holds(item)}
    assert found.skipped == ("shard-1",)


async def test_no_part_at_all_is_unavailable_and_a_lost_one_does_not_make_it_unready(world: World) -> None:
    with pytest.raises(Unavailable):
        await world.over([Lost(), Lost()]).retrieve([RetrieveQuery(make_user("u1"), 5)])
    shards: list[Retrieval] = [world.parts[0], Lost(), world.parts[2]]
    there = world.over(shards)
    before = await there.ready()
    assert (before.ready, before.missing) == (False, ("shard-1: gone",))
    there._shards["shard-1"] = world.parts[1]
    assert (await there.ready()).ready
    there._shards["shard-1"] = Lost()
    assert (await there.ready()).ready
    assert await there.retrieve([]) == []


async def test_an_item_that_changes_its_category_changes_its_part(shop: Shop) -> None:
    with closing(World(shop, ":category")) as world:
        moved = replace(shop.items[8], categories=("a new one",), title="Zanzibar nights")
        homes = [Part(n, PARTS, "category").holds(moved) for n in range(PARTS)]
        for part, catalogue in zip(world.parts, world.catalogues, strict=True):
            put(part, catalogue, moved)
            await part.settled()
        found = [await part.trending(TrendingQuery(150)) for part in world.parts]
        assert ["i8" in one.item_ids for one in found] == homes
        near = [(await part.similar(SimilarQuery(("i7",), 150))).item_ids for part in world.parts]
        assert ["i8" in ids for ids in near] == homes
        assert sum(len(one) for one in found) == 150


def test_an_item_of_two_parts_comes_once_and_parts_of_two_releases_go_together() -> None:
    one = Candidates(
        np.asarray(["a", "b"], object), np.asarray([1, 2], np.uint32), np.eye(2, dtype=np.float32), ("x", "y")
    )
    other = Candidates(
        np.asarray(["b", "c"], object), np.asarray([1, 1], np.uint32), np.ones((2, 1), np.float32), ("z",)
    )
    found = gathered([one, other], lambda names: [Blend(1.0, 1.0) for _ in names], 5)
    assert sorted(found.item_ids) == ["a", "b", "c"]
    assert found.source_names == ("x", "y", "z")
    assert {item_id: found.sources_of(n) for n, item_id in enumerate(found.item_ids)} == {
        "a": ("x",),
        "b": ("y",),
        "c": ("z",),
    }


@pytest.mark.parametrize("text", ["4/4", "1", "-1/3", "0/0", "1/2:price", "0/99999", "a/b", "1/2/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        Settings(retrieval_shard=text)


def test_every_item_is_in_one_part(shop: Shop) -> None:
    for by in ("hash", "category"):
        held = np.sum([Part(n, 4, by).mask(shop.items) for n in range(4)], axis=0)  # type: ignore[arg-type]
        assert (held == 1).all()
