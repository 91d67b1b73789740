"""What goes over the wire comes back equal, and what is incomplete is refused by name."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.errors import InvalidArgument
from winnow.filters import All, Filter, Not, Op, Term
from winnow.filters import Any as AnyOf
from winnow.image_vectors import packed
from winnow.ports import ExplainQuery, RankQuery, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Answer, Recommended, RecommendRequest, SimilarRequest, TrendingRequest, Watermarks
from winnow.tokens import token_of
from winnow.types import (
    HEADS,
    Candidates,
    Context,
    Directions,
    Event,
    EventType,
    History,
    Item,
    Person,
    Predictions,
    Reason,
    Receipt,
    UserState,
    Vector,
    strings,
)
from winnow.v1 import explanation_pb2, types_pb2
from winnow.wire import explanation, gateway, ranking, retrieval, types

ids = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)
texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=20)
maps = st.dictionaries(ids, texts, max_size=3)
numbers = st.floats(-1e6, 1e6)
weights = st.dictionaries(st.sampled_from(HEADS), st.floats(0.1, 10), max_size=3)
times = st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
people = st.builds(Person, user_id=ids, session_id=st.one_of(st.just(""), ids))
contexts = st.builds(Context, surface=ids, device=ids, country=ids, at=st.none() | times)
events = st.builds(
    Event,
    event_id=ids,
    type=st.sampled_from(EventType),
    item_id=ids,
    occurred_at=times,
    user_id=ids,
    session_id=ids,
    value=numbers,
    quantity=st.integers(1, 1_000_000),
    request_id=ids,
    position=st.none() | st.integers(1, 10_000),
    context=maps,
)
items = st.builds(
    Item,
    item_id=ids,
    title=texts,
    description=texts,
    categories=st.lists(ids, max_size=4).map(tuple),
    brand=texts,
    price=st.none() | st.floats(0, 1e6),
    currency=st.sampled_from(["", "GBP"]),
    image_url=texts,
    created_at=times,
    available=st.booleans(),
    attributes=maps,
    image_vector=st.lists(st.floats(-9, 9, width=16), max_size=4).map(packed),
)
terms = st.one_of(
    st.builds(Term, field=st.just("categories"), op=st.just(Op.IN), values=st.lists(ids, min_size=1).map(tuple)),
    st.builds(Term, field=st.just("price"), op=st.sampled_from([Op.LT, Op.LE, Op.GT, Op.GE]), number=numbers),
    st.builds(Term, field=st.just("available"), op=st.just(Op.IS), flag=st.booleans()),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, max_size=2).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=4,
)
maybe_filters = st.none() | filters
reasons = st.builds(Reason, text=texts, fact=ids, evidence=st.lists(ids, max_size=3).map(tuple))


@st.composite
def histories(draw: st.DrawFn) -> History:
    acts = draw(st.lists(st.tuples(ids, st.sampled_from(EventType), st.floats(width=32), numbers), max_size=5))
    return History(
        strings([act[0] for act in acts]),
        strings([act[1].value for act in acts]),
        np.array([act[2] for act in acts], np.float32),
        np.array([act[3] for act in acts], np.float64),
    )


users = st.builds(
    UserState,
    person=people,
    known=st.booleans(),
    traits=maps,
    history=histories(),
    seen=st.lists(ids, max_size=4).map(strings),
    seen_tail=st.lists(st.integers(0, 2**32 - 1), max_size=4).map(lambda bits: np.array(bits, np.uint32)),
    events=st.integers(0, 2**40),
    watermark=st.integers(0, 2**40),
)


@st.composite
def candidate_columns(draw: st.DrawFn) -> Candidates:
    found = draw(st.lists(ids, max_size=5))
    names = tuple(draw(st.lists(ids, min_size=1, max_size=3)))
    scores = draw(st.lists(st.floats(-10, 10, width=32), min_size=len(found) * len(names), max_size=15))
    return Candidates(
        item_ids=strings(found),
        sources=np.arange(len(found), dtype=np.uint32),
        scores=np.array(scores[: len(found) * len(names)], np.float32).reshape(len(found), len(names)),
        source_names=names,
        bundle=draw(texts),
        skipped=tuple(draw(st.lists(ids, max_size=2))),
        vectors=draw(st.none() | st.integers(1, 3).map(lambda dim: directions(len(found), dim))),
    )


def directions(n: int, dim: int) -> Directions:
    return (np.arange(n * dim) % 255 - 127).astype(np.int8).reshape(n, dim)


def same(left: Any, right: Any) -> bool:
    """Equality that looks into dataclasses and arrays, where NaN equals NaN."""
    if isinstance(left, np.ndarray):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
    if is_dataclass(left) and type(left) is type(right):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    return bool(left == right)


@given(events)
def test_an_event_survives_the_wire(event: Event) -> None:
    assert same(types.event_of(types.event_to(event)), event)


@given(items)
def test_an_item_survives_the_wire(item: Item) -> None:
    assert same(types.item_of(types.item_to(item)), item)


@settings(max_examples=25)
@given(items)
def test_an_answer_leaves_out_what_an_image_looks_like(item: Item) -> None:
    line = Recommended("i", 1, 0.5, None, (), None, item)
    assert gateway.recommended_of(gateway.recommended_to(line)).item == item.without_image()


@given(filters)
def test_a_filter_survives_the_wire(tree: Filter) -> None:
    message = types.filter_to(tree)
    assert message is not None
    assert types.filter_of(message) == tree


@settings(max_examples=50)
@given(
    st.builds(
        RetrieveQuery,
        user=users,
        n=st.integers(1, 500),
        context=contexts,
        query=texts,
        filter=maybe_filters,
        include_seen=st.booleans(),
        vectors=st.booleans(),
    )
)
def test_a_retrieval_query_survives_the_wire(query: RetrieveQuery) -> None:
    assert same(retrieval.query_of(retrieval.query_to(query)), query)


exclusions = st.lists(ids, max_size=3).map(tuple)
baskets = st.lists(ids, min_size=1, max_size=3).map(tuple)
wanted = {"n": st.integers(1, 100), "filter": maybe_filters, "exclude": exclusions}


@settings(max_examples=50)
@given(st.builds(SimilarQuery, item_ids=baskets, catalogue=st.integers(0, 2**40), **wanted))
def test_a_query_for_similar_items_survives_the_wire(query: SimilarQuery) -> None:
    assert same(retrieval.similar_of(retrieval.similar_to(query)), query)


@settings(max_examples=50)
@given(st.builds(TrendingQuery, user=st.none() | users, **wanted))
def test_a_query_for_trending_items_survives_the_wire(query: TrendingQuery) -> None:
    assert same(retrieval.trending_of(retrieval.trending_to(query)), query)


@settings(max_examples=50)
@given(
    st.builds(
        RankQuery,
        user=users,
        candidates=candidate_columns(),
        context=contexts,
        objectives=weights,
        vector=st.booleans(),
    )
)
def test_a_ranking_query_survives_the_wire(query: RankQuery) -> None:
    assert same(ranking.query_of(ranking.query_to(query)), query)


vectors = st.builds(
    Vector,
    st.dictionaries(ids, st.lists(texts, max_size=3).map(tuple), max_size=4),
    st.dictionaries(ids, st.floats(allow_nan=False), max_size=4),
    st.integers(0, 2**62),
)


def test_a_missing_number_and_a_negative_zero_survive_the_wire() -> None:
    sent = np.array([np.nan, -0.0, 5e-324])
    back = ranking.vector_of(ranking.vector_to(Vector({}, dict(zip("abc", sent.tolist(), strict=True)))))
    assert np.array(list(back.numbers.values())).tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (ranking.pb.Vector(categorical=["a"], counts=[2], texts=["x"]), "counts"),
        (ranking.pb.Vector(categorical=["a"], texts=["x"]), "counts"),
        (ranking.pb.Vector(numeric=["a"], numbers=b"1234567"), "numbers"),
    ],
)
def test_a_vector_that_is_incomplete_is_refused(wrong: ranking.pb.Vector, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        ranking.vector_of(wrong)
    assert refused.value.field == f"predictions.vector.{field}"


@given(st.integers(0, 5), st.data())
def test_predictions_survive_the_wire(n: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(width=32), min_size=4 * n, max_size=4 * n))
    heads = np.array(values[: 3 * n], np.float32).reshape(n, 3)
    predictions = Predictions(heads, np.array(values[3 * n :], np.float32), "b", data.draw(st.none() | vectors))
    assert same(ranking.predictions_of(ranking.predictions_to(predictions)), predictions)


@settings(max_examples=50)
@given(users, st.lists(st.tuples(ids, st.lists(ids, max_size=2).map(tuple)), max_size=4), contexts)
def test_an_explanation_query_survives_the_wire(
    user: UserState, lines: list[tuple[str, tuple[str, ...]]], context: Context
) -> None:
    query = ExplainQuery(user, strings([line[0] for line in lines]), tuple(line[1] for line in lines), context)
    assert same(explanation.query_of(explanation.query_to(query)), query)


sizes = {"offset": st.integers(0, 400), **wanted}


@settings(max_examples=50)
@given(
    st.builds(
        RecommendRequest,
        person=people,
        context=contexts,
        query=texts,
        objectives=weights,
        explain=st.booleans(),
        include_seen=st.booleans(),
        diversity=st.none() | st.floats(0, 1),
        token=st.just("") | st.integers(0, 2**40).map(token_of),
        **sizes,
    )
)
def test_a_recommendation_request_survives_the_wire(request: RecommendRequest) -> None:
    assert same(gateway.recommend_of(gateway.recommend_to(request)), request)


@settings(max_examples=50)
@given(st.builds(SimilarRequest, item_ids=baskets, **sizes))
def test_a_similar_request_survives_the_wire(request: SimilarRequest) -> None:
    assert same(gateway.similar_of(gateway.similar_to(request)), request)


@settings(max_examples=50)
@given(st.builds(TrendingRequest, person=st.none() | people, **sizes))
def test_a_trending_request_survives_the_wire(request: TrendingRequest) -> None:
    assert same(gateway.trending_of(gateway.trending_to(request)), request)


positions = st.integers(0, 2**40)
lines = st.builds(
    Recommended,
    item_id=ids,
    rank=st.integers(1, 500),
    score=numbers,
    predictions=st.none() | st.fixed_dictionaries(dict.fromkeys(HEADS, numbers)),
    sources=st.lists(ids, max_size=2).map(tuple),
    reason=st.none() | reasons,
    item=st.none() | items.map(Item.without_image),
)


@settings(max_examples=50)
@given(
    st.builds(
        Answer,
        request_id=ids,
        items=st.lists(lines, max_size=3).map(tuple),
        bundles=maps,
        variant=texts,
        skipped=st.lists(ids, max_size=2).map(tuple),
        watermark=st.integers(0, 2**40),
        took_ms=st.dictionaries(ids, numbers, max_size=3),
        watermarks=st.builds(Watermarks, positions, positions, positions, maps),
        token_included=st.sampled_from((None, True, False)),
    )
)
def test_an_answer_survives_the_wire(answer: Answer) -> None:
    assert same(gateway.answer_of(gateway.answer_to(answer)), answer)


@given(st.builds(Receipt, positions, positions, positions, st.just("") | positions.map(token_of)))
def test_a_receipt_survives_the_wire(receipt: Receipt) -> None:
    assert types.receipt_of(types.receipt_to(receipt)) == receipt


def test_an_older_gateway_knows_no_watermarks_and_no_token() -> None:
    answer = gateway.answer_of(gateway.pb.Answer(request_id="r", watermark=3))
    assert (answer.watermarks, answer.token_included) == (Watermarks(), None)


def test_an_absent_number_is_the_default_and_zero_is_refused() -> None:
    message = gateway.pb.RecommendRequest(person=types_pb2.Person(user_id="u"))
    assert gateway.recommend_of(message).n == 10
    message.n = 0
    with pytest.raises(InvalidArgument) as refused:
        gateway.recommend_of(message)
    assert refused.value.field == "n"


def test_an_event_without_type_or_time_is_refused_by_name() -> None:
    message = types_pb2.Event(event_id="e", item_id="i", user_id="u")
    with pytest.raises(InvalidArgument) as refused:
        types.event_of(message)
    assert refused.value.field == "type"
    message.type = types_pb2.EVENT_TYPE_CLICK
    with pytest.raises(InvalidArgument) as refused:
        types.event_of(message)
    assert refused.value.field == "occurred_at"


def test_a_time_beyond_the_calendar_is_refused() -> None:
    message = types_pb2.Event(event_id="e", item_id="i", user_id="u", type=types_pb2.EVENT_TYPE_CLICK)
    message.occurred_at.seconds = 2**62
    with pytest.raises(InvalidArgument) as refused:
        types.event_of(message)
    assert refused.value.field == "occurred_at"


def test_columns_of_unequal_length_are_refused() -> None:
    message = types_pb2.Candidates(item_ids=["a", "b"], sources=[1], scores=b"", source_names=["tower"])
    with pytest.raises(InvalidArgument):
        types.candidates_of(message)


def test_scores_that_fill_no_whole_row_are_refused() -> None:
    message = types_pb2.Candidates(item_ids=["a"], sources=[1], scores=b"12345", source_names=["tower"])
    with pytest.raises(InvalidArgument) as refused:
        types.candidates_of(message)
    assert refused.value.field == "candidates.scores"


@pytest.mark.parametrize("data", [b"", b"12", b"1234567"])
def test_vectors_that_are_not_one_for_each_item_are_refused(data: bytes) -> None:
    message = types_pb2.Candidates(item_ids=["a", "b"], sources=[1, 1], dim=3, vectors=data)
    with pytest.raises(InvalidArgument) as refused:
        types.candidates_of(message)
    assert refused.value.field == "candidates.vectors"


def test_sources_must_match_the_items_they_belong_to() -> None:
    message = explanation_pb2.ExplainQuery(user=types.user_to(UserState(Person("u"))), item_ids=["a"])
    with pytest.raises(InvalidArgument):
        explanation.query_of(message)


def test_a_filter_nested_too_deep_is_refused_before_it_is_built() -> None:
    message = types_pb2.Filter()
    innermost = message
    for _ in range(50):
        innermost = getattr(innermost, "not")
        innermost.SetInParent()
    with pytest.raises(InvalidArgument) as refused:
        types.filter_of(message)
    assert refused.value.field == "filter"
