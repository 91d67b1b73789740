"""What every Retrieval must keep, however it is wired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.build import build
from services.gateway.settings import Settings
from services.retrieval.service import RetrievalService
from tests.bundles import CATEGORIES, SOURCES, make_user
from tests.gateways import Inner
from tests.retrievals import Shop
from tests.wirings import over_grpc
from winnow.directions import unpacked
from winnow.errors import InvalidArgument, NotFound
from winnow.filters import All, Any, Filter, Not, Op, Term, holds
from winnow.ports import Retrieval, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import SimilarRequest
from winnow.seen import fingerprints
from winnow.types import Candidates, Context, Item, UserState, strings

Opened = AbstractAsyncContextManager[Retrieval]
GONE = {f"i{n}" for n in range(0, 200, 13)}  # not available


@asynccontextmanager
async def near(service: Retrieval) -> AsyncIterator[Retrieval]:
    yield service


def grpc(service: Retrieval) -> Opened:
    return over_grpc("retrieval", service)


WIRINGS: dict[str, Callable[[Retrieval], Opened]] = {"near": near, "grpc": grpc}
"""How to reach the service: each gives the port and closes it."""


def shelf(shop: Shop) -> list[Item]:
    """The shop's items, some of them sold out, in another order than the bundle's."""
    return [replace(item, available=item.item_id not in GONE) for item in reversed(shop.items)]


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"), index=request.param)


@pytest.fixture(scope="module")
def service(shop: Shop) -> Iterator[Retrieval]:
    with closing(shop.retrieve(shop.catalogue(shelf(shop)))) as service:
        yield service


@pytest.fixture(scope="module", params=list(WIRINGS))
def opened(request: pytest.FixtureRequest, service: Retrieval) -> Callable[[], Opened]:
    return lambda: WIRINGS[request.param](service)


def check(found: Candidates, n: int, allowed: set[str]) -> None:
    """As many as asked while items match, each once, only allowed ones, every column sane."""
    ids = found.item_ids.tolist()
    assert len(set(ids)) == len(ids) == min(n, len(allowed))
    assert set(ids) <= allowed
    assert found.source_names == SOURCES
    assert found.scores.shape == (len(ids), len(SOURCES))
    assert found.scores.dtype == np.float32
    assert np.isfinite(found.scores).all()
    assert (found.sources > 0).all()
    assert found.bundle
    assert not found.skipped


terms = st.one_of(
    st.builds(
        lambda values: Term("categories", Op.IN, tuple(values)), st.lists(st.sampled_from(CATEGORIES), min_size=1)
    ),
    st.builds(lambda n: Term("brand", Op.IN, (f"brand{n}",)), st.integers(0, 21)),
    st.builds(lambda op, x: Term("price", op, number=x), st.sampled_from([Op.LT, Op.GE]), st.floats(0, 60)),
    st.builds(lambda c: Term("attributes.colour", Op.IN, (c,)), st.sampled_from(["red", "green", "mauve"])),
    st.builds(lambda flag: Term("available", Op.IS, flag=flag), st.booleans()),
)
trees: st.SearchStrategy[Filter | None] = st.none() | st.recursive(
    terms,
    lambda part: st.one_of(
        st.builds(lambda parts: All(tuple(parts)), st.lists(part, max_size=3)),
        st.builds(lambda parts: Any(tuple(parts)), st.lists(part, max_size=3)),
        st.builds(Not, part),
    ),
    max_leaves=4,
)
numbers = st.lists(st.integers(0, 220), max_size=40)  # some of no item


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=trees,
    seen=numbers,
    tail=numbers,
    exclude=numbers,
    include_seen=st.booleans(),
    n=st.integers(1, 250),
    query=st.sampled_from(["", "comedy", "drama title 17", '"*)(NEAR', "zzz"]),
)
def test_lists_are_full_of_matching_unseen_items(
    opened: Callable[[], Opened],
    shop: Shop,
    tree: Filter | None,
    seen: list[int],
    tail: list[int],
    exclude: list[int],
    include_seen: bool,
    n: int,
    query: str,
) -> None:
    ids = [f"i{n}" for n in seen]
    marks = fingerprints(f"i{n}" for n in tail)
    user = make_user("u1", ids, seen_tail=marks)
    left_out = {f"i{n}" for n in exclude} | (set() if include_seen else {*ids, *(f"i{n}" for n in tail)})
    allowed = {item.item_id for item in shelf(shop) if item.available and (tree is None or holds(tree, item))}
    asked = RetrieveQuery(
        user, n, filter=tree, query=query, exclude=tuple(f"i{n}" for n in exclude), include_seen=include_seen
    )

    async def run() -> Candidates:
        async with opened() as port:
            return (await port.retrieve([asked]))[0]

    check(asyncio.run(run()), n, allowed - left_out)


def people(shop: Shop) -> list[UserState]:
    """A heavy, two light and two unknown people, one of them with acts on items nobody knows."""
    rng = np.random.default_rng(3)
    histories = [[f"i{row}" for row in rng.integers(0, len(shop.items), size)] for size in (80, 4, 1, 0)]
    return [make_user(f"u{n}", ids) for n, ids in enumerate(histories)] + [make_user("new", ["never", "heard", "of"])]


async def test_a_batch_answers_like_one_by_one(opened: Callable[[], Opened], shop: Shop) -> None:
    queries = [RetrieveQuery(user, n) for user in people(shop) for n in (5, 60)]
    queries += [RetrieveQuery(people(shop)[0], 30, filter=Term("brand", Op.IN, ("brand3",)), query="comedy")]
    async with opened() as port:
        together = await port.retrieve(queries)
        apart = [(await port.retrieve([query]))[0] for query in queries]
    for one, other in zip(together, apart, strict=True):
        assert one.item_ids.tolist() == other.item_ids.tolist()
        assert one.sources.tolist() == other.sources.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


async def test_calls_at_the_same_time_do_not_mix(opened: Callable[[], Opened], shop: Shop) -> None:
    queries = [RetrieveQuery(user, 20) for user in people(shop)] * 6
    async with opened() as port:
        alone = await port.retrieve(queries)
        at_once = await asyncio.gather(*(port.retrieve([query]) for query in queries))
    assert [c.item_ids.tolist() for c in alone] == [c.item_ids.tolist() for [c] in at_once]


async def test_different_people_get_different_candidates(opened: Callable[[], Opened], shop: Shop) -> None:
    async with opened() as port:
        found = await port.retrieve([RetrieveQuery(user, 10) for user in people(shop)[:3]])
    assert len({tuple(candidates.item_ids) for candidates in found}) == 3


async def test_somebody_without_history_gets_a_full_list(opened: Callable[[], Opened], shop: Shop) -> None:
    async with opened() as port:
        for user in people(shop)[3:]:
            [found] = await port.retrieve([RetrieveQuery(user, 50)])
            check(found, 50, {item.item_id for item in shelf(shop) if item.available})


async def test_a_candidate_says_which_sources_proposed_it(opened: Callable[[], Opened], shop: Shop) -> None:
    async with opened() as port:
        [found] = await port.retrieve([RetrieveQuery(people(shop)[0], 60)])
    said = {name for row in range(len(found)) for name in found.sources_of(row)}
    assert said == {"tower", "sequence", "item_to_item", "trending", "fresh"}


async def test_vectors_come_where_they_are_asked_for_and_say_how_items_are_alike(
    opened: Callable[[], Opened], service: Retrieval, shop: Shop
) -> None:
    asked = [RetrieveQuery(user, 60, vectors=user.known) for user in people(shop)]
    async with opened() as port:
        answers = await port.retrieve(asked)
        [plain] = await port.retrieve([replace(asked[0], vectors=False)])
        [nothing] = await port.retrieve([replace(asked[0], filter=Term("brand", Op.IN, ("no such brand",)))])
    assert [found.vectors is not None for found in answers] == [query.vectors for query in asked]
    assert plain.vectors is None
    assert plain.item_ids.tolist() == answers[0].item_ids.tolist()
    assert nothing.vectors is not None
    assert len(nothing.vectors) == 0
    assert isinstance(service, RetrievalService)
    by_id = dict(zip([item.item_id for item in shelf(shop)], service.vectors, strict=True))
    for found in answers:
        if found.vectors is not None:
            assert found.vectors.dtype == np.int8
            exact = np.stack([by_id[item_id] for item_id in found.item_ids])
            own = unpacked(found.vectors)
            np.testing.assert_allclose(own @ own.T, exact @ exact.T, atol=0.02)


async def test_a_query_brings_the_items_that_its_words_name(opened: Callable[[], Opened], shop: Shop) -> None:
    async with opened() as port:
        [found] = await port.retrieve([RetrieveQuery(people(shop)[0], 20, query="NUMBER 118!", include_seen=True)])
    named = found.item_ids.tolist().index("i118")
    assert "text" in found.sources_of(named)
    assert found.scores[named, SOURCES.index("text")] > 0
    assert named < 5


async def test_a_filter_may_leave_nothing(opened: Callable[[], Opened], shop: Shop) -> None:
    nothing = Term("brand", Op.IN, ("no such brand",))
    async with opened() as port:
        [found] = await port.retrieve([RetrieveQuery(people(shop)[0], 20, filter=nothing, query="comedy")])
        assert len(found) == 0
        assert len(await port.similar(SimilarQuery(("i1",), 5, nothing))) == 0
        assert len(await port.trending(TrendingQuery(5, None, nothing))) == 0


async def test_no_query_is_no_answer(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        assert await port.retrieve([]) == []


@pytest.mark.parametrize("n", [0, 5_001])
async def test_a_list_of_no_or_endless_length_is_refused(opened: Callable[[], Opened], shop: Shop, n: int) -> None:
    async with opened() as port:
        with pytest.raises(InvalidArgument) as refused:
            await port.retrieve([RetrieveQuery(people(shop)[0], n)])
    assert refused.value.field == "n"


async def test_similar_items_fit_and_are_not_the_item_itself(opened: Callable[[], Opened], shop: Shop) -> None:
    red = Term("attributes.colour", Op.IN, ("red",))
    allowed = {i.item_id for i in shelf(shop) if i.available and holds(red, i)} - {"i3", "i6", "i9"}
    async with opened() as port:
        check(await port.similar(SimilarQuery(("i3", "i6"), 200, red, ("i9",))), 200, allowed)
        one, other = [await port.similar(SimilarQuery((item_id,), 10)) for item_id in ("i3", "i4")]
    assert one.item_ids.tolist() != other.item_ids.tolist()


async def test_pages_of_similar_items_are_of_one_list(opened: Callable[[], Opened], shop: Shop) -> None:
    """As the gateway cuts them: whatever page is asked for."""
    async with opened() as port:
        gateway = build(Settings(retrieval_budget_ms=20_000.0), shop.catalogue(), Inner(), port, Inner(), Inner())

        async def page(n: int, offset: int) -> list[str]:
            answer = await gateway.similar(SimilarRequest(("i3",), n=n, offset=offset))
            return [line.item_id for line in answer.items]

        whole = await page(60, 0)
        for size in (1, 2, 7):
            assert [one for offset in range(0, 60, size) for one in await page(size, offset)][:60] == whole
    assert len(set(whole)) == 60


async def test_similar_to_an_unknown_item_is_not_found_and_says_which(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        with pytest.raises(NotFound) as missing:
            await port.similar(SimilarQuery(("i3", "nobody made this"), 10))
        assert missing.value.field == "item_ids[1]"
        with pytest.raises(InvalidArgument):
            await port.similar(SimilarQuery((), 10))


async def test_trending_is_the_most_acted_on_first_without_what_one_has_seen(
    opened: Callable[[], Opened], shop: Shop
) -> None:
    user = make_user("u1", [f"i{n}" for n in range(1, 60)])
    async with opened() as port:
        everyone, theirs = await port.trending(TrendingQuery(40)), await port.trending(TrendingQuery(200, user))
    check(everyone, 40, {item.item_id for item in shelf(shop) if item.available})
    check(theirs, 200, {i.item_id for i in shelf(shop) if i.available and i.item_id not in set(user.seen)})
    recent = everyone.scores[:, SOURCES.index("trending")]
    assert (np.diff(recent) <= 0).all()
    assert recent[0] > 0


async def test_it_is_ready(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        assert (await port.ready()).ready


async def test_the_moment_of_the_request_hides_items_that_come_later_from_fresh(
    opened: Callable[[], Opened], shop: Shop
) -> None:
    created = {item.item_id: item.created_at for item in shop.items}
    at = sorted(created.values())[100]
    ask = RetrieveQuery(make_user("u9"), 50, context=Context(at=at))
    async with opened() as port:
        [found] = await port.retrieve([ask])
    fresh = [found.item_ids[row] for row in range(len(found)) if "fresh" in found.sources_of(row)]
    assert fresh
    assert all(created[item_id] <= at for item_id in fresh)
    assert strings(fresh).dtype == object
