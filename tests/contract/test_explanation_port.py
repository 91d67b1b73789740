"""What every Explanation must keep, however it is wired: one reason per item, in order, and nothing that is not true."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.explanation.build import build
from services.explanation.facts import Case, fact_of, holds
from services.explanation.popularity import Popularity
from services.explanation.settings import Settings
from services.explanation.templates import text
from tests.wirings import over_grpc
from winnow.catalogue import Catalogue
from winnow.ports import ExplainQuery, Explanation
from winnow.types import Context, EventType, History, Item, Person, Reason, UserState, strings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOURCES = ("tower", "sequence", "item_to_item", "trending", "fresh", "text", "a source of tomorrow")
POPULARITY = Popularity({f"i{n}": n * 11 + 1 for n in range(6)} | {"never heard of": 12})
IDS = tuple(f"i{n}" for n in range(12))
ACTS = tuple(kind.value for kind in EventType if kind is not EventType.IMPRESSION)

items = st.builds(
    Item,
    item_id=st.sampled_from(IDS),
    title=st.sampled_from(("", "Star Journey", "Star Journey Beyond", "Red Lamp 1977", "An Über Lamp", "x" * 300)),
    categories=st.lists(st.sampled_from(("Comedy", "Drama", "War", "Musical", "Film-Noir")), max_size=5).map(tuple),
    brand=st.sampled_from(("", "Acme", "Umbrella")),
    price=st.none() | st.floats(0, 100),
    currency=st.sampled_from(("", "EUR", "GBP")),
    created_at=st.sampled_from((datetime(1970, 1, 1, tzinfo=UTC), NOW - timedelta(days=10), NOW + timedelta(days=1))),
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from((*IDS, "gone")), st.sampled_from(ACTS), st.sampled_from((1.0, 4.0, 20.0, 90.0))),
            max_size=30,
        )
    )
    values = [value if kind in ("rating", "purchase", "cart") else math.nan for _, kind, value in rows]
    return History(
        strings([item_id for item_id, _, _ in rows]),
        strings([kind for _, kind, _ in rows]),
        np.asarray(values, np.float32),
        np.arange(len(rows), dtype=np.float64),
    )


@st.composite
def queries(draw: st.DrawFn) -> ExplainQuery:
    shown = draw(st.lists(st.sampled_from((*IDS, "never heard of")), unique=True, max_size=10))
    user = UserState(Person(user_id="u"), known=True, history=draw(histories()))
    sources = tuple(tuple(draw(st.lists(st.sampled_from(SOURCES), unique=True, max_size=3))) for _ in shown)
    return ExplainQuery(user, strings(shown), sources, Context(at=draw(st.sampled_from((None, NOW)))))


async def near(port: Explanation, asked: list[ExplainQuery]) -> list[tuple[Reason, ...]]:
    return await port.explain(asked)


async def far(port: Explanation, asked: list[ExplainQuery]) -> list[tuple[Reason, ...]]:
    async with over_grpc("explanation", port) as client:
        return await client.explain(asked)


WIRINGS = {"near": near, "far": far}
wired = pytest.mark.parametrize("wiring", list(WIRINGS))


def explain(catalogue: Catalogue, asked: list[ExplainQuery], wiring: str = "near") -> list[tuple[Reason, ...]]:
    service = build(Settings(), catalogue)
    service.use(POPULARITY)
    return asyncio.run(WIRINGS[wiring](service, asked))


def check(written: list[Item], asked: list[ExplainQuery], wiring: str) -> None:
    """Every reason is a fact that holds, and says that and no more."""
    catalogue = Catalogue()
    catalogue.upsert(written)
    answers = explain(catalogue, asked, wiring)
    assert [len(reasons) for reasons in answers] == [len(query.item_ids) for query in asked]
    for query, reasons in zip(asked, answers, strict=True):
        for item_id, sources, reason in zip(query.item_ids, query.sources, reasons, strict=True):
            fact = fact_of(reason)
            assert holds(fact, Case(item_id, query.user, catalogue, sources, query.context, popularity=POPULARITY)), (
                reason
            )
            assert reason.text == text(fact, catalogue.get)
            assert 0 < len(reason.text) <= 400


@settings(max_examples=300, deadline=None)
@given(st.lists(items, max_size=14), st.lists(queries(), max_size=3))
def test_every_reason_is_a_fact_that_holds_and_says_only_that(written: list[Item], asked: list[ExplainQuery]) -> None:
    check(written, asked, "near")


@settings(max_examples=25, deadline=None)
@given(st.lists(items, max_size=14), st.lists(queries(), max_size=3))
def test_so_does_every_reason_that_comes_over_the_wire(written: list[Item], asked: list[ExplainQuery]) -> None:
    check(written, asked, "far")


@settings(max_examples=50, deadline=None)
@given(st.lists(items, max_size=14), st.lists(queries(), min_size=2, max_size=4))
def test_a_batch_answers_as_its_queries_do_alone(written: list[Item], asked: list[ExplainQuery]) -> None:
    catalogue = Catalogue()
    catalogue.upsert(written)
    assert explain(catalogue, asked) == [explain(catalogue, [query])[0] for query in asked]


@wired
def test_nobody_asked_gets_no_answer(wiring: str) -> None:
    assert explain(Catalogue(), [], wiring) == []


@wired
def test_an_empty_catalogue_still_gives_every_item_a_reason(wiring: str) -> None:
    query = ExplainQuery(UserState(Person(user_id="u")), strings(["a", "b"]), ((), ("tower", "text")))
    assert [reason.fact for reason in explain(Catalogue(), [query], wiring)[0]] == ["shown", "found_by"]


@wired
def test_it_is_ready_as_soon_as_it_is_built(wiring: str) -> None:
    async def ask() -> bool:
        port: Explanation = build(Settings(), Catalogue())
        if wiring == "near":
            return (await port.ready()).ready
        async with over_grpc("explanation", port) as client:
            return bool((await client.ready()).ready)

    assert asyncio.run(ask())
