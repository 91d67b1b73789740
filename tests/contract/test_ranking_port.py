"""What every Ranking must keep, however it is wired."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from tests.bundles import SOURCES, STATS_AT, make_user
from tests.retrievals import Shop
from tests.wirings import over_grpc
from winnow.candidate_features import candidate_numbers
from winnow.encoding import Schema, Values
from winnow.errors import InvalidArgument
from winnow.features import NO_STATS, ItemStats, ItemView, UserView
from winnow.inference import OnnxModel
from winnow.ports import Ranking, RankQuery
from winnow.served import vector_of
from winnow.types import HEADS, Candidates, Context, Floats, Predictions, Vector, strings

POSITION = 321  # of the item log
Opened = AbstractAsyncContextManager[Ranking]


@asynccontextmanager
async def near(service: Ranking) -> AsyncIterator[Ranking]:
    yield service


def grpc(service: Ranking) -> Opened:
    return over_grpc("ranking", service)


WIRINGS: dict[str, Callable[[Ranking], Opened]] = {"near": near, "grpc": grpc}
"""How to reach the service: each gives the port and closes it."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def service(shop: Shop) -> Iterator[Ranking]:
    catalogue = shop.catalogue()
    catalogue.advance(POSITION, complete=True)
    with closing(shop.rank(catalogue)) as service:
        yield service


@pytest.fixture(scope="module", params=list(WIRINGS))
def opened(request: pytest.FixtureRequest, service: Ranking) -> Callable[[], Opened]:
    return lambda: WIRINGS[request.param](service)


def some(item_ids: Sequence[str], seed: int = 0) -> Candidates:
    rng, n = np.random.default_rng(seed), len(item_ids)
    sources = rng.integers(1, 32, n).astype(np.uint32)
    return Candidates(strings(item_ids), sources, rng.random((n, len(SOURCES)), np.float32), SOURCES)


def asked(user: int, item_ids: Sequence[str], **facts: object) -> RankQuery:
    state = make_user(f"u{user}", [f"i{7 * n % 200}" for n in range(5 * user)])
    return RankQuery(state, some(item_ids, user), Context("home", "phone", "DE", STATS_AT), **facts)  # type: ignore[arg-type]


FIFTY = [f"i{n}" for n in range(0, 200, 4)]


async def test_every_candidate_gets_three_heads_and_the_score_that_they_add_up_to(
    opened: Callable[[], Opened], shop: Shop
) -> None:
    objectives = {"click": 0.5, "value": -2.0}
    async with opened() as port:
        plain, weighed = await port.rank([asked(3, FIFTY), asked(3, FIFTY, objectives=objectives)])
    assert plain.heads.shape == (50, len(HEADS))
    assert plain.heads.dtype == plain.scores.dtype == np.float32
    assert ((plain.heads[:, :2] > 0) & (plain.heads[:, :2] < 1)).all()
    assert plain.bundle == shop.ranking.id
    np.testing.assert_allclose(plain.scores, plain.heads[:, 0], atol=1e-6)
    np.testing.assert_allclose(weighed.heads, plain.heads, atol=1e-6)
    np.testing.assert_allclose(weighed.scores, plain.heads @ [0.5, 0.0, -2.0], atol=1e-5)


async def test_a_surface_has_objectives_of_its_own_which_a_request_outranks(shop: Shop) -> None:
    at_home, elsewhere = asked(3, FIFTY), replace(asked(3, FIFTY), context=Context("cart"))
    own = replace(at_home, objectives={"convert": 1.0})
    with closing(shop.rank(surface_objectives={"home": {"value": 2.0}})) as service:
        answers = await service.rank([at_home, elsewhere, own])
    for answer, weights in zip(answers, ([0, 0, 2], [1, 0, 0], [0, 1, 0]), strict=True):
        np.testing.assert_allclose(answer.scores, answer.heads @ np.asarray(weights, np.float32), atol=1e-5)
    with pytest.raises(InvalidArgument, match="unknown objective"):
        shop.rank(surface_objectives={"home": {"joy": 2.0}})


async def test_the_parts_say_what_the_plain_graph_says(opened: Callable[[], Opened], shop: Shop) -> None:
    query = asked(4, FIFTY)
    async with opened() as port:
        [answer] = await port.rank([query])
    np.testing.assert_allclose(answer.heads, plain(shop, query), atol=1e-5)


def plain(shop: Shop, query: RankQuery, person: tuple[npt.NDArray[np.int64], Floats] | None = None) -> Floats:
    """The same heads by `plain.onnx`, encoded here; `person` is already."""
    bundle = shop.ranking
    schemas = {n: Schema.from_json(bundle.facts["schemas"][n], bundle.vocabularies()) for n in ("user", "item")}
    known = {item.item_id: item for item in shop.items}
    user = UserView(query.user, query.context, known.get)
    table = pq.read_table(bundle.file("stats.parquet")).to_pylist()
    stats = {row.pop("item_id"): ItemStats(**row) for row in table}
    views = [ItemView(known[i], stats.get(i, NO_STATS), bundle.facts["stats_at"]) for i in query.candidates.item_ids]
    user_ids, user_numbers = person or schemas["user"].encode([user])
    user_ids, user_numbers = (np.repeat(column, len(views), axis=0) for column in (user_ids, user_numbers))
    item_ids, item_numbers = schemas["item"].encode(views)
    inputs = {
        "user_ids": user_ids,
        "user_numbers": user_numbers,
        "item_ids": item_ids,
        "item_numbers": item_numbers,
        "candidates": candidate_numbers(query.candidates, bundle.facts["candidates"], user),
    }
    return OnnxModel(bundle.file("plain.onnx")).run(inputs)["heads"]


def same(one: Predictions, other: Predictions) -> None:
    np.testing.assert_allclose(one.heads, other.heads, atol=1e-5)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


async def test_who_asks_is_told_what_the_model_was_given(opened: Callable[[], Opened], shop: Shop) -> None:
    """By name and to the last bit; and it is what the model was given: encoded again it says the same."""
    query = asked(4, FIFTY, vector=True)
    async with opened() as port:
        [answer] = await port.rank([query])
    known = {item.item_id: item for item in shop.items}
    vector, view = answer.vector, UserView(query.user, query.context, known.get)
    assert vector is not None
    assert list(pairs_of(vector)) == list(pairs_of(vector_of(view, schema_of(shop).names)))
    assert vector.catalogue == POSITION
    encoded = encoded_again(shop, vector)
    assert [column.tobytes() for column in encoded] == [column.tobytes() for column in schema_of(shop).encode([view])]
    np.testing.assert_allclose(answer.heads, plain(shop, query, encoded), atol=1e-5)


async def test_each_of_a_batch_is_told_of_itself_and_who_does_not_ask_nothing(opened: Callable[[], Opened]) -> None:
    queries = [asked(n, FIFTY[:3], vector=n != 2) for n in range(5)]
    async with opened() as port:
        answers = await port.rank(queries)
        [alone] = await port.rank(queries[3:4])
    told = [None if answer.vector is None else answer.vector.texts["user_id"] for answer in answers]
    assert told == [("u0",), ("u1",), None, ("u3",), ("u4",)]
    assert answers[0].vector is not None
    assert math.isnan(answers[0].vector.numbers["user_last_value"])  # nothing is known of u0
    assert answers[3].vector is not None
    assert alone.vector is not None
    assert list(pairs_of(answers[3].vector)) == list(pairs_of(alone.vector))


def schema_of(shop: Shop) -> Schema:
    return Schema.from_json(shop.ranking.facts["schemas"]["user"], shop.ranking.vocabularies())


def pairs_of(vector: Vector) -> Iterator[tuple[str, object]]:
    """Names and values, numbers as their bits."""
    yield from sorted(vector.texts.items())
    yield from sorted((name, struct.pack("<d", number)) for name, number in vector.numbers.items())


def encoded_again(shop: Shop, vector: Vector) -> tuple[npt.NDArray[np.int64], Floats]:
    schema = schema_of(shop)
    texts = [vector.texts[feature.name][0] for feature in schema.categorical]
    return schema.encode_values([Values(list(texts), [vector.numbers[one.name] for one in schema.numeric])], 1)


async def test_a_batch_answers_like_one_by_one(opened: Callable[[], Opened]) -> None:
    queries = [asked(n, FIFTY[: 3 + 7 * n]) for n in range(7)]
    async with opened() as port:
        together = await port.rank(queries)
        for query, answer in zip(queries, together, strict=True):
            same((await port.rank([query]))[0], answer)
        at_once = await asyncio.gather(*(port.rank([query]) for query in queries * 4))
    for [answer], expected in zip(at_once, together * 4, strict=True):
        same(answer, expected)


async def test_an_unknown_item_counts_as_one_of_which_nothing_is_known(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        mixed, known = await port.rank([asked(3, ["i1", "never heard of", "i2"]), asked(3, ["i1", "i9", "i2"])])
    assert np.isfinite(mixed.heads).all()
    same(
        Predictions(mixed.heads[[0, 2]], mixed.scores[[0, 2]]),
        Predictions(known.heads[[0, 2]], known.scores[[0, 2]]),
    )
    assert abs(mixed.heads[1] - known.heads[1]).max() > 1e-4


async def test_people_and_circumstances_matter(opened: Callable[[], Opened]) -> None:
    one, moment = asked(3, FIFTY), Context("search", "desktop", "FR", STATS_AT)
    async with opened() as port:
        mine, elsewhere = await port.rank([one, RankQuery(one.user, one.candidates, moment)])
        [theirs] = await port.rank([RankQuery(make_user("u5", ["i3"]), one.candidates, one.context)])
    assert abs(mine.scores - elsewhere.scores).max() > 1e-6
    assert abs(mine.scores - theirs.scores).max() > 1e-4


async def test_nothing_to_rank_is_an_empty_answer(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        assert await port.rank([]) == []
        empty, some_ = await port.rank([asked(3, []), asked(3, FIFTY)])
    assert empty.heads.shape == (0, len(HEADS))
    assert len(some_.scores) == 50


async def test_an_unknown_objective_is_refused_by_name(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        with pytest.raises(InvalidArgument) as refused:
            await port.rank([asked(3, FIFTY, objectives={"joy": 1.0})])
    assert refused.value.field == "objectives.joy"


async def test_more_candidates_than_a_page_can_need_are_refused(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        with pytest.raises(InvalidArgument):
            await port.rank([asked(3, [f"x{n}" for n in range(5_001)])])


async def test_sources_of_tomorrow_do_not_disturb(opened: Callable[[], Opened]) -> None:
    query = asked(3, FIFTY)
    extra = np.concatenate([query.candidates.scores, np.ones((50, 1), np.float32)], axis=1)
    newer = Candidates(
        query.candidates.item_ids, query.candidates.sources | 1 << len(SOURCES), extra, (*SOURCES, "tomorrow")
    )
    async with opened() as port:
        before, after = await port.rank([query, RankQuery(query.user, newer, query.context)])
    same(before, after)


async def test_it_is_ready(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        assert (await port.ready()).ready
