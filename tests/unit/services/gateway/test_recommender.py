"""A page can live without any inner service, and says which it went without; a write cannot."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.gateway.arrange import arrange
from services.gateway.build import build
from services.gateway.recommender import LIST, Gateway
from services.gateway.settings import Settings
from tests.gateways import ITEMS, Inner, gateway_over
from tests.wirings import over_grpc
from winnow.catalogue import Catalogue
from winnow.decisions import Decision
from winnow.errors import DeadlineExceeded, InvalidArgument, NotFound, ResourceExhausted, Unavailable, WinnowError
from winnow.filters import Op, Term
from winnow.ports import SimilarQuery, TrendingQuery
from winnow.requests import Answer, RecommendRequest, SimilarRequest, TrendingRequest, Watermarks
from winnow.tokens import token_of
from winnow.types import EARLIEST, Event, EventType, Item, Person, Receipt

SLOW_S = 0.5
BUDGETS = {f"{stage}_budget_ms": 50.0 for stage in ("feature", "retrieval", "ranking", "explanation", "write")}


async def ask(gateway: Gateway, **request: Any) -> Answer:
    return (await gateway.recommend([RecommendRequest(Person("u"), **request)]))[0]


def ids(answer: Answer) -> list[str]:
    return [line.item_id for line in answer.items]


async def test_an_answer_is_ordered_by_score_explained_and_accounted_for() -> None:
    answer = await ask(gateway_over(Inner()), n=3)
    assert ids(answer) == ["i10", "i9", "i8"]
    assert [line.rank for line in answer.items] == [1, 2, 3]
    assert [line.reason.text for line in answer.items if line.reason] == ["because i10", "because i9", "because i8"]
    assert all(line.item and line.item.title.startswith("Item") for line in answer.items)
    assert (answer.bundles, answer.skipped, answer.watermark) == ({"retrieval": "r", "ranking": "k"}, (), 7)
    assert set(answer.took_ms) == {"feature", "retrieval", "ranking", "arrange", "explanation", "total"}


async def test_pages_follow_each_other_without_gap_or_repetition() -> None:
    gateway = gateway_over(Inner())
    first, second = await ask(gateway, n=4), await ask(gateway, n=4, offset=4)
    assert ids(first) + ids(second) == [f"i{n}" for n in range(10, 2, -1)]
    assert [line.rank for line in second.items] == [5, 6, 7, 8]


@pytest.mark.parametrize("trouble", [Unavailable("down"), DeadlineExceeded("late"), SLOW_S], ids=str)
@pytest.mark.parametrize("service", ["feature", "retrieval", "ranking", "explanation"])
async def test_a_lost_or_late_service_is_skipped_and_named(service: str, trouble: Exception | float) -> None:
    inner = Inner()
    inner.trouble[service] = trouble
    answer = await ask(gateway_over(inner, **BUDGETS), n=5)
    assert len(answer.items) == 5
    assert answer.skipped == (service,)
    assert (answer.items[0].predictions is None) == (service == "ranking")
    assert (answer.items[0].reason is None) == (service == "explanation")
    assert ("retrieval" in answer.bundles) == (service != "retrieval")


async def test_with_all_four_lost_an_answer_still_comes() -> None:
    inner = Inner()
    inner.trouble = dict.fromkeys(("feature", "retrieval", "ranking", "explanation"), Unavailable("down"))
    answer = await ask(gateway_over(inner), n=5)
    assert len(ids(answer)) == len(set(ids(answer))) == 5
    assert answer.skipped == ("feature", "retrieval", "ranking", "explanation")


async def test_a_bug_in_a_service_is_not_survived() -> None:
    inner = Inner()
    inner.trouble["ranking"] = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await ask(gateway_over(inner))


async def test_without_retrieval_filters_exclusions_and_seen_items_still_hold() -> None:
    inner = Inner()
    inner.trouble["retrieval"] = Unavailable("down")
    even = Term("categories", Op.IN, ("even",))
    answer = await ask(gateway_over(inner), n=20, filter=even, exclude=("i2",))
    assert set(ids(answer)) == {f"i{n}" for n in range(4, 20, 2)}
    again = await ask(gateway_over(inner), n=20, filter=even, include_seen=True)
    assert "i0" in ids(again)


async def test_the_gateway_falls_back_on_what_was_popular() -> None:
    inner = Inner()
    gateway = gateway_over(inner)
    remembering = asyncio.create_task(gateway.popular.remember(inner, every_s=60))
    await asyncio.sleep(0.05)
    inner.trouble["retrieval"] = Unavailable("down")
    inner.trouble["ranking"] = Unavailable("down")
    assert ids(await ask(gateway, n=3)) == ["i19", "i18", "i17"]
    assert ids(await gateway.trending(TrendingRequest(2))) == ["i19", "i18"]
    remembering.cancel()


@pytest.mark.parametrize("trouble", [Unavailable("away"), ResourceExhausted("256 calls are waiting already")])
async def test_a_retrieval_in_trouble_is_asked_for_the_popular_again(trouble: WinnowError) -> None:
    inner = Inner()
    inner.trouble["retrieval"] = trouble
    gateway = gateway_over(inner)
    remembering = asyncio.create_task(gateway.popular.remember(inner, every_s=0.01))
    await asyncio.sleep(0.05)
    inner.trouble.clear()
    await asyncio.sleep(0.05)
    assert not remembering.done()
    inner.trouble["retrieval"] = inner.trouble["ranking"] = trouble
    assert ids(await ask(gateway, n=3)) == ["i19", "i18", "i17"]
    remembering.cancel()


async def test_a_batch_is_one_pass_through_every_service() -> None:
    inner = Inner()
    answers = await gateway_over(inner).recommend([RecommendRequest(Person(f"u{n}"), n=2) for n in range(100)])
    assert len(answers) == 100
    assert len({answer.request_id for answer in answers}) == 100
    assert inner.calls == ["feature", "retrieval", "ranking", "explanation"]


async def test_only_those_who_ask_get_reasons() -> None:
    requests = [RecommendRequest(Person("a"), explain=False), RecommendRequest(Person("b"), n=1)]
    silent, told = await gateway_over(Inner()).recommend(requests)
    assert silent.items[0].reason is None
    assert told.items[0].reason is not None


@pytest.mark.parametrize("trouble", [{}, {"retrieval": Unavailable("down")}], ids=["well", "lost"])
async def test_an_unknown_item_has_nothing_similar(trouble: dict[str, Exception | float]) -> None:
    inner = Inner()
    inner.trouble = trouble
    with pytest.raises(NotFound) as refused:
        await gateway_over(inner).similar(SimilarRequest(("nothing",)))
    assert refused.value.field == "item_ids[0]"


async def test_retrieval_learns_what_its_answer_must_know_and_whom_it_is_for() -> None:
    inner = Inner()
    gateway, even = gateway_over(inner), Term("categories", Op.IN, ("even",))
    await gateway.similar(SimilarRequest(("i1",), n=3, filter=even, exclude=("i2",)))
    await gateway.trending(TrendingRequest(3, person=Person("c"), filter=even, exclude=("i2",)))
    await gateway.trending(TrendingRequest(3))
    similar, trending, everyones = inner.asked
    assert isinstance(similar, SimilarQuery)
    assert (similar.item_ids, similar.catalogue) == (("i1",), len(ITEMS))
    assert isinstance(trending, TrendingQuery)
    assert trending.user is not None
    assert trending.user.person == Person("c")
    for query in (similar, trending):
        assert (query.n, query.filter, query.exclude) == (LIST, even, ("i2",))
    assert isinstance(everyones, TrendingQuery)
    assert (everyones.user, everyones.filter, everyones.exclude) == (None, None, ())


async def test_without_retrieval_similar_items_are_popular_ones_but_never_the_item_itself() -> None:
    inner = Inner()
    inner.trouble["retrieval"] = Unavailable("down")
    answer = await gateway_over(inner).similar(SimilarRequest(("i1",), n=19, exclude=("i2",)))
    assert set(ids(answer)) == {item.item_id for item in ITEMS} - {"i1", "i2"}
    assert answer.skipped == ("retrieval",)


async def test_what_the_caller_did_wrong_is_told_and_not_skipped() -> None:
    inner = Inner()
    inner.trouble["retrieval"] = InvalidArgument("no such field", field="filter.field")
    with pytest.raises(InvalidArgument):
        await ask(gateway_over(inner))


async def test_each_answer_has_an_id_of_its_own() -> None:
    gateway = gateway_over(Inner())
    assert len({(await ask(gateway)).request_id for _ in range(3)}) == 3


async def test_an_item_that_retrieval_names_twice_is_shown_once() -> None:
    inner = Inner()
    inner.rows = [3, 5, 3, 4, 5]
    assert ids(await ask(gateway_over(inner), n=3)) == ["i5", "i4", "i3"]


async def test_an_event_that_cannot_be_made_durable_is_not_acknowledged() -> None:
    inner = Inner()
    event = Event("e", EventType.CLICK, "i1", EARLIEST, user_id="u")
    gateway = gateway_over(inner, **BUDGETS)
    assert (await gateway.record([event])).accepted == 1
    for trouble in (SLOW_S, Unavailable("down")):
        inner.trouble["feature"] = trouble
        with pytest.raises(Unavailable):
            await gateway.record([event])


async def test_a_state_that_could_not_be_had_does_not_include_the_token() -> None:
    inner = Inner()
    gateway = gateway_over(inner)
    event = Event("e", EventType.CLICK, "i1", EARLIEST, user_id="u")
    token = (await gateway.record([event])).token
    inner.watermark = inner.written
    assert (await ask(gateway, token=token)).token_included is True
    inner.trouble["feature"] = Unavailable("down")
    lost = await ask(gateway, token=token)
    assert (lost.token_included, lost.watermarks.events) == (False, 0)
    assert lost.skipped == ("feature",)


async def test_a_token_goes_over_grpc_as_it_goes_over_rest() -> None:
    inner = Inner()
    inner.watermark = inner.written
    async with over_grpc("gateway", gateway_over(inner)) as client:
        token = (await client.record([Event("e", EventType.CLICK, "i1", EARLIEST, user_id="u")])).token
        request = RecommendRequest(Person("u"), token=token)
        [answer] = await client.recommend([request])
        assert answer.token_included is True
        assert answer.watermarks == Watermarks(8, 8, 20, {"retrieval": "r", "ranking": "k"})
        inner.watermark -= 1
        assert (await client.recommend([request]))[0].token_included is False
        assert (await client.recommend([RecommendRequest(Person("u"))]))[0].token_included is None


async def test_each_request_of_a_batch_is_told_about_its_own_token() -> None:
    inner = Inner()
    requests = [RecommendRequest(Person("u"), token=token) for token in (token_of(7), "", token_of(8))]
    answers = await gateway_over(inner).recommend(requests)
    assert [answer.token_included for answer in answers] == [True, None, False]


async def test_every_answer_is_logged_with_what_it_was_chosen_from() -> None:
    inner = Inner()
    gateway = gateway_over(inner)
    logged: list[Decision] = []
    gateway.decisions.log = logged.append  # type: ignore[method-assign]
    answers = await gateway.recommend([RecommendRequest(Person("a"), n=2, offset=1), RecommendRequest(Person("b"))])
    answers.append(await gateway.similar(SimilarRequest(("i1",), n=3)))
    answers.append(await gateway.trending(TrendingRequest(3, person=Person("c"))))
    inner.trouble["ranking"] = Unavailable("down")
    answers.append(await ask(gateway))
    assert [one.kind for one in logged] == ["recommend", "recommend", "similar", "trending", "recommend"]
    for answer, one in zip(answers, logged, strict=True):
        assert one.request_id == answer.request_id
        assert one.candidates.item_ids[one.rows].tolist() == ids(answer)
        assert (one.skipped, one.watermarks, one.variant) == (answer.skipped, answer.watermarks, answer.variant)
        again = arrange(one.candidates, one.predictions, one.offset, len(one.rows))
        assert again.tolist() == one.rows.tolist()
        assert one.propensities.tolist() == [1.0] * len(one.rows)
    assert [one.user.person.user_id for one in logged] == ["a", "b", "", "c", "u"]
    assert (logged[0].offset, logged[0].context.at is None) == (1, False)
    assert logged[-1].predictions is None


async def test_the_ranker_is_asked_for_its_vectors_only_where_decisions_are_kept(tmp_path: Path) -> None:
    inner = Inner()
    gateway = gateway_over(inner, home=tmp_path, decision_free_bytes=0)
    await gateway.recommend([RecommendRequest(Person("a")), RecommendRequest(Person("b"))])
    running = asyncio.create_task(gateway.decisions.run())
    await asyncio.sleep(0)
    await gateway.recommend([RecommendRequest(Person("a")), RecommendRequest(Person("b"))])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [query.vector for query in inner.ranked] == [False, False, True, True]


async def test_batches_over_the_limit_are_refused_by_name() -> None:
    gateway = gateway_over(Inner())
    with pytest.raises(InvalidArgument) as refused:
        await gateway.recommend([RecommendRequest(Person("u"))] * 101)
    assert refused.value.field == "requests"
    with pytest.raises(InvalidArgument):
        await gateway.record([])


async def test_a_gateway_that_has_not_read_the_catalogue_is_not_ready() -> None:
    inner = Inner()
    gateway = build(Settings(), Catalogue(), inner, inner, inner, inner)
    assert (await gateway.ready()).missing == ("catalogue: still being read",)


async def test_once_ready_a_lost_part_no_longer_makes_the_gateway_unready() -> None:
    inner = Inner()
    inner.is_ready = False
    gateway = gateway_over(inner)
    missing = tuple(f"{service}: bundle" for service in ("feature", "retrieval", "ranking", "explanation"))
    assert (await gateway.ready()).missing == missing
    inner.is_ready = True
    assert (await gateway.ready()).ready
    inner.is_ready = False
    assert (await gateway.ready()).ready


async def test_an_item_that_does_not_say_when_it_was_created_is_of_now_and_stays_so() -> None:
    """Else what is written as the README says would never count as new."""
    written: list[Item] = []

    class Writes(Inner):
        async def put_items(self, items: Sequence[Item]) -> Receipt:
            written.extend(items)
            return Receipt(len(items), 0, 3)

    gateway = gateway_over(Writes())
    said, known = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    gateway._catalogue.upsert([Item("known", created_at=known)])
    await gateway.put_items([Item("new"), Item("says", created_at=said), Item("known", title="changed")])
    assert abs((written[0].created_at - datetime.now(UTC)).total_seconds()) < 5
    assert [item.created_at for item in written[1:]] == [said, known]
    gateway._catalogue.upsert(written[:1])
    await gateway.put_items([Item("new")])
    assert written[3] == written[0], "said twice it is the same item"
