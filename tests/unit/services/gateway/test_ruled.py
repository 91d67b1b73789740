"""Business rules on lists: blocked items are not found, pinned ones stand where they should, quotas hold, the rest is order."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import slate
from services.gateway.build import build
from services.gateway.recommender import Gateway
from services.gateway.ruled import seen_by
from services.gateway.settings import Settings
from tests.bundles import make_user
from tests.gateways import ITEMS, Inner, gateway_over
from tests.retrievals import Shop
from tests.wirings import over_grpc
from winnow.decisions import Decision, of_json, to_json
from winnow.errors import Unavailable
from winnow.filters import All, Not, Op, Term
from winnow.filters import Filter as Tree
from winnow.requests import Answer, RecommendRequest, SimilarRequest, TrendingRequest
from winnow.seen import fingerprints
from winnow.types import Context, Person, strings

EVEN = {"field": "categories", "op": "in", "values": ["even"]}
BELOW_5 = {"field": "price", "op": "lt", "number": 5}
EVERY = ["recommend", "similar", "trending"]

Marks = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------------ places and quotas


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 90), groups=st.integers(0, 3), pins=st.integers(0, 4))
@settings(deadline=None)
def test_a_list_keeps_its_items_its_fixed_places_and_what_groups_may_have(
    seed: int, n: int, groups: int, pins: int
) -> None:
    """Groups that share nothing, and more items of none than places: then all can be had."""
    rng = np.random.default_rng(seed)
    group = np.where(rng.random(n) < 0.5, -1, rng.integers(0, max(groups, 1), n))
    marks = np.array([group == one for one in range(groups)], np.bool_).reshape(groups, n)
    least = rng.integers(0, 4, groups)
    most = least + rng.integers(0, 4, groups)
    order = rng.permutation(n)
    places = sorted(rng.choice(n, min(pins, n), replace=False).tolist())
    fixed = dict(zip(places, rng.choice(n, len(places), replace=False).tolist(), strict=True))
    made = slate.placed(order, marks, least, most, fixed)
    assert sorted(made.tolist()) == list(range(n))
    for place, row in fixed.items():
        assert place >= 50 or made[place] == row
    for start in range(0, min(n, 50), 10):
        block = made[start : start + 10]
        pinned = [row for place, row in fixed.items() if start <= place < min(start + 10, 50)]
        behind = made[start + 10 :][~np.isin(made[start + 10 :], [row for place, row in fixed.items() if place < 50])]
        for one in range(groups):
            have, forced = int(marks[one, block].sum()), int(marks[one, pinned].sum())
            if (group[behind] < 0).any() and forced <= most[one]:
                assert have <= most[one], "others were there"
            room = (
                len(block)
                - len(pinned)
                - sum(
                    max(int(least[other]) - int(marks[other, pinned].sum()), 0)
                    for other in range(groups)
                    if other != one
                )
            )
            if marks[one, behind].any() and room >= least[one] - forced:
                assert have >= least[one], "some of it waited behind"


def test_without_quotas_and_pins_the_order_stays_and_what_is_allowed_keeps_it() -> None:
    order, none = np.arange(70)[::-1], np.zeros((0, 70), np.bool_)
    nothing = np.empty(0, np.int64)
    assert slate.placed(order, none, nothing, nothing, {}).tolist() == order.tolist()
    odd = (np.arange(70) % 2 == 1)[None]
    made = slate.placed(order, odd, np.array([0]), np.array([2]), {3: 0})
    assert made[3] == 0
    for parity in (0, 1):
        own = made[(made % 2 == parity) & (made != 0)]
        assert (np.diff(own) < 0).all(), "within a group the order stays"


def test_what_of_a_quota_still_fits_is_kept() -> None:
    order, none = np.arange(40), np.zeros((2, 40), np.bool_)
    marks = none.copy()
    marks[0, 20:30], marks[1, 30:40] = True, True
    for pins, least, have in ((4, (6, 0), (6, 0)), (5, (6, 0), (5, 0)), (5, (3, 3), (3, 2)), (9, (6, 1), (1, 0))):
        fixed = {place: place for place in range(pins)}
        page = slate.placed(order, marks, np.array(least), np.array([10, 10]), fixed)[:10]
        assert tuple(marks[:, page].sum(axis=1)) == have, pins


def test_of_two_pins_beyond_a_short_list_the_first_stands_at_its_end(tmp_path: Path) -> None:
    inner = Inner()
    inner.rows = range(1, 5)
    pins = [{"kind": "pin", "item_id": f"i{6 + n}", "place": place} for n, place in enumerate((4, 40, 50))]
    page = ids(answered(ruled(inner, tmp_path, *pins)))
    assert (len(page), page[3], page[-1]) == (7, "i6", "i7")
    assert sorted(page) == sorted(["i1", "i2", "i3", "i4", "i6", "i7", "i8"])


def test_pages_of_a_list_without_a_ranker_fit_together(tmp_path: Path) -> None:
    boost = {"kind": "boost", "filter": EVEN, "strength": 0.3, "lists": EVERY}
    gateway = ruled(Inner(), tmp_path, boost)

    async def pages(size: int) -> list[str]:
        return [
            one
            for offset in range(0, 20, size)
            for one in ids(await gateway.trending(TrendingRequest(n=size, offset=offset)))
        ]

    assert asyncio.run(pages(20)) == asyncio.run(pages(5)) == asyncio.run(pages(2))


def test_a_group_may_be_wanted_more_than_there_is_of_it() -> None:
    marks: Marks = np.zeros((1, 12), np.bool_)
    marks[0, [10, 11]] = True
    made = slate.placed(np.arange(12), marks, np.array([5]), np.array([10]), {})
    assert made[:10].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]


def test_where_nothing_else_is_left_a_page_is_filled_beyond_what_a_group_may_have() -> None:
    made = slate.placed(np.arange(12), np.ones((1, 12), np.bool_), np.array([0]), np.array([2]), {})
    assert made.tolist() == list(range(12))


# ------------------------------------------------------------------------------------------ through the gateway


def ruled(inner: Inner, tmp_path: Path, *rules: dict[str, Any], **settings: Any) -> Gateway:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": [{"name": f"r{n}", **rule} for n, rule in enumerate(rules)]}))
    return gateway_over(inner, rules_file=str(file), **settings)


def answered(gateway: Gateway, **ask: Any) -> Answer:
    request = RecommendRequest(Person("u"), **{"explain": False, **ask})
    return asyncio.run(gateway.recommend([request]))[0]


def ids(answer: Answer) -> list[str]:
    return [line.item_id for line in answer.items]


def test_a_pinned_item_stands_at_its_place_though_retrieval_did_not_find_it(tmp_path: Path) -> None:
    inner = Inner()
    gateway = ruled(inner, tmp_path, {"kind": "pin", "item_id": "i15", "place": 3})
    answer = answered(gateway, n=5, explain=True)
    assert ids(answer) == ["i10", "i9", "i15", "i8", "i7"]
    assert inner.ranked[0].candidates.item_ids[-1] == "i15", "it is ranked like the others"
    line = answer.items[2]
    assert (line.sources, line.rank, line.predictions is not None) == ((), 3, True)
    assert line.reason is not None
    assert ids(answered(gateway, n=5, offset=2))[0] == "i15", "pages are of one list"


@pytest.mark.parametrize(
    ("why", "ask"),
    [
        ("the request excludes it", {"exclude": ("i15",)}),
        ("the request filters it", {"filter": Term("price", Op.LT, number=15.0)}),
        ("another surface", {"context": Context("cart")}),
        ("a search", {"query": "words"}),
    ],
)
def test_a_pin_does_not_outrank_what_a_request_says(tmp_path: Path, why: str, ask: dict[str, Any]) -> None:
    pin = {"kind": "pin", "item_id": "i15", "place": 1, "surfaces": ["home"]}
    gateway = ruled(Inner(), tmp_path, pin)
    assert ids(answered(gateway, context=Context("home")))[0] == "i15"
    asked = {"context": Context("home"), **ask}
    assert "i15" not in ids(answered(gateway, **asked)), why


def test_what_a_person_has_seen_is_not_pinned_unless_they_ask(tmp_path: Path) -> None:
    gateway = ruled(Inner(), tmp_path, {"kind": "pin", "item_id": "i0", "place": 1})  # everybody has seen i0
    assert "i0" not in ids(answered(gateway))
    assert ids(answered(gateway, include_seen=True))[0] == "i0"


def test_what_is_sold_out_or_blocked_or_unknown_is_not_pinned(tmp_path: Path) -> None:
    pins = [{"kind": "pin", "item_id": one, "place": 1 + n} for n, one in enumerate(("i15", "i13", "nobody made this"))]
    block = {"kind": "block", "filter": {"field": "item_id", "op": "in", "values": ["i13"]}}
    gateway = ruled(Inner(), tmp_path, *pins, block)
    assert ids(answered(gateway))[:2] == ["i15", "i10"]
    gateway._catalogue.upsert([replace(ITEMS[15], available=False)])
    assert ids(answered(gateway))[:2] == ["i10", "i9"]


def test_seen_is_also_what_only_a_fingerprint_remembers() -> None:
    user = make_user("u", ["i1"])
    assert seen_by(user, ["i1", "i2"]) == [True, False]
    tail = np.sort(fingerprints(strings(["i2"])))
    assert seen_by(type(user)(user.person, seen=user.seen, seen_tail=tail), ["i1", "i2"]) == [True, True]
    assert seen_by(user, []) == []


def test_boosts_buries_and_quotas_order_the_page(tmp_path: Path) -> None:
    inner = Inner()
    plain = [f"i{n}" for n in range(10, 0, -1)]
    assert ids(answered(ruled(inner, tmp_path))) == plain
    even, odd = [one for one in plain if int(one[1:]) % 2 == 0], [one for one in plain if int(one[1:]) % 2]
    assert ids(answered(ruled(inner, tmp_path, {"kind": "bury", "filter": EVEN}))) == odd + even
    assert ids(answered(ruled(inner, tmp_path, {"kind": "boost", "filter": EVEN, "strength": 1.5}))) == even + odd
    some = ids(answered(ruled(inner, tmp_path, {"kind": "boost", "filter": BELOW_5, "strength": 0.5})))
    assert some[:5] == ["i10", "i9", "i4", "i8", "i3"], "half of the range of the scores, 4.5, is added"
    quota = ids(answered(ruled(inner, tmp_path, {"kind": "quota", "filter": BELOW_5, "at_most": 1}), n=6))
    assert quota == ["i10", "i9", "i8", "i7", "i6", "i5"]
    inner.rows = range(1, 20)
    floor = ids(answered(ruled(inner, tmp_path, {"kind": "quota", "filter": BELOW_5, "at_least": 3})))
    assert floor == ["i19", "i18", "i17", "i16", "i15", "i14", "i13", "i4", "i3", "i2"]


def test_rules_hold_without_the_ranker_too(tmp_path: Path) -> None:
    inner = Inner()
    inner.trouble["ranking"] = Unavailable("gone")
    rules = [{"kind": "boost", "filter": EVEN, "strength": 2}, {"kind": "pin", "item_id": "i17", "place": 2}]
    page = ids(answered(ruled(inner, tmp_path, *rules)))
    assert page == ["i2", "i17", "i4", "i6", "i8", "i10", "i1", "i3", "i5", "i7"]


def test_what_is_blocked_is_no_answer_to_anything_and_lists_stay_full(tmp_path: Path) -> None:
    shop, inner = Shop.make(tmp_path, n=120), Inner()
    catalogue = shop.catalogue()
    brand = shop.items[5].brand
    file = tmp_path / "rules.json"
    block = {"name": "a", "kind": "block", "filter": {"field": "brand", "op": "in", "values": [brand]}}
    file.write_text(json.dumps({"rules": [block]}))
    blocked = {item.item_id for item in shop.items if item.brand == brand}
    free = next(item for item in shop.items if item.brand != brand)
    with closing(shop.retrieve(catalogue)) as retrieval:

        async def pages(gateway: Gateway) -> list[Answer]:
            deep: Tree = Term("available", Op.IS)
            for _ in range(6):
                deep = Not(deep)  # with `All` as deep as a request may bring
            return [
                *await gateway.recommend(
                    [RecommendRequest(Person("u"), n=90), RecommendRequest(Person("u"), query="war")]
                ),
                await gateway.similar(SimilarRequest((free.item_id,), n=90)),
                await gateway.trending(TrendingRequest(n=90, person=Person("u"))),
                *await gateway.recommend([RecommendRequest(Person("u"), n=90, filter=All((deep,)))]),
            ]

        async def near_and_far() -> list[Answer]:
            async with AsyncExitStack() as stack:
                far = await stack.enter_async_context(over_grpc("retrieval", retrieval))
                found = []
                for where in (retrieval, far):
                    settings = Settings(rules_file=str(file), retrieval_budget_ms=20_000.0)
                    found += await pages(build(settings, catalogue, inner, where, inner, inner))
                return found

        answers = asyncio.run(near_and_far())
    for answer in answers:
        assert answer.skipped == ()
        assert blocked.isdisjoint(ids(answer))
        assert len(answer.items) == 90 or answer in (answers[1], answers[6])
    assert [ids(one) for one in answers[:5]] == [ids(one) for one in answers[5:]]


def test_while_retrieval_is_away_the_blocked_stay_blocked(tmp_path: Path) -> None:
    inner = Inner()
    inner.trouble["retrieval"] = Unavailable("gone")
    gateway = ruled(inner, tmp_path, {"kind": "block", "filter": EVEN})
    assert [int(one[1:]) % 2 for one in ids(answered(gateway))] == [1] * 10
    similar = asyncio.run(gateway.similar(SimilarRequest(("i1",), n=9)))
    assert [int(one[1:]) % 2 for one in ids(similar)] == [1] * 9


def test_similar_and_trending_lists_have_rules_where_these_say_so(tmp_path: Path) -> None:
    inner = Inner()
    pin = {"kind": "pin", "item_id": "i15", "place": 2}
    bury = {"kind": "bury", "filter": EVEN}
    for lists, counts in ((["recommend"], False), (EVERY, True)):
        gateway = ruled(inner, tmp_path, pin | {"lists": lists}, bury | {"lists": lists})
        similar = ids(asyncio.run(gateway.similar(SimilarRequest(("i19",), n=4))))
        assert similar == (["i1", "i15", "i3", "i5"] if counts else ["i0", "i1", "i2", "i3"])
        trending = ids(asyncio.run(gateway.trending(TrendingRequest(n=4))))
        assert trending == (["i19", "i15", "i17", "i13"] if counts else ["i19", "i18", "i17", "i16"])
    assert "i15" not in ids(asyncio.run(gateway.similar(SimilarRequest(("i15",), n=4)))), "not beside itself"


# ------------------------------------------------------------------------------------------ exploration and decisions


def logged(gateway: Gateway, **ask: Any) -> tuple[Answer, Decision]:
    kept: list[Decision] = []
    gateway.decisions.log = kept.append  # type: ignore[method-assign]
    return answered(gateway, **ask), kept[0]


def test_a_decision_says_which_rules_counted_and_how_likely_each_place_was(tmp_path: Path) -> None:
    pin, quota = {"kind": "pin", "item_id": "i15", "place": 1}, {"kind": "quota", "filter": EVEN, "at_least": 5}
    gateway = ruled(Inner(), tmp_path, pin, quota, explore=0.4, explore_pool=3)
    answer, decision = logged(gateway)
    assert decision.rules == gateway.rules.rules.version != ""
    assert decision.propensities[0] == 1.0, "what is pinned is no matter of chance"
    assert {round(float(one), 4) for one in decision.propensities[1:]} <= {
        round(0.4 / m + best, 4) for m in (1, 2, 3) for best in (0.0, 0.6)
    }
    assert decision.arranged == {"explore": 0.4, "explore_pool": 3.0}
    back = of_json(to_json(decision))
    assert (back.rules, back.propensities.tolist()) == (decision.rules, decision.propensities.tolist())
    assert ids(answer)[0] == "i15"


def test_exploring_lists_keep_their_rules_and_their_pages(tmp_path: Path) -> None:
    inner = Inner()
    inner.rows = range(1, 20)
    rules = [
        {"kind": "pin", "item_id": "i15", "place": 4},
        {"kind": "quota", "filter": EVEN, "at_least": 4, "at_most": 6},
        {"kind": "bury", "filter": {"field": "item_id", "op": "in", "values": ["i18", "i17"]}},
    ]
    gateway, plain = ruled(inner, tmp_path, *rules, explore=0.5), ruled(inner, tmp_path, *rules)
    still = ids(answered(plain, n=19))
    moved = 0
    for person in map(Person, map(str, range(60))):
        whole, first, second = (
            ids(asyncio.run(gateway.recommend([RecommendRequest(person, n=n, offset=offset, explain=False)]))[0])
            for n, offset in ((19, 0), (7, 0), (12, 7))
        )
        assert whole == first + second
        assert whole[3] == "i15"
        assert set(whole[-2:]) == {"i18", "i17"}
        assert 4 <= sum(int(one[1:]) % 2 == 0 for one in whole[:10]) <= 6
        moved += whole != still
    assert moved > 50


def test_a_search_is_not_explored_and_off_nothing_is(tmp_path: Path) -> None:
    for gateway, ask in ((ruled(Inner(), tmp_path, explore=0.5), {"query": "words"}), (ruled(Inner(), tmp_path), {})):
        _, decision = logged(gateway, **ask)
        assert decision.propensities.tolist() == [1.0] * 10
        assert (decision.rules, decision.arranged) == ("", {})
